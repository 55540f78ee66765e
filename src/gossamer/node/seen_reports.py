"""Hands over to the control plane what this host's sidecars have seen.

Invariant: what is handed over is counted once. A request is sent again, word for word, until it is answered, and
carries a number by which the control plane knows it; meanwhile the tables gather what comes, within their bounds.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

import grpc
import grpc.aio

from gossamer.core.errors import EnvoyError, UnavailableError
from gossamer.node.envoy_admin import Admin
from gossamer.node.identity_client import KeptChannel
from gossamer.rpc import calls
from gossamer.rpc import gossamer_pb2 as rpc
from gossamer.sources.seen import Observed, Row

EVERY_S: Final = 2.0
SILENT: Final = 5
"""Turns after which a sidecar that saw nothing says so, that it may be told from one that is not there."""
_PART: Final = 2000
"""Rows in a request."""
_CALL_S: Final = 5.0
_LAST_S: Final = 1.0
_UNKNOWN_S: Final = 60.0
"""How long a control plane that knows nothing of this is left alone."""
_WRITTEN: Final = r"^access_logs\.grpc_access_log\.(grpc_entries_flushed|grpc_entries_flush_failed|logs_dropped)$"


class Source(NamedTuple):
    """One sidecar: its table, and its Envoy (`life` tells one run of it from the next)."""

    key: tuple[str, str]
    observed: Observed
    admin: Admin
    life: str


class SeenReports:
    """Asks `sources` every two seconds; `serve` runs until cancelled."""

    def __init__(self, agent: str, sources: Callable[[], Iterable[Source]], plane: KeptChannel) -> None:
        """`agent` names one life of this agent."""
        self._agent = agent
        self._sources = sources
        self._plane = plane
        self._one = asyncio.Lock()
        """What waits is handed over by one at a time."""
        self._waiting: deque[rpc.ObserveRequest] = deque()
        self._sequence = 0
        self._turn = 0
        self._written: dict[tuple[str, str], tuple[str, int]] = {}
        """What each Envoy had written a turn ago: all of that has arrived by now, or never will."""

    async def serve(self) -> None:
        pause = EVERY_S
        try:
            while True:
                await asyncio.sleep(pause)
                pause = await self.report()
                await self._count()
        finally:
            await self._plane.close()

    async def last(self) -> None:
        """What is left when the sidecars have ended; a control plane that is away has had its time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_S):
                await self.report()

    async def report(self) -> float:
        """Hand over what there is; returns after how many seconds to do so again."""
        async with self._one:
            return await self._hand_over()

    async def _hand_over(self) -> float:
        if not self._waiting:
            self._gather()
        if not self._waiting:
            return EVERY_S
        try:
            channel = await self._plane.channel()
            while self._waiting:
                await calls.OBSERVE.call(channel)(self._waiting[0], timeout=_CALL_S)
                self._waiting.popleft()
        except grpc.aio.AioRpcError as error:
            return _UNKNOWN_S if error.code() is grpc.StatusCode.UNIMPLEMENTED else EVERY_S
        return EVERY_S

    def _gather(self) -> None:
        self._turn += 1
        seen: list[rpc.SeenBy] = []
        for source in self._sources():
            rows, taken, unrecorded = source.observed.take()
            if not taken and self._turn % SILENT != 1:
                continue
            life, written = self._written.get(source.key, ("", 0))
            for part in _parts(rows):
                seen.append(
                    rpc.SeenBy(
                        workload=rpc.WorkloadKey(namespace=source.key[0], name=source.key[1]),
                        rows=[_message(row) for row in part],
                        taken=taken,
                        unrecorded=unrecorded,
                        envoy=life,
                        written=written,
                    )
                )
                taken = unrecorded = 0
        for group in _requests(seen):
            self._sequence += 1
            self._waiting.append(rpc.ObserveRequest(agent=self._agent, sequence=self._sequence, seen=group))

    async def _count(self) -> None:
        """Ask Envoys how many entries they have written; less often the more there are."""
        if self._turn % SILENT:
            return
        for source in tuple(self._sources()):
            with contextlib.suppress(UnavailableError, EnvoyError):
                counters = await source.admin.stats(_WRITTEN)
                self._written[source.key] = (source.life, sum(counters.values()))


def _parts(rows: list[Row]) -> Iterator[list[Row]]:
    """The rows by at most _PART; one empty part for none."""
    for start in range(0, max(len(rows), 1), _PART):
        yield rows[start : start + _PART]


def _requests(seen: list[rpc.SeenBy]) -> Iterator[list[rpc.SeenBy]]:
    """What fits into one request each."""
    group: list[rpc.SeenBy] = []
    size = 0
    for one in seen:
        if group and size + len(one.rows) > _PART:
            yield group
            group, size = [], 0
        group.append(one)
        size += len(one.rows) + 1
    if group:
        yield group


def _message(row: Row) -> rpc.SeenRow:
    group = row.group
    return rpc.SeenRow(
        caller=group.caller,
        port=group.port,
        protocol=group.protocol,
        method=group.method,
        path=row.path,
        verdict=group.verdict,
        decided_by=group.by,
        would=group.would,
        count=row.tally.count,
        first=row.tally.first,
        last=row.tally.last,
    )
