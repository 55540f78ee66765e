"""Numbers and lists as a person reads them."""

from __future__ import annotations

from collections.abc import Sequence


def some(texts: Sequence[str], most: int) -> tuple[str, ...]:
    """The first of them, and how many more there are."""
    left = len(texts) - most
    return (*texts[:most], f"and {left} more") if left > 0 else tuple(texts)


def rounded(seconds: float) -> str:
    """`12s`, `3m`, `5h`, `2d`: rounded down to what people say."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(int(seconds), 0)}s"
