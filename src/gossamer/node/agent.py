"""The agent of one host: joins the mesh, then runs a sidecar for every workload that it is given.

Invariant: what runs here goes on without the control plane, and without this process too when its lifeline says so: the
next agent finds sandbox, sidecars, keys and configuration where this one left them.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from gossamer.core.errors import GossamerError, UnavailableError
from gossamer.node.capture.choose import choose_capture
from gossamer.node.capture.ports import Ports
from gossamer.node.capture.workloads import Capturer
from gossamer.node.host import AgentSettings, Host
from gossamer.node.identity import HostIdentity
from gossamer.node.identity_client import open_channel
from gossamer.node.identity_files import IdentityFiles
from gossamer.node.identity_renewal import Identities, open_host
from gossamer.node.registration import Key, Registration
from gossamer.node.sandbox import SandboxSettings
from gossamer.node.sidecar import Sidecar
from gossamer.node.store import Store
from gossamer.node.workload import WorkloadSpec

_LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class Agent:
    """The workloads that run on a host now."""

    host: Host
    sidecars: dict[Key, Sidecar] = field(default_factory=dict)
    _tasks: dict[Key, asyncio.Task[None]] = field(default_factory=dict)

    def start(self, spec: WorkloadSpec) -> Sidecar:
        """Run a workload. GossamerError if one of that name runs already."""
        if spec.key in self.sidecars:
            raise GossamerError(f"{spec.namespace}/{spec.name} runs on this host already; choose another name")
        sidecar = Sidecar(self.host, spec)
        self.sidecars[spec.key] = sidecar
        self._tasks[spec.key] = asyncio.create_task(self._run(sidecar), name=f"workload {spec.slug}")
        return sidecar

    async def finish(self, key: Key) -> None:
        """Wait until a workload has ended; asked to or not."""
        if (task := self._tasks.get(key)) is not None:
            await asyncio.wait([task])

    async def stop(self) -> None:
        """Stop all workloads together; gateways last, since requests in flight pass through them."""
        for routers in (False, True):
            chosen = [sidecar for sidecar in self.sidecars.values() if (not sidecar.spec.command) == routers]
            for sidecar in chosen:
                sidecar.stop()
            for sidecar in chosen:
                await self.finish(sidecar.spec.key)

    async def _run(self, sidecar: Sidecar) -> None:
        try:
            await sidecar.run()
        except GossamerError:
            return  # said and shown by the sidecar; others are not concerned
        except Exception:
            _LOG.exception("workload-crashed", extra={"workload": sidecar.spec.slug})
            sidecar.problem = "an error inside the agent; its log has the details"


@asynccontextmanager
async def open_agent(settings: AgentSettings, specs: Sequence[WorkloadSpec]) -> AsyncIterator[Agent]:
    """Join (or come back), and run while the context lasts. `specs` are started at once."""
    files = IdentityFiles(settings.state / "identity")
    identity = await _join(settings, files)
    sandbox, choice = await choose_capture(
        settings.way,
        SandboxSettings(runtime=settings.runtime / "sandbox", lifeline=settings.lifeline, hidden=(settings.state,)),
    )
    _LOG.info("capture-chosen", extra={"way": str(choice)})
    identities = Identities(settings.control_plane, files, identity)
    host = Host(
        settings=settings,
        trust_domain=identity.trust_domain,
        incarnation=time.time_ns(),
        sandbox=sandbox,
        choice=choice,
        capturer=Capturer(sandbox, choice.mode, Ports(settings.state / "ports.json")),
        identities=identities,
        registration=Registration(
            lambda: open_channel(settings.control_plane, identities.host.value), _rejected, random.random
        ),
        store=Store(settings.state / "proxies"),
        chance=random.random,
    )
    agent = Agent(host)
    await host.capturer.remove_all_but(spec.slug for spec in specs)
    async with asyncio.TaskGroup() as group:
        serving = [group.create_task(identities.serve()), group.create_task(host.registration.serve())]
        try:
            for spec in specs:
                agent.start(spec)
            yield agent
        finally:
            await agent.stop()
            await host.registration.told(1.0)
            for task in serving:
                task.cancel()
    await sandbox.close()


async def _join(settings: AgentSettings, files: IdentityFiles) -> HostIdentity:
    """This host's identity; waits for a control plane that is not there yet."""
    tries = 0
    while True:
        try:
            return await open_host(settings.join, files, settings.token, datetime.now(UTC))
        except UnavailableError as error:
            if tries % 20 == 5:
                _LOG.warning("join-awaited", extra={"reason": str(error)})
            tries += 1
            await asyncio.sleep(min(0.05 * 1.3**tries, 2.0))


def _rejected(key: Key, reason: str) -> None:
    _LOG.error("registration-rejected", extra={"workload": ".".join(key), "reason": reason})
