"""Tells the control plane which workloads run on this host and how they are.

Every stream begins with all of them, so a control plane learns everything, and forgets what is gone; afterwards only
what changed is sent, and an empty request renews the leases. While the control plane is away, what changed waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

import grpc
import grpc.aio

from gossamer import __version__
from gossamer.core.latest import Latest
from gossamer.rpc import calls
from gossamer.rpc import gossamer_pb2 as rpc

_LOG = logging.getLogger(__name__)
BEAT_S = 5.0
BACKOFF_S = (0.1, 3.0)
Key = tuple[str, str]


class Registration:
    """The workloads of this host as the control plane should know them: `put` and `remove`; `serve` keeps it told."""

    def __init__(self, channel: Callable[[], grpc.aio.Channel], jitter: Callable[[], float]) -> None:
        """`channel` opens a channel by the host's certificate; `jitter` gives a number in [0, 1)."""
        self._channel = channel
        self.rejected: Callable[[Key, str], None] = lambda _, __: None
        """Called with what the control plane does not take, and why."""
        self.started: Callable[[rpc.Start], None] = lambda _: None
        """Called with how the control plane wants the Envoy of a workload that it was told of to be started."""
        self._jitter = jitter
        self.services: Latest[tuple[str, ...]] = Latest(())
        """The mesh's services (`hostname:port`) that do not speak HTTP, as the control plane last said."""
        self.web_services: Latest[tuple[str, ...]] = Latest(())
        """Those that do, which a host is told of that has a workload in explicit capture."""
        self.watch_endpoints: Latest[bool] = Latest(False)
        """Whether the control plane wants to know which endpoints our Envoys leave out."""
        self.problem = ""
        """Why the control plane is not told now; empty while it is."""
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

    def repeat(self, key: Key) -> None:
        """Say again what is known of a workload, for the answer: how its Envoy is to be started by now."""
        if key in self._workloads:
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
                    delay = await self._stream(channel, delay)
            except grpc.aio.AioRpcError as error:
                self._explain(f"{error.code().name}: {error.details()}")
            await asyncio.sleep(delay * (0.5 + self._jitter()))
            delay = min(delay * 2, BACKOFF_S[1])

    async def _stream(self, channel: grpc.aio.Channel, delay: float) -> float:
        """One stream, until it ends; returns how long to wait before the next."""
        call = calls.REGISTER.call(channel)()
        writing = asyncio.create_task(self._write(call))
        try:
            while isinstance(response := await call.read(), rpc.RegisterResponse):
                delay = BACKOFF_S[0]
                self._explain("")
                if response.services:
                    self.services.publish(tuple(response.services))
                if response.web_services:
                    self.web_services.publish(tuple(response.web_services))
                self.watch_endpoints.publish(response.watch_endpoints)
                for start in response.starts:
                    self.started(start)
                self._answered = response.sequence
                self._said.set()
                for rejection in response.rejected:
                    self.rejected((rejection.workload.namespace, rejection.workload.name), rejection.reason)
        finally:
            # the writer ends with its stream: what it has not said yet is the next one's to say
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
        return delay

    async def _write(self, call: grpc.aio.StreamStreamCall[rpc.RegisterRequest, rpc.RegisterResponse]) -> None:
        self._wake.clear()
        self._unsaid.clear()
        self._sequence, self._answered = 1, 0
        await call.write(self._request(list(self._workloads.values()), []))
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BEAT_S):
                    await self._wake.wait()
            self._wake.clear()
            changed, self._unsaid = self._unsaid, set()
            self._sequence += 1
            await call.write(
                self._request(
                    [self._workloads[key] for key in sorted(changed) if key in self._workloads],
                    [key for key in sorted(changed) if key not in self._workloads],
                )
            )

    def _explain(self, problem: str) -> None:
        if problem and problem != self.problem:
            _LOG.warning("registry-away", extra={"reason": problem})
        self.problem = problem

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
