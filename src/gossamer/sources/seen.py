"""What came in at a sidecar, as a bounded table: who asked what of whom, and what was decided about it.

An agent keeps one for each of its sidecars (`Observed`) and hands over what was added since (`take`); the control plane
adds that to its own (`Record`, in `plane`). Pure state machines; times are seconds since 1970. Invariant: whatever
callers send, a table holds a bounded number of rows, and what finds no place is counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from gossamer.sources.path_classes import PathClasses

GROUPS: Final = 1024
ROWS: Final = 4096
PATHS: Final = 64
"""Paths by themselves for each caller, port and method."""
DENIED_PATHS: Final = 8
"""Of what was denied nothing is learnt, so that a scanner fills no table."""
ADDRESSES: Final = 64
"""Callers without an identity that are told apart by their address."""
OTHERS: Final = "others"
PLAINTEXT: Final = "plaintext:"
"""What a caller without an identity is called by, before its address."""
ANONYMOUS: Final = "tls:"
"""The same for TLS that shows no SPIFFE identity."""
OUTSIDE: Final = "outside"
"""Whoever calls a gateway without an identity."""


class Verdict(StrEnum):
    ALLOWED = "allowed"
    DENIED = "denied"
    REFUSED = "refused"
    """No filter chain took the connection: plaintext to a port that wants mutual TLS."""
    UNROUTED = "unrouted"
    """Policy let it in, and there was no route for it: nobody needs it."""


class Group(NamedTuple):
    """What rows of different paths have in common. `caller` is a SPIFFE identity, or says that there was none; `port`
    is the workload's; `by` is what decided, as the access log names it; `would` is what a dry run says otherwise:
    `deny:` or `allow:` and the policy (`none`: no ALLOW of a dry run matches)."""

    caller: str
    port: int
    protocol: str
    method: str
    verdict: str
    by: str
    would: str

    @property
    def bound(self) -> int:
        return PATHS if self.verdict == Verdict.ALLOWED else DENIED_PATHS


@dataclass(slots=True)
class Tally:
    """How often, and from when to when."""

    count: int
    first: float
    last: float

    def add(self, other: Tally) -> None:
        self.count += other.count
        self.first = min(self.first, other.first)
        self.last = max(self.last, other.last)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of a table."""

    group: Group
    path: str
    tally: Tally


@dataclass(slots=True)
class Observed:
    """What one sidecar has seen and its agent has not handed over yet; classes of paths outlast that."""

    taken: int = 0
    """Entries since the last `take`."""
    unrecorded: int = 0
    """Those of them that found no place."""
    _classes: dict[Group, PathClasses] = field(default_factory=dict)
    _rows: dict[tuple[Group, str], Tally] = field(default_factory=dict)
    _addresses: set[str] = field(default_factory=set)

    def add(self, group: Group, path: str, at: float, *, lasts: bool = False) -> None:
        """Take note of one request, or of a connection: of one that `lasts`, it is counted when it is first told of."""
        self.taken += 1
        if not lasts and (known := self._rows.get((group, path))) is not None:
            known.add(Tally(1, at, at))
            return
        group = group._replace(caller=self._bounded(group.caller))
        classes = self._classes.pop(group, None)
        if classes is None:
            if len(self._classes) >= GROUPS:
                self._classes.pop(next(iter(self._classes)))  # the one that was asked for longest ago
            classes = PathClasses(group.bound)
        self._classes[group] = classes
        key = (group, classes.take(path))
        if (tally := self._rows.get(key)) is not None:
            tally.count += not lasts
            tally.first = min(tally.first, at)  # what began first may be told last
            tally.last = max(tally.last, at)
        elif len(self._rows) < ROWS:
            self._rows[key] = Tally(0 if lasts else 1, at, at)
        else:
            self.unrecorded += 1

    def _bounded(self, caller: str) -> str:
        kind, colon, address = caller.partition(":")
        if not colon or not address or f"{kind}:" not in (PLAINTEXT, ANONYMOUS) or caller in self._addresses:
            return caller
        if len(self._addresses) >= ADDRESSES:
            return f"{kind}:{OTHERS}"
        self._addresses.add(caller)
        return caller

    def take(self) -> tuple[list[Row], int, int]:
        """The rows since the last time, how many entries they are made of, and how many found no place."""
        found: dict[tuple[Group, str], Tally] = {}
        for (group, path), tally in self._rows.items():
            classes = self._classes.get(group)
            key = (group, (classes.find(path) if classes else None) or path)
            if (known := found.get(key)) is None:
                found[key] = tally
            else:
                known.add(tally)
        numbers = self.taken, self.unrecorded
        self._rows, self.taken, self.unrecorded = {}, 0, 0
        return [Row(group=group, path=path, tally=tally) for (group, path), tally in found.items()], *numbers


@dataclass(slots=True)
class SeenTable:
    """All rows of one workload, over the lives of its sidecars."""

    unrecorded: int = 0
    _paths: dict[Group, tuple[PathClasses, dict[str, Tally]]] = field(default_factory=dict)
    _size: int = 0

    def __len__(self) -> int:
        return self._size

    def add(self, row: Row) -> None:
        """Add what was seen since."""
        if (known := self._paths.get(row.group)) is None:
            if len(self._paths) >= GROUPS:
                self.unrecorded += row.tally.count
                return
            known = self._paths[row.group] = (PathClasses(row.group.bound), {})
        classes, tallies = known
        before, size = len(classes), len(tallies)
        path = classes.take(row.path)
        if (tally := tallies.get(path)) is not None:
            tally.add(row.tally)
        elif self._size >= ROWS:
            self.unrecorded += row.tally.count
        else:
            if len(classes) <= before:  # classes were joined
                tallies = _joined(classes, tallies)
            tallies[path] = _sum(tallies.get(path), row.tally)
            self._paths[row.group] = (classes, tallies)
        self._size += len(tallies) - size

    def rows(self) -> Iterator[Row]:
        """The rows in the order of their groups' first appearance."""
        for group, (_, tallies) in self._paths.items():
            for path in sorted(tallies):
                yield Row(group=group, path=path, tally=tallies[path])

    def forget(self, before: float) -> None:
        """Leave out what was last seen before this time."""
        rows = [row for row in self.rows() if row.tally.last >= before]
        self._paths, self._size = {}, 0
        for row in rows:
            self.add(row)


def _joined(classes: PathClasses, tallies: dict[str, Tally]) -> dict[str, Tally]:
    found: dict[str, Tally] = {}
    for path, tally in tallies.items():
        now = classes.find(path) or path
        found[now] = _sum(found.get(now), tally)
    return found


def _sum(one: Tally | None, other: Tally) -> Tally:
    if one is None:
        return Tally(other.count, other.first, other.last)
    one.add(other)
    return one
