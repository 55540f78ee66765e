"""Paths of requests, each by itself as long as they are few, then by a common beginning.

Paths are chosen by callers, so there may be any number of them. Invariant: a set holds at most its bound of classes; a
path belongs to exactly one, and a class only ever grows: `/a/1` and `/a/2` may become `/a/*`, never the reverse. The
spelling is that of AuthorizationPolicy, so a class can stand in a policy as it is.
"""

from __future__ import annotations

from typing import Final

UNSPELT: Final = "?"
"""The class of paths that a policy cannot spell: its patterns give `*`, `{` and `}` a meaning."""
_LONGEST: Final = 200
_CROWD: Final = 8
"""So many siblings have to share a beginning before it stands for them, unless there is no other way."""


class PathClasses:
    """The classes of one set of paths."""

    __slots__ = ("_bound", "_classes")

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._classes: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._classes)

    def take(self, wanted: str) -> str:
        """The class of a path as `spelt` has it, or of another set's class; a new one if it needs to be."""
        if (found := self.find(wanted)) is not None:
            return found
        if wanted.endswith("/*"):
            self._absorb(wanted)
        self._classes[wanted] = None
        while len(self._classes) > self._bound:
            self._absorb(self._crowded())
        return self.find(wanted) or wanted

    def find(self, wanted: str) -> str | None:
        """The class that a path, or a class of former times, belongs to now; None for a new one."""
        if wanted in self._classes:
            return wanted
        part = wanted.removesuffix("/*")
        while "/" in part:
            part = part.rpartition("/")[0]
            if (found := f"{part}/*") in self._classes:
                return found
        return None

    def _absorb(self, found: str) -> None:
        """Have a class that ends in `/*` stand for all that begins like it."""
        start = found[:-1]
        self._classes = {one: None for one in self._classes if not one.startswith(start)}
        self._classes[found] = None

    def _crowded(self) -> str:
        """The longest beginning that many classes share."""
        counts: dict[str, int] = {}
        for one in self._classes:
            part = one.removesuffix("/*")
            while "/" in part:
                part = part.rpartition("/")[0]
                counts[f"{part}/*"] = counts.get(f"{part}/*", 0) + 1
        crowds = [found for found, count in counts.items() if count >= min(_CROWD, self._bound)]
        return max(crowds, key=lambda found: (found.count("/"), counts[found], found), default="/*")


def spelt(path: str) -> str:
    """A request's path as it is kept: without query, cut where it is too long, UNSPELT if no policy could say it. A
    caller who sends `/*` has named no class."""
    text = path.partition("?")[0].partition("#")[0]
    if not text:
        return ""
    if not text.startswith("/") or not text.isprintable() or any(sign in text for sign in "*{}"):
        return UNSPELT
    if len(text) <= _LONGEST:
        return text
    beginning = text[:_LONGEST].rpartition("/")[0]
    return f"{beginning}/*" if beginning else UNSPELT


def is_class(text: str) -> bool:
    """Whether it is one that `take` gives."""
    return text == UNSPELT or text.endswith("/*") or spelt(text) == text
