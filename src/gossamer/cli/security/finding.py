"""What a control's judge says, and how findings about many workloads are put in few words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from gossamer.cli import words


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """`holds` is None where it cannot be told. `evidence` are sentences, the telling ones first."""

    holds: bool | None
    evidence: tuple[str, ...]


SHOWN = 8
"""Sentences of a kind before the rest are only counted."""


def some(texts: Iterable[str]) -> list[str]:
    """The first of them, each once, and how many more there are."""
    return list(words.some(tuple(dict.fromkeys(texts)), SHOWN))


def finding(problems: Iterable[str], evidence: Iterable[str], *, nobody: bool = False) -> Finding:
    """It holds if there is no problem; where `nobody` is there to whom it could apply, that is not known."""
    told = some(problems)
    if nobody:
        return Finding(holds=None, evidence=("no workload is registered",))
    return Finding(holds=not told, evidence=(*told, *evidence))


def counted(words: Iterable[str]) -> str:
    """`STRICT (7), PERMISSIVE (1)`."""
    return ", ".join(f"{word} ({count})" for word, count in Counter(words).most_common())
