"""A whole mesh on this machine, as one value: control plane and agent as child processes, watched and started again.

Invariant: whatever way this process ends, the children end with it: in order when they are asked, by their lifelines
when they are not.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import platform
import socket as socketlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from gossamer.ca.custody import open_custody
from gossamer.ca.issue import create_token
from gossamer.ca.ledger import Ledger
from gossamer.cli.child import Child, Spare
from gossamer.cli.mesh_file import OpenedMesh
from gossamer.core.errors import GossamerError, UnavailableError
from gossamer.node.workload import dump_specs
from gossamer.rpc.local import AGENT_SOCKET, PLANE_SOCKET, call
from gossamer.sources.state import lock, private_folder, runtime_folder, write_private

_LOG = logging.getLogger(__name__)
_START_S: Final = 60.0
_STEADY_S: Final = 5.0
"""A child that ran for so long is started again at once."""
_STOP_S: Final = 30.0
_AGAIN_S: Final = (0.1, 5.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshOptions:
    """How `up` runs a mesh file."""

    file: Path
    state: Path
    capture: str = "auto"
    listen: str = "127.0.0.1:15012"
    join_listen: str = "127.0.0.1:15013"
    lifetime: str = ""
    """Of certificates; empty: what the mesh's profile says."""


class LocalMesh:
    """Control plane and agent of one mesh file. Use `running`."""

    def __init__(self, options: MeshOptions, opened: OpenedMesh, spares: Mapping[str, Spare]) -> None:
        """`spares` by name of command, of those that were started already."""
        self.options = options
        self.state = private_folder(options.state)
        self.runtime = runtime_folder(self.state)
        self.restarts = {"control-plane": 0, "agent": 0}
        self._config = opened.config
        self._attestors = opened.attestors
        self._specs = opened.specs
        self._mesh_config = self._written(opened.mesh_config)
        self._profile = opened.profile.value
        self._trust_domain = opened.trust_domain
        self._children: dict[str, Child] = {}
        self._spares = dict(spares)
        self._held: dict[str, asyncio.Event] = {}
        self._addresses: dict[str, str] = {"xds": options.listen, "join": options.join_listen}
        self._token: str | None = None

    def _written(self, mesh_config: str | None) -> Path | None:
        """The mesh file's MeshConfig as a file that the control plane reads."""
        if mesh_config is None:
            return None
        path = self.state / "mesh-config.json"
        write_private(path, mesh_config.encode())
        return path

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[LocalMesh]:
        """Start both, keep them running while the context lasts, then stop the agent and after it the control plane."""
        with lock(self.state, "mesh"):
            keepers: list[asyncio.Task[None]] = []
            try:
                self._addresses = {name: _chosen(address) for name, address in self._addresses.items()}
                self._token = self._new_token()
                await asyncio.gather(self._start_plane(), self._start_agent())
                keepers.append(asyncio.create_task(self._keep("control-plane", self._start_plane)))
                keepers.append(asyncio.create_task(self._keep("agent", self._start_agent)))
                yield self
            finally:
                for keeper in keepers:
                    keeper.cancel()
                await asyncio.gather(*keepers, return_exceptions=True)
                for name in ("agent", "control-plane"):
                    if (child := self._children.get(name)) is not None:
                        await child.stop(_STOP_S)

    def pid(self, what: str) -> int:
        """Process id of `control-plane`, `agent`, `envoy NAMESPACE/NAME` or `app NAMESPACE/NAME`."""
        if what in self._children:
            return self._children[what].pid
        kind, _, name = what.partition(" ")
        row = self._workload(name)
        return int(row["envoy_pid" if kind == "envoy" else "application_pid"])

    @contextlib.contextmanager
    def held(self, name: str) -> Iterator[None]:
        """Within it `control-plane` or `agent` is not started again when it ends; afterwards it is."""
        let_go = self._held[name] = asyncio.Event()
        try:
            yield
        finally:
            del self._held[name]
            let_go.set()

    async def plane(self) -> dict[str, Any]:
        """What the control plane says of itself. UnavailableError while it is away."""
        return await self._ask(PLANE_SOCKET, "/v1/status")

    async def agent(self) -> dict[str, Any]:
        """What the agent says of itself. UnavailableError while it is away."""
        return await self._ask(AGENT_SOCKET, "/v1/status")

    async def wait_ready(self, timeout_s: float) -> None:
        """Return when every workload serves. GossamerError, naming those that do not, when the time is over."""
        waiting = "the agent does not answer"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while True:
                    try:
                        status = await self.agent()
                        if status["ready"]:
                            return
                        waiting = ", ".join(_unready(status))
                    except UnavailableError:
                        pass
                    await asyncio.sleep(0.05)
        raise GossamerError(f"not ready after {timeout_s:g} s: {waiting}; logs are in {self.state / 'logs'}")

    def log(self, name: str) -> Path:
        return self.state / "logs" / f"{name}.log"

    def _workload(self, name: str) -> dict[str, Any]:
        for row in call(self.runtime / AGENT_SOCKET, "GET", "/v1/status").json()["workloads"]:
            if f"{row['namespace']}/{row['name']}" == name:
                return dict(row)
        raise GossamerError(f"no workload {name} runs here")

    async def _ask(self, socket: str, path: str) -> dict[str, Any]:
        response = await asyncio.to_thread(call, self.runtime / socket, "GET", path)
        return dict(response.json())

    def _new_token(self) -> str:
        """A token for this host; made in the state folder, before the control plane that will honour it."""
        now = datetime.now(UTC)
        authority = open_custody(self.state, None, self._trust_domain, now).authority(now)
        return create_token(authority, Ledger(self.state / "joined"), host=_host_name(), grants=["*/*"], now=now)

    async def _start_plane(self) -> None:
        argv = [*(f"--config={path}" for path in self._config), f"--state={self.state}"]
        argv += [f"--listen={self._addresses['xds']}", f"--join-listen={self._addresses['join']}"]
        argv += [f"--lifetime={self.options.lifetime}"] if self.options.lifetime else []
        argv += [f"--profile={self._profile}"] if self._profile else []
        argv += [f"--mesh-config={self._mesh_config}"] if self._mesh_config else []
        argv += [f"--attestors={self._attestors}"] if self._attestors else []
        await self._start("control-plane", argv, PLANE_SOCKET)

    async def _start_agent(self) -> None:
        workloads = self.state / "workloads.json"
        write_private(workloads, dump_specs(self._specs).encode())
        argv = [f"--workloads={workloads}", f"--state={self.state}", f"--capture={self.options.capture}"]
        argv += [f"--control-plane={self._addresses['xds']}", f"--join={self._addresses['join']}"]
        await self._start("agent", argv, AGENT_SOCKET)

    async def _start(self, name: str, argv: Sequence[str], socket: str) -> None:
        private_folder(self.state / "logs")
        (self.runtime / socket).unlink(missing_ok=True)
        env = {"GOSSAMER_TOKEN": self._token} if name == "agent" and self._token else {}
        if (former := self._children.get(name)) is not None:
            former.release()
        spare = self._spares.pop(name, None)
        child = spare.employ(argv, log=self.log(name), env=env) if spare else None
        child = self._children[name] = child or Child.start([name, *argv], log=self.log(name), env=env)
        ended = asyncio.create_task(child.wait())
        try:
            async with asyncio.timeout(_START_S):
                while not _answers(self.runtime / socket):
                    if ended.done():
                        raise GossamerError(
                            f"the {name} ended with exit code {ended.result()}: {_last_words(child.log)}"
                        )
                    await asyncio.sleep(0.01)
        except TimeoutError as error:
            await child.stop(1.0)
            raise GossamerError(f"the {name} did not start within {_START_S:g} s; its log is {child.log}") from error
        finally:
            ended.cancel()

    async def _keep(self, name: str, start: Callable[[], Awaitable[None]]) -> None:
        """Start a child again whenever it ends."""
        delay = _AGAIN_S[0]
        while True:
            began = time.monotonic()
            code = await self._children[name].wait()
            if time.monotonic() - began > _STEADY_S:
                delay = _AGAIN_S[0]
            self._children[name].release()
            self.restarts[name] += 1
            _LOG.warning("child-ended", extra={"child": name, "exit_code": code})
            while (let_go := self._held.get(name)) is not None:
                await let_go.wait()
            while True:
                await asyncio.sleep(delay)
                delay = min(delay * 2, _AGAIN_S[1])
                try:
                    await start()
                    break
                except GossamerError as error:
                    _LOG.error("child-not-started", extra={"child": name, "reason": str(error)})


def _unready(status: dict[str, Any]) -> list[str]:
    return [
        f"{row['namespace']}/{row['name']} (Envoy {row['envoy']}"
        + (f", application {row['application']}" if row["application"] else "")
        + (f": {row['problem']}" if row["problem"] else "")
        + ")"
        for row in status["workloads"]
        if row["envoy"] != "ready" or row["application"] not in ("", "healthy")
    ]


def _chosen(address: str) -> str:
    """HOST:PORT with a free port for 0. It is chosen once, since agents go on dialling it over every restart."""
    host, _, port = address.rpartition(":")
    if port != "0":
        return address
    with socketlib.socket(socketlib.AF_INET6 if ":" in host else socketlib.AF_INET) as probe:
        probe.bind((host.strip("[]"), 0))
        return f"{host}:{probe.getsockname()[1]}"


def _answers(path: Path) -> bool:
    """Whether somebody listens on a UNIX socket."""
    with socketlib.socket(socketlib.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def _last_words(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else f"it said nothing; see {log}"


def _host_name() -> str:
    name = "".join(c if c.isalnum() or c == "-" else "-" for c in platform.node().lower()).strip("-")
    return name[:63] or "localhost"
