"""The workload's own process: started when its sidecar is ready, ended before its sidecar.

The caller orders the two; this module starts, checks, starts again and ends. Invariant: an application that an earlier
agent left running is adopted, never doubled.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from gossamer.core.errors import CaptureError, UnavailableError
from gossamer.core.latest import Latest
from gossamer.node.backoff import Backoff
from gossamer.node.health import HealthWatch, Probe
from gossamer.node.log_file import rotate_log
from gossamer.node.sandbox import Child, Command, Sandbox, end_child

_ROTATE_SECONDS: Final = 10.0


class RestartPolicy(StrEnum):
    """When to start an application that ended by itself again (as Kubernetes' restartPolicy)."""

    ALWAYS = "Always"
    ON_FAILURE = "OnFailure"
    NEVER = "Never"


class ApplicationState(StrEnum):
    STARTING = "starting"
    """It runs and has not answered its health check yet."""
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    """It was healthy, and its check failed several times since."""
    FAILED = "failed"
    """It ended by itself and is about to be started again."""
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationSettings:
    """How to run one application. Without `health`, running is healthy."""

    name: str
    command: Command
    health: Probe | None = None
    restart: RestartPolicy = RestartPolicy.ALWAYS
    stop_seconds: float = 10.0
    incidental: frozenset[str] = frozenset()
    """Variables that it merely inherits: an agent whose own differ (a new shell, systemd) still adopts it."""

    @property
    def digest(self) -> str:
        """Equal for two applications that are started alike."""
        command = self.command
        chosen = sorted((name, value) for name, value in command.env.items() if name not in self.incidental)
        parts = [command.argv, chosen, command.cwd, command.network, command.user]
        parts += [str(command.hosts)] if command.hosts else []
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


class Application:
    """Keeps one application running. `chance` returns numbers in [0, 1) that spread restarts."""

    def __init__(self, sandbox: Sandbox, settings: ApplicationSettings, chance: Callable[[], float]) -> None:
        self.settings = settings
        self.state = Latest(ApplicationState.STOPPED)
        self.restarts = 0
        self._health: HealthWatch | None = None
        self._sandbox = sandbox
        self._chance = chance
        self._child: Child | None = None
        self._stopping = asyncio.Event()

    @property
    def problem(self) -> str:
        """What the last health check said; empty when all is well."""
        return self._health.problem if self._health is not None else ""

    @property
    def pid(self) -> int:
        """Process id on the host (of its init, when confined), 0 when it does not run."""
        return self._child.pid if self._child is not None and self._child.returncode is None else 0

    async def run(self) -> int:
        """Keep it running as its policy says, until it ends for good or `stop`. Returns its last exit code as a shell
        would give it (128 + signal). CaptureError if the command cannot be started at all."""
        backoff = Backoff()
        code = 0
        rotating = asyncio.create_task(self._rotate())
        try:
            while not self._stopping.is_set():
                adopted = await self._adopt()
                self._child = adopted or await self._start()
                began = time.monotonic()
                code = await self._watch(self._child, well=adopted is not None)
                if self._stopping.is_set() or not self._again(code):
                    break
                self.restarts += 1
                self.state.publish(ApplicationState.FAILED)
                wait, backoff = backoff.after(time.monotonic() - began, self._chance())
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), wait)
            return code
        finally:
            rotating.cancel()
            self.state.publish(ApplicationState.STOPPED)

    async def wait_healthy(self, seconds: float) -> None:
        """Return once it is healthy. CaptureError, with what its check says, if it is not within `seconds`."""
        healthy = asyncio.Event()
        unsubscribe = self.state.subscribe(lambda state: healthy.set() if state is ApplicationState.HEALTHY else None)
        try:
            if self.state.value is not ApplicationState.HEALTHY:
                await asyncio.wait_for(healthy.wait(), seconds)
        except TimeoutError as error:
            reason = self.problem or f"it is {self.state.value}"
            raise CaptureError(f"{self.settings.name} is not healthy after {seconds:g} s: {reason}") from error
        finally:
            unsubscribe()

    async def signal(self, number: int) -> None:
        """Pass a signal on, if it runs."""
        if self._child is not None:
            await self._child.signal(number)

    async def stop(self) -> None:
        """End it: SIGTERM, and SIGKILL when its patience is over; `run` returns."""
        self._stopping.set()
        child = self._child
        if child is None or child.returncode is not None:
            return
        with contextlib.suppress(UnavailableError):
            await end_child(child, self.settings.stop_seconds)

    def _again(self, code: int) -> bool:
        match self.settings.restart:
            case RestartPolicy.ALWAYS:
                return True
            case RestartPolicy.ON_FAILURE:
                return code != 0
            case RestartPolicy.NEVER:
                return False

    async def _adopt(self) -> Child | None:
        child = self._sandbox.children.get(self.settings.name)
        if child is None or child.note == self.settings.digest:
            return child
        await end_child(child, self.settings.stop_seconds)
        return None

    async def _start(self) -> Child:
        command = self.settings.command
        if command.log is not None:
            command.log.parent.mkdir(parents=True, exist_ok=True)
        return await self._sandbox.spawn(self.settings.name, replace(command, note=self.settings.digest))

    async def _watch(self, child: Child, *, well: bool) -> int:
        """Follow it to its end. One that is adopted is `well` until its check says otherwise: its callers go on."""
        self.state.publish(ApplicationState.HEALTHY if well else ApplicationState.STARTING)
        checking = asyncio.create_task(self._check(child, well=well))
        try:
            if self._stopping.is_set():  # asked to stop while it was being started
                await end_child(child, self.settings.stop_seconds)
            code = await child.wait()
        finally:
            checking.cancel()
        return code if code >= 0 else 128 - code

    async def _check(self, child: Child, *, well: bool) -> None:
        """Follow its health for as long as it runs."""
        if self.settings.health is None:
            self.state.publish(ApplicationState.HEALTHY)
            return
        self._health = HealthWatch(self._sandbox, self.settings.health, self.settings.name, self.settings.command)

        def tell(well: bool) -> None:
            if child.returncode is None:
                self.state.publish(ApplicationState.HEALTHY if well else ApplicationState.UNHEALTHY)

        await self._health.follow(tell, well=well)

    async def _rotate(self) -> None:
        log = self.settings.command.log
        while log is not None:
            await asyncio.sleep(_ROTATE_SECONDS)
            rotate_log(log)
