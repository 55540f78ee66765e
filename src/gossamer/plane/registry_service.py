"""The Registry over gRPC: agents say which workloads run on their hosts.

A host speaks by its own certificate and may register only what its grant names; a stream that breaks ends no lease.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

import grpc

from gossamer import __version__
from gossamer.ca.sessions import Session
from gossamer.core.frozen import FrozenMap
from gossamer.model.groups import Groups
from gossamer.model.proxy import Proxy, ProxyType
from gossamer.plane.group_service import describe_group
from gossamer.plane.seen import SeenStore
from gossamer.rpc import calls
from gossamer.rpc import gossamer_pb2 as rpc
from gossamer.rpc.calls import Context
from gossamer.sources.ejections import Ejections
from gossamer.sources.registry import LEASE_S, Registration, Registry

Granted = Callable[[str, str], str]
"""Why a host may not speak for (namespace, service account); empty if it may."""
Authenticate = Callable[[Context], tuple[str, Granted] | None]
"""The host behind a call and what it may do; None for any other peer."""


class RegistryService:
    """Answers what agents say. `changed` is called when the snapshot of `registry` was replaced."""

    def __init__(
        self,
        registry: Registry,
        authenticate: Authenticate,
        changed: Callable[[], None],
        services: Callable[[], Iterable[str]],
        start: Callable[[Proxy], rpc.Start | None],
    ) -> None:
        self._registry = registry
        self._authenticate = authenticate
        self._changed = changed
        self._services = services
        self._start = start
        self.ejections = Ejections()
        """What agents report of their Envoys' own judgement."""
        self.web_services: Callable[[], Iterable[str]] = tuple
        """The services that speak HTTP, for hosts that capture explicitly."""
        self.seen = SeenStore()
        """What sidecars have seen."""
        self.groups: Callable[[], Groups] = FrozenMap
        self.revoked: Callable[[str, str], str] = lambda _, __: ""
        """Why a workload (namespace, name) is not taken by anybody; empty if it is."""
        self.session: Callable[[Context], AbstractContextManager[Session]] = _endless
        """What ends the call of a host."""
        self.watches: Callable[[], bool] = lambda: False
        """Whether there may be anything to report."""

    def handler(self) -> grpc.GenericRpcHandler:
        return calls.service(
            "Registry",
            {
                calls.REGISTER: calls.REGISTER.serve(self._register),
                calls.DEREGISTER: calls.DEREGISTER.serve(self._deregister),
                calls.REPORT: calls.REPORT.serve(self._report),
                calls.OBSERVE: calls.OBSERVE.serve(self._observe),
                calls.DESCRIBE_GROUP: calls.DESCRIBE_GROUP.serve(self._describe_group),
            },
        )

    async def _register(
        self, requests: AsyncIterable[rpc.RegisterRequest], context: Context
    ) -> AsyncIterator[rpc.RegisterResponse]:
        await self._peer(context)
        told: tuple[str, ...] = ()
        web_told: tuple[str, ...] = ()
        explicit = False
        with self.session(context) as session:
            async for request in session.requests(requests):
                host, granted = await self._peer(context)  # again: a host may have been revoked meanwhile
                known, told = told, tuple(self._services())
                explicit = explicit or any(_is_explicit(one) for one in request.workloads)
                web_known, web_told = web_told, tuple(self.web_services()) if explicit else ()
                rejected = self._take(host, granted, request)
                yield rpc.RegisterResponse(
                    sequence=request.sequence,
                    lease_seconds=int(LEASE_S),
                    rejected=rejected,
                    starts=self._starts(host, request),
                    control_plane_version=__version__,
                    services=told if told != known else (),
                    web_services=web_told if web_told != web_known else (),
                    watch_endpoints=self.watches(),
                )
        if session.ended:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, session.ended)

    async def _deregister(self, request: rpc.DeregisterRequest, context: Context) -> rpc.DeregisterResponse:
        host, _ = await self._peer(context)
        self._change(lambda now: self._registry.remove(host, _keys(request.workloads), now))
        return rpc.DeregisterResponse()

    async def _report(self, request: rpc.ReportRequest, context: Context) -> rpc.ReportResponse:
        host, _ = await self._peer(context)
        now = time.monotonic()
        self.ejections.report(
            host, request.observations, now, lambda namespace, name: self._registry.owner(namespace, name, now) == host
        )
        return rpc.ReportResponse()

    async def _observe(self, request: rpc.ObserveRequest, context: Context) -> rpc.ObserveResponse:
        host, _ = await self._peer(context)

        def owned(namespace: str, name: str) -> tuple[Mapping[str, str], bool] | None:
            entry = self._registry.snapshot.get((namespace, name))
            if entry is None or entry.host != host:
                return None
            return entry.proxy.labels, entry.proxy.type is ProxyType.ROUTER

        self.seen.take(host, request, time.time(), owned)
        return rpc.ObserveResponse()

    async def _describe_group(self, request: rpc.DescribeGroupRequest, context: Context) -> rpc.DescribeGroupResponse:
        _, granted = await self._peer(context)
        return describe_group(self.groups(), granted, request)

    async def _peer(self, context: Context) -> tuple[str, Granted]:
        peer = self._authenticate(context)
        if peer is None:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "only a host that has joined registers workloads")
            raise AssertionError("abort raises")
        return peer

    def _take(self, host: str, granted: Granted, request: rpc.RegisterRequest) -> list[rpc.Rejection]:
        problems = [
            granted(one.namespace, one.service_account or "default") or self.revoked(one.namespace, one.name)
            for one in request.workloads
        ]
        judged = list(zip(request.workloads, problems, strict=True))
        allowed = [workload for workload, problem in judged if not problem]
        rejected = [
            rpc.Rejection(workload=rpc.WorkloadKey(namespace=workload.namespace, name=workload.name), reason=problem)
            for workload, problem in judged
            if problem
        ]

        def apply(now: float) -> None:
            rejected.extend(self._registry.renew(host, allowed, now, whole=request.sequence == 1))
            self._registry.remove(host, _keys(request.removed), now)

        self._change(apply)
        return rejected

    @property
    def snapshot(self) -> FrozenMap[tuple[str, str], Registration]:
        """Who is registered now."""
        return self._registry.snapshot

    def evict(self, keys: Iterable[tuple[str, str]]) -> None:
        """Forget these workloads at once; their hosts are told when they say something of them again."""
        chosen = set(keys)

        def apply(now: float) -> None:
            for key, entry in tuple(self._registry.snapshot.items()):
                if key in chosen:
                    self._registry.remove(entry.host, [key], now)

        self._change(apply)

    def _starts(self, host: str, request: rpc.RegisterRequest) -> list[rpc.Start]:
        """How the Envoys of the host's own workloads of this request are to be started."""
        known = (self._registry.snapshot.get((one.namespace, one.name)) for one in request.workloads)
        starts = (self._start(entry.proxy) for entry in known if entry is not None and entry.host == host)
        return [start for start in starts if start is not None]

    def _change(self, apply: Callable[[float], None]) -> None:
        before = self._registry.snapshot
        apply(time.monotonic())
        if self._registry.snapshot is not before:
            self._changed()


def _is_explicit(workload: rpc.Workload) -> bool:
    return workload.capture.mode == rpc.CAPTURE_MODE_EXPLICIT


@contextmanager
def _endless(_: Context) -> Iterator[Session]:
    yield Session()


def _keys(keys: Iterable[rpc.WorkloadKey]) -> list[tuple[str, str]]:
    return [(key.namespace, key.name) for key in keys]
