"""The agent of one host: joins the mesh, then runs a sidecar for every workload that it is given.

Invariant: what runs here goes on without the control plane, and without this process too when its lifeline says so: the
next agent finds sandbox, sidecars, keys and configuration where this one left them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import grpc.aio

from gossamer.core.errors import GossamerError, UnavailableError
from gossamer.model.proxy import ProxyType
from gossamer.node.capture.choose import Choice, choose_capture
from gossamer.node.capture.ports import Ports
from gossamer.node.capture.workloads import Capturer
from gossamer.node.ejections import EjectionWatch
from gossamer.node.envoy import EnvoyState
from gossamer.node.envoy_admin import Admin
from gossamer.node.groups import Groups
from gossamer.node.host import AgentSettings, Host
from gossamer.node.identity import HostIdentity
from gossamer.node.identity_client import KeptChannel, open_channel
from gossamer.node.identity_files import IdentityFiles
from gossamer.node.identity_renewal import Identities, Vouching, open_host
from gossamer.node.leftovers import forget_all_but, forget_restarts
from gossamer.node.registration import Key, Registration
from gossamer.node.sandbox import Sandbox, SandboxSettings
from gossamer.node.seen_reports import SeenReports, Source
from gossamer.node.sidecar import Sidecar
from gossamer.node.starts import Starts
from gossamer.node.store import Store
from gossamer.node.workload import WorkloadSpec

_LOG = logging.getLogger(__name__)
_REFUSED_S: Final = 5.0
_ANNOUNCE_S: Final = 5.0
"""How long the first word to the control plane waits for workloads that an earlier agent left running."""


@dataclass(slots=True)
class Agent:
    """The workloads that run on a host now."""

    host: Host
    sidecars: dict[Key, Sidecar] = field(default_factory=dict)
    _tasks: dict[Key, asyncio.Task[None]] = field(default_factory=dict)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def start(self, spec: WorkloadSpec) -> Sidecar:
        """Run a workload. GossamerError if one of that name runs already."""
        if spec.key in self.sidecars:
            raise GossamerError(f"{spec.namespace}/{spec.name} runs on this host already; choose another name")
        sidecar = Sidecar(self.host, spec)
        self.sidecars[spec.key] = sidecar
        self._tasks[spec.key] = asyncio.create_task(self._run(sidecar), name=f"workload {spec.slug}")
        return sidecar

    def refuse(self, key: Key, reason: str) -> None:
        """The control plane does not take a workload."""
        if (sidecar := self.sidecars.get(key)) is not None:
            sidecar.refuse(reason)

    async def finish(self, key: Key) -> None:
        """Wait until a workload has ended; asked to or not."""
        if (task := self._tasks.get(key)) is not None:
            await asyncio.wait([task])

    async def stop(self) -> None:
        """Stop all workloads together; gateways last, since requests in flight pass through them."""
        self._stopping.set()
        for routers in (False, True):
            chosen = [
                sidecar for sidecar in self.sidecars.values() if (sidecar.spec.type is ProxyType.ROUTER) == routers
            ]
            for sidecar in chosen:
                sidecar.stop()
            for sidecar in chosen:
                await self.finish(sidecar.spec.key)

    async def _run(self, sidecar: Sidecar) -> None:
        """Run a workload; one that is refused is tried again, since a name becomes free when its host has gone."""
        while True:
            await self._run_once(sidecar)
            if not sidecar.refused or sidecar.spec.terminal or self._stopping.is_set():
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_REFUSED_S):
                    await self._stopping.wait()
                    return
            sidecar = self.sidecars[sidecar.spec.key] = Sidecar(self.host, sidecar.asked)

    async def _run_once(self, sidecar: Sidecar) -> None:
        try:
            await sidecar.run()
        except GossamerError:
            return  # said and shown by the sidecar; others are not concerned
        except Exception:
            _LOG.exception("workload-crashed", extra={"workload": sidecar.spec.slug})
            sidecar.problem = "an error inside the agent; its log has the details"


@asynccontextmanager
async def open_agent(
    settings: AgentSettings, specs: Sequence[WorkloadSpec], stop: asyncio.Event
) -> AsyncIterator[Agent]:
    """Join (or come back), and run while the context lasts. `specs` are started at once.

    UnavailableError if `stop` is set before there is a control plane to join.
    """
    files = IdentityFiles(settings.state / "identity")
    capturing = asyncio.create_task(_capture(settings))  # meanwhile: a control plane takes its time to start
    try:
        identity = await _join(settings, files, stop)
    except BaseException:
        await _let_go(capturing)
        raise
    sandbox, choice = await capturing
    try:
        vouching = (
            None if settings.attestation is None else Vouching(attestation=settings.attestation, join=settings.join)
        )
        identities = Identities(settings.control_plane, files, identity, vouching=vouching)
        agent = Agent(_host(settings, identities, sandbox, choice))
        agent.host.registration.rejected = agent.refuse
        seen = _seen(agent)
        await agent.host.capturer.remove_all_but(spec.slug for spec in specs)
        await asyncio.to_thread(forget_all_but, agent.host, files, specs)
        async with asyncio.TaskGroup() as group:
            serving = [group.create_task(identities.serve())]
            try:
                for spec in specs:
                    agent.start(spec)
                serving.append(group.create_task(_register(agent)))
                serving.append(group.create_task(_ejections(agent).serve()))
                serving.append(group.create_task(seen.serve()))
                yield agent
            finally:
                await agent.stop()
                await asyncio.gather(agent.host.registration.told(1.0), seen.last())
                for task in serving:
                    task.cancel()
    finally:
        await sandbox.close()
        forget_restarts(settings, sandbox)


async def _capture(settings: AgentSettings) -> tuple[Sandbox, Choice]:
    sandbox, choice = await choose_capture(
        settings.way,
        SandboxSettings(
            runtime=settings.runtime / "sandbox",
            lifeline=settings.lifeline,
            # of every mesh of this user: an application has the user's rights, and no business there
            hidden=(settings.state, settings.runtime, *settings.hidden),
        ),
    )
    _LOG.info("capture-chosen", extra={"way": str(choice)})
    return sandbox, choice


async def _let_go(capturing: asyncio.Task[tuple[Sandbox, Choice]]) -> None:
    """End a sandbox that is not needed; one that an earlier agent left goes on as it was."""
    with contextlib.suppress(GossamerError):
        sandbox, _ = await capturing
        await (sandbox.detach() if sandbox.adopted else sandbox.close())


def _host(settings: AgentSettings, identities: Identities, sandbox: Sandbox, choice: Choice) -> Host:
    def channel() -> grpc.aio.Channel:
        return open_channel(settings.control_plane, identities.host.value)

    registration = Registration(channel, random.random)
    starts = Starts(folder=settings.state / "starts")
    registration.started = starts.take
    return Host(
        settings=settings,
        trust_domain=identities.host.value.trust_domain,
        incarnation=time.time_ns(),
        sandbox=sandbox,
        choice=choice,
        capturer=Capturer(sandbox, choice.mode, Ports(settings.state / "ports.json")),
        identities=identities,
        registration=registration,
        store=Store(settings.state / "proxies"),
        starts=starts,
        groups=Groups(folder=settings.state / "groups", channel=channel),
        chance=random.random,
    )


async def _register(agent: Agent) -> None:
    """Keep the control plane told, from when there is something to tell of every workload: its first word is taken for
    the whole truth."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_ANNOUNCE_S):
            for sidecar in tuple(agent.sidecars.values()):
                await sidecar.announced.wait()
    await agent.host.registration.serve()


def _ejections(agent: Agent) -> EjectionWatch:
    host = agent.host

    def admins() -> Iterator[tuple[Key, Admin]]:
        for key, sidecar in agent.sidecars.items():
            if sidecar.envoy is not None and sidecar.envoy.state.value is EnvoyState.READY:
                yield key, sidecar.envoy.admin

    return EjectionWatch(
        admins,
        host.registration.watch_endpoints,
        lambda: open_channel(host.settings.control_plane, host.identities.host.value),
    )


def _seen(agent: Agent) -> SeenReports:
    host = agent.host

    def sources() -> Iterator[Source]:
        for key, sidecar in agent.sidecars.items():
            if sidecar.envoy is not None:
                yield Source(key, sidecar.observed, sidecar.envoy.admin, str(sidecar.envoy.pid))

    return SeenReports(str(host.incarnation), sources, KeptChannel(host.settings.control_plane, host.identities.host))


async def _join(settings: AgentSettings, files: IdentityFiles, stop: asyncio.Event) -> HostIdentity:
    """This host's identity; waits for a control plane that is not there yet."""
    tries = 0
    while True:
        try:
            return await open_host(settings.join, files, settings.attestation or settings.token, datetime.now(UTC))
        except UnavailableError as error:
            if tries % 20 == 5:
                _LOG.warning("join-awaited", extra={"reason": str(error)})
            tries += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(0.05 * 1.3**tries, 2.0)):
                    await stop.wait()
            if stop.is_set():
                raise
