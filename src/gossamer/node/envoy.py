"""One Envoy's life: started, watched, started again, drained and ended.

Invariant: at most one Envoy runs under a name, whatever agents come and go: one that an earlier agent left is adopted
if it was started in the same way, and drained and replaced if not.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from gossamer.ca.files import private_folder, write_private
from gossamer.core.errors import EnvoyError, UnavailableError
from gossamer.core.frozen import EMPTY, FrozenMap
from gossamer.core.latest import Latest
from gossamer.node.backoff import Backoff
from gossamer.node.envoy_admin import Admin
from gossamer.node.log_file import read_tail, rotate_log
from gossamer.node.sandbox import Child, Command, Sandbox, end_child

_LOG = logging.getLogger(__name__)
DRAIN_SECONDS: Final = 5
"""How long connections have to end when a listener changes or Envoy stops: every LDS change cuts streams that are
longer, and every stop waits for them at most this long."""
_END_SECONDS: Final = 2.0
_ROTATE_SECONDS: Final = 10.0
_READY_INTERVAL: Final = 0.02
_AGAIN_SECONDS: Final = 0.5
_LOG_FORMAT: Final = '{"ts":"%Y-%m-%dT%T.%eZ","level":"%l","event":"envoy","logger":"%n","message":"%j"}'


class EnvoyState(StrEnum):
    STARTING = "starting"
    """It runs, and waits for its first configuration."""
    READY = "ready"
    UNRESPONSIVE = "unresponsive"
    """It runs, and has not answered for a while."""
    DRAINING = "draining"
    FAILED = "failed"
    """It ended by itself and is about to be started again."""
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvoySettings:
    """How to run one Envoy. `folder` takes its bootstrap (mode 0700); `admin_socket` is where `bootstrap` puts it."""

    name: str
    binary: Path
    bootstrap: str
    folder: Path
    admin_socket: Path
    log: Path
    concurrency: int = 1
    """Worker threads; 0: one for each core."""
    environment: FrozenMap[str, str] = EMPTY
    drain_seconds: int = DRAIN_SECONDS
    stop_seconds: float | None = None
    """How long connections have when Envoy stops, if not the drain time."""
    flush_seconds: float = 1.0
    """How often it writes its logs out, and (0: Envoy's own) after how many kilobytes."""
    flush_kb: int = 0
    log_level: str = "warning"
    probe_seconds: float = 5.0
    """Between two questions whether an Envoy that is ready still is."""
    hung_seconds: float = 30.0
    """One that does not answer for so long is killed, and started again."""

    @property
    def argv(self) -> tuple[str, ...]:
        return (
            str(self.binary),
            "--config-path",
            str(self.folder / "bootstrap.json"),
            # no hot restart: its shared memory and sockets would outlive a kill
            "--disable-hot-restart",
            *(("--concurrency", str(self.concurrency)) if self.concurrency else ()),
            "--drain-time-s",
            str(self.drain_seconds),
            "--drain-strategy",
            "immediate",
            # a denial is looked up in the access log within seconds of it; Envoy's own default is ten
            "--file-flush-interval-msec",
            str(max(round(self.flush_seconds * 1000), 1)),
            *(("--file-flush-min-size-kb", str(self.flush_kb)) if self.flush_kb else ()),
            "--log-level",
            self.log_level,
            "--log-format",
            _LOG_FORMAT,
        )

    @property
    def digest(self) -> str:
        """Equal for two Envoys that are started alike."""
        how: list[object] = [self.argv, self.bootstrap]
        if self.environment:
            how.append(sorted(self.environment.items()))
        return hashlib.sha256(json.dumps(how).encode()).hexdigest()[:32]


class Envoy:
    """Keeps one Envoy running. `chance` returns numbers in [0, 1) that spread the restarts of many."""

    def __init__(self, sandbox: Sandbox, settings: EnvoySettings, chance: Callable[[], float]) -> None:
        self.settings = settings
        self.admin = Admin(settings.admin_socket)
        self.state = Latest(EnvoyState.STOPPED)
        self.restarts = 0
        self.adopted = False
        """Whether the Envoy that runs was started by an earlier agent."""
        self._sandbox = sandbox
        self._chance = chance
        self._child: Child | None = None
        self._stopping = asyncio.Event()

    @property
    def pid(self) -> int:
        """Process id on the host, 0 when it does not run."""
        return self._child.pid if self._child is not None and self._child.returncode is None else 0

    async def run(self) -> None:
        """Keep it running until `stop`. UnavailableError if the warden is gone, EnvoyError if it cannot be started."""
        backoff = Backoff()
        rotating = asyncio.create_task(self._rotate())
        try:
            while not self._stopping.is_set():
                self._child = await self._adopt() or await self._start()
                if self._stopping.is_set():  # asked to stop while it was being started
                    await end_child(self._child, _END_SECONDS)
                    break
                began = time.monotonic()
                await self._watch(self._child)
                if self._stopping.is_set():
                    break
                self.adopted = False
                self.restarts += 1
                self.state.publish(EnvoyState.FAILED)
                wait, backoff = backoff.after(time.monotonic() - began, self._chance())
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), wait)
        finally:
            rotating.cancel()
            self.state.publish(EnvoyState.STOPPED)
            await self.admin.close()

    async def wait_ready(self, seconds: float) -> None:
        """Return once it serves its configuration. EnvoyError, with its last words, if it does not within `seconds`."""
        ready = asyncio.Event()
        unsubscribe = self.state.subscribe(lambda state: ready.set() if state is EnvoyState.READY else None)
        try:
            if self.state.value is not EnvoyState.READY:
                await asyncio.wait_for(ready.wait(), seconds)
        except TimeoutError as error:
            raise EnvoyError(await self._explain(seconds)) from error
        finally:
            unsubscribe()

    async def stop(self, *, linger: float = 0.0) -> None:
        """Drain and end it; `run` returns.

        It takes new connections for `linger` seconds more at least, then waits for open ones, within the drain time.
        """
        self._stopping.set()
        child = self._child
        if child is None or child.returncode is not None:
            return
        if self.state.value is EnvoyState.READY:
            self.state.publish(EnvoyState.DRAINING)
            await self._drain(child, linger)
        await end_child(child, _END_SECONDS)

    async def _adopt(self) -> Child | None:
        child = self._sandbox.children.get(self.settings.name)
        if child is None:
            return None
        if child.note == self.settings.digest:
            self.adopted = True
            return child
        await self._drain(child, 0.0)
        await end_child(child, _END_SECONDS)
        return None

    async def _start(self) -> Child:
        settings = self.settings
        private_folder(settings.folder)
        write_private(settings.folder / "bootstrap.json", settings.bootstrap.encode())
        settings.admin_socket.unlink(missing_ok=True)
        settings.log.parent.mkdir(parents=True, exist_ok=True)
        command = Command(
            argv=settings.argv,
            env=FrozenMap({**settings.environment, "PATH": os.environ.get("PATH", os.defpath), "TZ": "UTC0"}),
            log=settings.log,
            enters=True,
            note=settings.digest,
        )
        return await self._sandbox.spawn(settings.name, command)

    async def _watch(self, child: Child) -> None:
        """Tell when it becomes ready; return when it has ended."""
        self.state.publish(EnvoyState.STARTING)
        ended = asyncio.create_task(child.wait())
        try:
            while not ended.done() and not self._stopping.is_set():
                # a question to nobody costs a millisecond, of which a host with many Envoys to start has none to spare
                if self.settings.admin_socket.exists() and await self.admin.state() == "LIVE":
                    self.state.publish(EnvoyState.READY)
                    await self._probe(child, ended)
                    break
                await asyncio.wait([ended], timeout=_READY_INTERVAL)
            await ended
        finally:
            ended.cancel()

    async def _probe(self, child: Child, ended: asyncio.Task[int]) -> None:
        """Go on asking until it ends or is stopped: one that hangs is not ready, and is killed if it goes on so."""
        answered = time.monotonic()
        wait = self.settings.probe_seconds
        while not ended.done() and not self._stopping.is_set():
            await asyncio.wait([ended], timeout=wait)
            if ended.done() or self._stopping.is_set():
                return
            live = await self.admin.state() == "LIVE"
            if self._stopping.is_set():
                return
            if live:
                answered, wait = time.monotonic(), self.settings.probe_seconds
                self.state.publish(EnvoyState.READY)
            elif wait == self.settings.probe_seconds:
                wait = _AGAIN_SECONDS  # once is none: it may have had much to do
            else:
                self._suspect()
                if time.monotonic() - answered > self.settings.hung_seconds:
                    _LOG.error("envoy-hung", extra={"envoy": self.settings.name, "seconds": self.settings.hung_seconds})
                    await child.signal(signal.SIGKILL)
                    return

    def _suspect(self) -> None:
        if self.state.value is EnvoyState.READY:
            _LOG.warning("envoy-unresponsive", extra={"envoy": self.settings.name})
            self.state.publish(EnvoyState.UNRESPONSIVE)

    async def _drain(self, child: Child, linger: float) -> None:
        allowed = self.settings.drain_seconds if self.settings.stop_seconds is None else self.settings.stop_seconds
        deadline = time.monotonic() + allowed
        with contextlib.suppress(UnavailableError, EnvoyError):
            await self.admin.begin_drain()
            await asyncio.sleep(min(linger, allowed))
            while child.returncode is None and time.monotonic() < deadline:
                if await self.admin.open_work() == 0:
                    return
                await asyncio.sleep(0.05)

    async def _rotate(self) -> None:
        while True:
            await asyncio.sleep(_ROTATE_SECONDS)
            rotate_log(self.settings.log)

    async def _explain(self, seconds: float) -> str:
        state = await self.admin.state() or "not answering"
        words = read_tail(self.settings.log).strip()
        last = f"; its log ends: {words}" if words else ""
        return f"{self.settings.name} is not ready after {seconds:g} s ({state}, {self.restarts} restarts){last}"
