"""What all sidecars of the mesh have seen, over their lives and this control plane's.

Invariant: what an agent hands over is added once, also when an answer was lost; what Envoys wrote and no agent handed
over is a number, never silence. It is for people, and decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gossamer.rpc import gossamer_pb2 as rpc
from gossamer.sources.path_classes import is_class
from gossamer.sources.seen import Group, Row, SeenTable, Tally, Verdict

KEEP_S: Final = 30 * 86_400.0
"""How long what was seen counts."""
WORKLOADS: Final = 10_000
TOTAL: Final = 100_000
"""Rows over all workloads."""
REPORTING_S: Final = 60.0
_LONG: Final = 512
Key = tuple[str, str]


@dataclass(slots=True)
class Life:
    """One life of an Envoy: what it says that it wrote, and what of that arrived here."""

    name: str = ""
    written: int = 0
    taken: int = 0

    @property
    def missed(self) -> int:
        return max(0, self.written - self.taken)


@dataclass(slots=True)
class Record:
    """What the sidecars of one workload have seen. `labels` are the workload's when it last said so."""

    since: float
    reported: float
    host: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    gateway: bool = False
    taken: int = 0
    lost: int = 0
    """Entries of former lives of its Envoy that never arrived."""
    life: Life = field(default_factory=Life)
    table: SeenTable = field(default_factory=SeenTable)

    @property
    def missed(self) -> int:
        return self.lost + self.life.missed

    def count(self, seen: rpc.SeenBy) -> None:
        """Compare what its Envoy wrote with what arrived."""
        if seen.envoy and (seen.envoy != self.life.name or seen.written < self.life.written):
            self.lost += self.life.missed
            # its name comes a little later than what it tells: what arrived beyond the old one's word is of the new one
            self.life = Life(seen.envoy, 0, max(0, self.life.taken - self.life.written))
        self.life.taken += seen.taken
        self.life.written = max(self.life.written, seen.written if seen.envoy else 0)
        self.taken += seen.taken
        self.table.unrecorded += seen.unrecorded


@dataclass(slots=True)
class SeenStore:
    """The records of all workloads. `changed` tells whether there is something to keep."""

    records: dict[Key, Record] = field(default_factory=dict)
    changed: bool = False
    _answered: dict[str, tuple[str, int]] = field(default_factory=dict)
    _size: int = 0

    def take(
        self,
        host: str,
        request: rpc.ObserveRequest,
        now: float,
        owned: Callable[[str, str], tuple[Mapping[str, str], bool] | None],
    ) -> None:
        """Add what a host's agent says, once. `owned`: labels of a workload, and whether it is a gateway; None if it
        does not run there. The last word on one that has ended is taken too."""
        agent, sequence = self._answered.get(host, ("", 0))
        if agent == request.agent and request.sequence <= sequence:
            return
        self._answered[host] = (request.agent, request.sequence)
        for seen in request.seen:
            key = (seen.workload.namespace, seen.workload.name)
            known = owned(*key)
            record = self._record(key, now) if known is not None else self.records.get(key)
            if record is not None and (known is not None or record.host == host):
                if known is not None:
                    record.host, record.labels, record.gateway = host, *known
                record.reported = now
                record.count(seen)
                self._add(record, seen.rows, now)
        self.changed = True

    def _record(self, key: Key, now: float) -> Record | None:
        if key not in self.records and len(self.records) >= WORKLOADS:
            return None
        return self.records.setdefault(key, Record(since=now, reported=now))

    def _add(self, record: Record, rows: Iterable[rpc.SeenRow], now: float) -> None:
        for row in rows:
            if not _sound(row) or self._size >= TOTAL:
                record.table.unrecorded += row.count
                continue
            before = len(record.table)
            record.table.add(_row(row, now))
            self._size += len(record.table) - before

    def forget(self, now: float) -> None:
        """Leave out what is too long ago."""
        for key, record in list(self.records.items()):
            if record.reported < now - KEEP_S:
                del self.records[key]
            else:
                record.table.forget(now - KEEP_S)
        self._size = sum(len(record.table) for record in self.records.values())

    def save(self) -> Any:
        """All of it as JSON."""
        return {
            "answered": {host: list(pair) for host, pair in self._answered.items()},
            "workloads": [
                {
                    "key": list(key),
                    "since": record.since,
                    "reported": record.reported,
                    "host": record.host,
                    "labels": dict(record.labels),
                    "gateway": record.gateway,
                    "taken": record.taken,
                    "lost": record.lost,
                    "life": [record.life.name, record.life.written, record.life.taken],
                    "unrecorded": record.table.unrecorded,
                    "rows": rows_of(record.table),
                }
                for key, record in self.records.items()
            ],
        }

    @classmethod
    def restore(cls, saved: Any) -> SeenStore:
        """What `save` gave."""
        store = cls(_answered={host: (pair[0], pair[1]) for host, pair in saved["answered"].items()})
        for one in saved["workloads"]:
            record = Record(
                since=one["since"],
                reported=one["reported"],
                host=one["host"],
                labels=one["labels"],
                gateway=one["gateway"],
                taken=one["taken"],
                lost=one["lost"],
                life=Life(*one["life"]),
            )
            for *group, path, count, first, last in one["rows"]:
                record.table.add(Row(group=Group(*group), path=path, tally=Tally(count, first, last)))
            record.table.unrecorded = one["unrecorded"]
            store.records[one["key"][0], one["key"][1]] = record
        store._size = sum(len(record.table) for record in store.records.values())
        return store


def rows_of(table: SeenTable) -> list[list[Any]]:
    """Each row as a list: the group's parts, path, count, first and last time."""
    return [[*row.group, row.path, row.tally.count, row.tally.first, row.tally.last] for row in table.rows()]


def _sound(row: rpc.SeenRow) -> bool:
    """Whether it is fit to be shown and to be written into a policy: a host may say whatever it likes."""
    texts = (row.caller, row.protocol, row.method, row.path, row.decided_by, row.would)
    return (
        all(len(text) <= _LONG and text.isprintable() for text in texts)
        and row.verdict in tuple(Verdict)
        and row.port < 65536
        and is_class(row.path)
    )


def _row(row: rpc.SeenRow, now: float) -> Row:
    group = Group(row.caller, row.port, row.protocol, row.method, row.verdict, row.decided_by, row.would)
    last = min(row.last, now)  # a host's clock may be ahead
    return Row(group=group, path=row.path, tally=Tally(row.count, min(row.first, last), last))
