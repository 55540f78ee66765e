"""One workload on this host, from capture to drain: what the agent does for each, in order.

Capture, identity, socket, registration, Envoy, application; then backwards. Invariant: the application runs only while
its sidecar serves, and callers are told before either goes away.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import grpc

from gossamer.ca.spiffe import WorkloadId, workload_id
from gossamer.core.errors import GossamerError, failure_of
from gossamer.core.latest import Latest
from gossamer.model.proxy import ProxyType
from gossamer.node.application import Application, ApplicationState
from gossamer.node.capture.hosts_file import write_hosts
from gossamer.node.capture.workloads import Captured
from gossamer.node.capturing import capture, is_explicit
from gossamer.node.confirming import confirm
from gossamer.node.envoy import Envoy, EnvoyState, running_envoys
from gossamer.node.host import Host
from gossamer.node.identity import WorkloadIdentity
from gossamer.node.listener_limits import limit_listeners
from gossamer.node.observing import observing_handler
from gossamer.node.proxy_socket import serving_envoy
from gossamer.node.readiness import Readiness, choose_readiness
from gossamer.node.relay import Relay
from gossamer.node.resident import Resident
from gossamer.node.sds import SecretSet
from gossamer.node.seen_entries import Reader
from gossamer.node.sidecar_settings import (
    application_log,
    application_settings,
    envoy_log,
    envoy_name,
    envoy_settings,
    hosts_file,
)
from gossamer.node.workload import WorkloadSpec, registration_message
from gossamer.node.workload_socket import serving_workload
from gossamer.rpc import gossamer_pb2 as rpc
from gossamer.sources.seen import Observed

_LOG = logging.getLogger(__name__)
T = TypeVar("T")
READY_S: Final = 30.0
_TOLD_S: Final = 1.0
"""How long a stop waits for the control plane to have heard of it."""
_SPREAD_S: Final = 0.5
"""How long a change has to reach Envoys: that a workload drains, before it refuses callers; that a service is there,
before its name leads anywhere."""


class Sidecar:
    """One workload's sidecar (or a gateway) and application on this host."""

    def __init__(self, host: Host, spec: WorkloadSpec) -> None:
        self.asked = spec
        """The spec as it was given."""
        self.spec = spec
        """The same, with what its WorkloadGroup says once that is known."""
        self.envoy: Envoy | None = None
        self.application: Application | Resident | None = None
        self.problem = ""
        self.refused = False
        self.exit_code = 0
        self.ready = asyncio.Event()
        self.announced = asyncio.Event()
        """Set once the registry is to be told of it, or never will be."""
        self.captured: Captured | None = None
        self.socket: Path | None = None
        """Where its Envoy is served, while it is."""
        self.readiness = Readiness()
        self._host = host
        self.identity: Latest[WorkloadIdentity] | None = None
        self._stopping = asyncio.Event()
        self._message: rpc.Workload | None = None
        self.relay: Relay | None = None
        self.observed = Observed()

    @property
    def log(self) -> Path:
        return envoy_log(self._host, self.spec)

    @property
    def application_log(self) -> Path:
        return application_log(self._host, self.spec)

    async def run(self) -> None:
        """Run the workload until `stop`, or until its application has ended for good."""
        try:
            if not await self._join_group():
                return
            await self._recapture()
            if not self._adopting:  # one that an earlier agent left serving is announced when it is seen to serve
                self._register(rpc.WORKLOAD_STATE_STARTING)
            await self._serve()
        except GossamerError as error:
            self._fail(error)
            raise
        except ExceptionGroup as group:
            if (failure := failure_of(group)) is None:
                raise
            self._fail(failure)
            raise failure from group
        finally:
            self.announced.set()
            self._host.registration.remove(self.spec.key)
            self._host.identities.remove(self._workload_id(), forget=False)

    async def _join_group(self) -> bool:
        """Whether the workload knows what its group says of it; if there is no such group, it is refused."""
        try:
            spec = await self._until_stopped(self._host.groups.resolve(self.spec))
        except GossamerError as error:
            self.refuse(str(error))
            return False
        self.spec = spec or self.spec
        return spec is not None

    def refuse(self, reason: str) -> None:
        """The control plane does not take this workload: it does not run under a name that is not its own."""
        self.problem = reason
        self.refused = True
        _LOG.error("workload-refused", extra={"workload": self.spec.slug, "reason": reason})
        self.stop()

    def _fail(self, error: GossamerError) -> None:
        self.problem = str(error)
        _LOG.error("workload-failed", extra={"workload": self.spec.slug, "reason": self.problem})

    @property
    def _adopting(self) -> bool:
        """Whether Envoy and application run already, left by an earlier agent."""
        applications = [f"app {self.spec.slug}"] if self.spec.command else []
        return self._runs_envoy and all(name in self._host.sandbox.children for name in applications)

    @property
    def _runs_envoy(self) -> bool:
        return bool(running_envoys(self._host.sandbox, envoy_name(self.spec)))

    def stop(self) -> None:
        """Begin to end: `run` returns when all is drained and stopped."""
        self._stopping.set()

    async def _recapture(self) -> Captured:
        """Capture, and have the registry know how; again when there is more to open."""
        self.captured = captured = await capture(self._host, self.spec)
        self._message = registration_message(self.spec, captured.capture, captured.addresses, self._host.incarnation)
        return captured

    async def _follow_services(self) -> None:
        """Open local ports for services that the mesh gets while we run (explicit capture)."""
        changed = asyncio.Event()
        registration = self._host.registration
        heard = [
            known.subscribe(lambda _: changed.set()) for known in (registration.services, registration.web_services)
        ]
        try:
            while True:
                await changed.wait()
                changed.clear()
                captured = await self._recapture()
                self._announce()
                if await self._host.registration.told(_TOLD_S):
                    await asyncio.sleep(_SPREAD_S)  # a name is for what is open
                self._write_names(captured)
        finally:
            for unsubscribe in heard:
                unsubscribe()

    def _write_names(self, captured: Captured) -> None:
        if captured.names:
            write_hosts(hosts_file(self._host, self.spec), captured.names)

    async def _serve(self) -> None:
        captured = self.captured or await self._recapture()
        if is_explicit(self._host, self.spec) and await self._host.registration.told(_TOLD_S):
            captured = await self._recapture()  # with the services, which the control plane has named by now
            self._register(rpc.WORKLOAD_STATE_STARTING)
        self.identity = await self._until_stopped(self._host.identities.add(self._workload_id()))
        if self.identity is None:
            return
        if not self._adopting:
            await self._host.registration.told(_TOLD_S)  # the answer says how Envoy is to be started
            captured = await self._settle_ports(captured)
        secrets = SecretSet(Path(folder) for folder in self.spec.credentials)
        secrets.set_identity(self.identity.value)
        trust = self._host.identities.trust
        secrets.set_trust(trust.value)
        unsubscribe = self.identity.subscribe(secrets.set_identity), trust.subscribe(secrets.set_trust)
        try:
            async with (
                serving_workload(self._host, self.spec, self._workload_id(), self.identity),
                serving_envoy(self._host, self.spec, self.identity, secrets, self._observing(captured)) as (
                    socket,
                    self.relay,
                ),
            ):
                await self._run_envoy(captured, socket, secrets)
            shutil.rmtree(socket.parent, ignore_errors=True)  # Envoy leaves its admin socket's name behind
        finally:
            for stop in unsubscribe:
                stop()

    async def _settle_ports(self, captured: Captured) -> Captured:
        """Capture anew if the control plane has named other ports by now, while nothing runs that knows of these."""
        start, capture = self._host.starts.of(self.spec.key).settings, captured.capture
        settled = (start.outbound_port, start.inbound_port) == (capture.outbound_port, capture.inbound_port)
        if settled or is_explicit(self._host, self.spec) or self.spec.type is ProxyType.ROUTER or self._runs_envoy:
            return captured
        await self._host.capturer.undo(self.spec.slug)
        captured = await self._recapture()
        self._register(rpc.WORKLOAD_STATE_STARTING)
        await self._host.registration.told(_TOLD_S)
        return captured

    def _observing(self, captured: Captured) -> grpc.GenericRpcHandler:
        gateway = self.spec.type is ProxyType.ROUTER
        bound = self.spec.gateway_ports if gateway else captured.capture.mesh_ports
        reader = Reader(ports={place: port for port, place in bound.items()}, gateway=gateway)
        return observing_handler(reader, self.observed)

    async def _until_stopped(self, work: Coroutine[Any, Any, T]) -> T | None:
        """The result of `work`, or None when we are stopped first."""
        working, stopping = asyncio.create_task(work), asyncio.create_task(self._stopping.wait())
        await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if working.done():
            return working.result()
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        return None

    async def _run_envoy(self, captured: Captured, socket: Path, secrets: SecretSet) -> None:
        self.readiness, self.socket = self._choose_readiness(captured), socket
        envoy = self.envoy = Envoy(
            self._host.sandbox,
            envoy_settings(self._host, self.spec, captured, self.readiness, socket),
            self._host.chance,
        )
        async with asyncio.TaskGroup() as group:
            running = group.create_task(envoy.run())
            identities = self._host.identities
            confirming = group.create_task(confirm(envoy.admin, secrets, self._workload_id(), identities.confirmed))
            following = group.create_task(self._follow_services()) if is_explicit(self._host, self.spec) else None
            limiting = group.create_task(self._limit_listeners(envoy))
            try:
                if await self._until_ready(envoy, running):
                    async with self._following(envoy):
                        await self._run_application(captured, envoy)
            finally:
                confirming.cancel()
                if following is not None:
                    following.cancel()
                limiting.cancel()
                await envoy.stop(linger=0.0)
                await running

    async def _limit_listeners(self, envoy: Envoy) -> None:
        most = self._host.starts.of(self.spec.key).settings.listener_connections
        if most is not None and self.relay is not None:
            await limit_listeners(envoy, self.relay.listeners, most)

    async def _until_ready(self, envoy: Envoy, running: asyncio.Task[None]) -> bool:
        """Whether Envoy became ready before it was all stopped. A sidecar that takes long says so, and goes on."""
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            while True:
                ready = asyncio.create_task(envoy.wait_ready(READY_S))
                await asyncio.wait([ready, stopping, running], return_when=asyncio.FIRST_COMPLETED)
                if self._stopping.is_set() or running.done():
                    ready.cancel()
                    await asyncio.gather(ready, return_exceptions=True)
                    return False
                if (error := ready.exception()) is None:
                    self.problem = ""
                    return True
                self.problem = str(error)
                _LOG.warning("sidecar-not-ready", extra={"workload": self.spec.slug, "reason": self.problem})
        finally:
            stopping.cancel()

    @asynccontextmanager
    async def _following(self, envoy: Envoy) -> AsyncIterator[None]:
        unsubscribe = envoy.state.subscribe(lambda _: self._announce())
        try:
            yield
        finally:
            unsubscribe()

    async def _run_application(self, captured: Captured, envoy: Envoy) -> None:
        self._write_names(captured)
        application = self.application = self._build_application(captured, envoy)
        if application is None:
            self._announce()
            self.ready.set()
            await self._stopping.wait()
            await self._leave()
            return
        unsubscribe = application.state.subscribe(lambda _: self._announce())
        try:
            async with asyncio.TaskGroup() as group:
                running = group.create_task(application.run())
                stopping = group.create_task(self._stopping.wait())
                await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
                stopping.cancel()
                if self._stopping.is_set():
                    await self._leave()
                    await application.stop()
                self.exit_code = await running
        finally:
            unsubscribe()

    def _build_application(self, captured: Captured, envoy: Envoy) -> Application | Resident | None:
        settings = application_settings(self._host, self.spec, captured)
        if self.spec.command:
            return Application(self._host.sandbox, settings, self._host.chance)
        if settings.health is not None:
            return Resident(self._host.sandbox, settings.name, settings.health, settings.command, well=envoy.adopted)
        return None

    async def _leave(self) -> None:
        """Tell callers first: what they send after this goes elsewhere."""
        self._register(rpc.WORKLOAD_STATE_DRAINING)
        if await self._host.registration.told(_TOLD_S):
            await asyncio.sleep(_SPREAD_S)

    def _announce(self) -> None:
        """Say how the workload is, as its Envoy and its application are now."""
        if self._stopping.is_set():
            return
        application = self.application
        if self.envoy is None or self.envoy.state.value is not EnvoyState.READY:
            self._register(rpc.WORKLOAD_STATE_UNHEALTHY if self.ready.is_set() else rpc.WORKLOAD_STATE_STARTING)
        elif application is None or application.state.value is ApplicationState.HEALTHY:
            self._register(rpc.WORKLOAD_STATE_READY)
            self.ready.set()
        elif application.state.value is ApplicationState.STARTING:
            self._register(rpc.WORKLOAD_STATE_STARTING)
        else:
            self._register(rpc.WORKLOAD_STATE_UNHEALTHY)

    def _register(self, state: rpc.WorkloadState.ValueType) -> None:
        if self._message is None:
            return
        message = rpc.Workload()
        message.CopyFrom(self._message)
        message.state = state
        if state == rpc.WORKLOAD_STATE_UNHEALTHY:
            message.state_message = self._trouble()
        self._host.registration.put(message)
        self.announced.set()

    def _trouble(self) -> str:
        if self.envoy is not None and self.envoy.state.value is EnvoyState.UNRESPONSIVE:
            return "its Envoy does not answer"
        return (self.application.problem if self.application else "") or "not running"

    def _workload_id(self) -> WorkloadId:
        spec = self.spec
        return workload_id(
            trust_domain=self._host.trust_domain,
            namespace=spec.namespace,
            service_account=spec.service_account or "default",
            name=spec.name,
        )

    def _choose_readiness(self, captured: Captured) -> Readiness:
        readiness = choose_readiness(self.spec, captured, self._host.capturer.ports, runs=self._runs_envoy)
        if readiness.problem:
            _LOG.warning("no-readiness-port", extra={"workload": self.spec.slug, "reason": readiness.problem})
        return readiness
