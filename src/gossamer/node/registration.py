"""Tells the control plane which workloads run on this host and how they are.

Every stream begins with all of them, so a control plane that lost its memory learns everything; afterwards only what
changed is sent, and an empty request renews the leases. While the control plane is away, what changed waits.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import grpc
import grpc.aio

from gossamer import __version__
from gossamer.core.latest import Latest
from gossamer.rpc import calls
from gossamer.rpc import gossamer_pb2 as rpc

BEAT_S = 5.0
BACKOFF_S = (0.1, 3.0)
Key = tuple[str, str]


class Registration:
    """The workloads of this host as the control plane should know them: `put` and `remove`; `serve` keeps it told."""

    def __init__(
        self,
        channel: Callable[[], grpc.aio.Channel],
        rejected: Callable[[Key, str], None],
        jitter: Callable[[], float],
    ) -> None:
        """`channel` opens a channel by the host's certificate; `jitter` gives a number in [0, 1)."""
        self._channel = channel
        self._rejected = rejected
        self._jitter = jitter
        self.services: Latest[tuple[str, ...]] = Latest(())
        """The mesh's services (`hostname:port`), as the control plane last said."""
        self._workloads: dict[Key, rpc.Workload] = {}
        self._unsaid: set[Key] = set()
        self._wake = asyncio.Event()
        self._said = asyncio.Event()
        self._sequence = 0
        self._answered = 0

    def put(self, workload: rpc.Workload) -> None:
        """Make this the word on a workload; the same word again is not repeated."""
        key = (workload.namespace, workload.name)
        if self._workloads.get(key) == workload:
            return
        self._workloads[key] = workload
        self._note(key)

    def remove(self, key: Key) -> None:
        if self._workloads.pop(key, None) is not None:
            self._note(key)

    async def told(self, timeout_s: float) -> bool:
        """Wait until the control plane has answered everything said so far; False when it did not in time."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._unsaid or self._answered < self._sequence:
                    self._said.clear()
                    await self._said.wait()
        except TimeoutError:
            return False
        return True

    async def serve(self) -> None:
        """Run until cancelled."""
        delay = BACKOFF_S[0]
        while True:
            try:
                async with self._channel() as channel:
                    async for response in calls.REGISTER.call(channel)(self._requests()):
                        delay = BACKOFF_S[0]
                        if response.services:
                            self.services.publish(tuple(response.services))
                        self._answered = response.sequence
                        self._said.set()
                        for rejection in response.rejected:
                            self._rejected((rejection.workload.namespace, rejection.workload.name), rejection.reason)
            except grpc.aio.AioRpcError:
                pass  # away or restarting: everything is said again on the next stream
            await asyncio.sleep(delay * (0.5 + self._jitter()))
            delay = min(delay * 2, BACKOFF_S[1])

    async def _requests(self) -> AsyncIterator[rpc.RegisterRequest]:
        self._unsaid.clear()
        self._sequence, self._answered = 1, 0
        yield self._request(list(self._workloads.values()), [])
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), BEAT_S)
            self._wake.clear()
            changed, self._unsaid = self._unsaid, set()
            self._sequence += 1
            yield self._request(
                [self._workloads[key] for key in sorted(changed) if key in self._workloads],
                [key for key in sorted(changed) if key not in self._workloads],
            )

    def _request(self, workloads: list[rpc.Workload], removed: list[Key]) -> rpc.RegisterRequest:
        return rpc.RegisterRequest(
            sequence=self._sequence,
            workloads=workloads,
            removed=[rpc.WorkloadKey(namespace=namespace, name=name) for namespace, name in removed],
            agent_version=__version__,
        )

    def _note(self, key: Key) -> None:
        self._unsaid.add(key)
        self._wake.set()
