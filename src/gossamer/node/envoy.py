"""One Envoy's life: started, watched, started again, drained and ended.

Invariant: at most one Envoy serves under a name, whatever agents come and go: one that an earlier agent left is adopted
if it was started in the same way, and exchanged if not: by one that takes its sockets over where that can be, else by
draining and starting.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Final

from gossamer.ca.files import private_folder, write_private
from gossamer.core.errors import EnvoyError, GossamerError, UnavailableError
from gossamer.core.frozen import FrozenMap
from gossamer.core.latest import Latest
from gossamer.node.backoff import Backoff
from gossamer.node.envoy_admin import Admin
from gossamer.node.envoy_settings import EnvoySettings
from gossamer.node.exchange import take_over
from gossamer.node.hot_restart import Generation, first_generation, read_note, write_note
from gossamer.node.log_file import read_tail, rotate_log
from gossamer.node.sandbox import Child, Command, Sandbox, end_child

_LOG = logging.getLogger(__name__)
_END_SECONDS: Final = 2.0
_ROTATE_SECONDS: Final = 10.0
_READY_INTERVAL: Final = 0.02
_AGAIN_SECONDS: Final = 0.5


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


class Envoy:
    """Keeps one Envoy running. `chance` returns numbers in [0, 1) that spread the restarts of many."""

    def __init__(self, sandbox: Sandbox, settings: EnvoySettings, chance: Callable[[], float]) -> None:
        self.settings = settings
        self.admin = Admin(settings.admin_socket)
        self.state = Latest(EnvoyState.STOPPED)
        self.restarts = 0
        self.adopted = False
        """Whether the Envoy that runs was started by an earlier agent."""
        self.version = ""
        """Of the Envoy that runs, once it serves."""
        self.sandbox = sandbox
        self.generation: Generation | None = None
        """Of the Envoy that runs; None for one that cannot be followed."""
        self.before: Child | None = None
        """The one that it took over from, until that has ended."""
        self.stopping = asyncio.Event()
        self._chance = chance
        self._child: Child | None = None
        self._outdated = False
        self._succeeded = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()

    @property
    def pid(self) -> int:
        """Process id on the host, 0 when it does not run."""
        return self._child.pid if self._child is not None and self._child.returncode is None else 0

    async def run(self) -> None:
        """Keep it running until `stop`. UnavailableError if the warden is gone, EnvoyError if it cannot be started."""
        backoff = Backoff()
        rotating = asyncio.create_task(self._rotate())
        try:
            self._child = await self._adopt()
            while not self.stopping.is_set():
                child = self._child = self._child or await self._start()
                if self.stopping.is_set():  # asked to stop while it was being started
                    await end_child(child, _END_SECONDS)
                    break
                began = time.monotonic()
                await self._follow(child)
                if self.stopping.is_set():
                    break
                self.adopted = False
                self.restarts += 1
                self.state.publish(EnvoyState.FAILED)
                self._child = None
                wait, backoff = backoff.after(time.monotonic() - began, self._chance())
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.stopping.wait(), wait)
        finally:
            rotating.cancel()
            self.state.publish(EnvoyState.STOPPED)
            await self.admin.close()

    async def exchange(self, settings: EnvoySettings, shutdown_seconds: int = 0) -> None:
        """Replace it by an Envoy that is started as `settings` say, and return once that serves: it takes listening
        sockets over, so no connection is refused; open ones have `shutdown_seconds` to end, the drain time at least.

        EnvoyError if that cannot be, or it does not serve in time: the one that runs goes on.
        """
        await take_over(self, settings, shutdown_seconds)

    @contextmanager
    def exchanging(self) -> Iterator[None]:
        """Nobody judges the Envoy that runs meanwhile: its admin interface is the first thing that it gives up."""
        self._settled.clear()
        try:
            yield
        finally:
            self._settled.set()

    async def succeed(self, child: Child, settings: EnvoySettings, generation: Generation) -> None:
        """From here on `child` is the one that runs."""
        await self._learn_version()
        self.before, self._child = self._child, child
        self.settings, self.generation, self.adopted = settings, generation, False
        self._succeeded.set()

    async def launch(self, settings: EnvoySettings, generation: Generation | None, shutdown_seconds: int = 0) -> Child:
        """Start a process beside those that run. CaptureError if it cannot be started."""
        private_folder(settings.folder)
        if settings.restarts_in is not None:
            private_folder(settings.restarts_in)
        write_private(settings.folder / "bootstrap.json", settings.bootstrap.encode())
        settings.log.parent.mkdir(parents=True, exist_ok=True)
        command = Command(
            argv=settings.command_line(generation, shutdown_seconds),
            env=FrozenMap({**settings.environment, "PATH": os.environ.get("PATH", os.defpath), "TZ": "UTC0"}),
            log=settings.log,
            enters=True,
            note=write_note(settings.digest, generation),
        )
        name = next(name for name in _names(settings.name) if name not in self.sandbox.children)
        return await self.sandbox.spawn(name, command)

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
        self.stopping.set()
        child = self._child
        if child is None or child.returncode is not None:
            return
        if self.state.value is EnvoyState.READY:
            self.state.publish(EnvoyState.DRAINING)
            await self._drain(child, linger)
        await end_child(child, _END_SECONDS)
        await self._end_before()

    async def _adopt(self) -> Child | None:
        found = running_envoys(self.sandbox, self.settings.name)
        if not found:
            return None
        child, self.before = found[0], found[1] if len(found) > 1 else None
        digest, self.generation = read_note(child.note)
        if digest == self.settings.digest or (self.generation and self.settings.restarts_in):
            self.adopted, self._outdated = True, digest != self.settings.digest
            return child
        await self._replace(child)
        return None

    async def _start(self) -> Child:
        await self._end_before()
        settings = self.settings
        settings.admin_socket.unlink(missing_ok=True)
        if settings.restarts_in is None:
            self.generation = None
        elif self.generation is None:
            self.generation = first_generation(settings.restarts_in, self._chance)
        else:
            self.generation = Generation(base=self.generation.base)
        return await self.launch(settings, self.generation)

    async def _end_before(self) -> None:
        if self.before is not None and self.before.returncode is None:
            await end_child(self.before, _END_SECONDS)
        self.before = None

    async def _replace(self, child: Child) -> None:
        await self._drain(child, 0.0)
        await end_child(child, _END_SECONDS)

    async def _follow(self, child: Child) -> None:
        """Watch it, and whoever takes over from it; return when the last has ended, or all is to be stopped."""
        while True:
            await self._watch(child)
            await self._settled.wait()
            if self._child is None or self._child is child:
                return
            child = self._child
            self._succeeded.clear()

    async def _over(self, child: Child) -> None:
        """Return when it has ended, or another has taken over."""
        ended, succeeded = asyncio.create_task(child.wait()), asyncio.create_task(self._succeeded.wait())
        try:
            await asyncio.wait([ended, succeeded], return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                ended.result()
        finally:
            ended.cancel()
            succeeded.cancel()

    async def _watch(self, child: Child) -> None:
        """Tell when it becomes ready; return when it has ended, or another has taken over."""
        if self.state.value is not EnvoyState.READY:  # who takes over serves already
            self.state.publish(EnvoyState.STARTING)
        ended = asyncio.create_task(self._over(child))
        try:
            while not ended.done() and not self.stopping.is_set():
                # a question to nobody costs a millisecond, of which a host with many Envoys to start has none to spare
                if self.settings.admin_socket.exists() and await self.admin.state() == "LIVE":
                    await self._learn_version()
                    self.state.publish(EnvoyState.READY)
                    updating = asyncio.create_task(self._update(child)) if self._outdated else None
                    await self._probe(child, ended)
                    await asyncio.gather(*([updating] if updating else ()))
                    break
                await asyncio.wait([ended], timeout=_READY_INTERVAL)
            await ended
        finally:
            ended.cancel()

    async def _learn_version(self) -> None:
        with contextlib.suppress(UnavailableError, EnvoyError):
            self.version = version_of(str((await self.admin.server_info()).get("version", "")))

    async def _update(self, child: Child) -> None:
        """Exchange one that an earlier agent started in another way."""
        self._outdated = False
        try:
            await self.exchange(self.settings)
        except GossamerError as error:
            if not self.stopping.is_set():
                _LOG.warning("envoy-replaced", extra={"envoy": self.settings.name, "reason": str(error)})
                await self._replace(child)

    async def _probe(self, child: Child, ended: asyncio.Task[None]) -> None:
        """Go on asking until it ends or is stopped: one that hangs is not ready, and is killed if it goes on so."""
        answered = time.monotonic()
        wait = self.settings.probe_seconds
        while not ended.done() and not self.stopping.is_set():
            await asyncio.wait([ended], timeout=wait)
            if ended.done() or self.stopping.is_set():
                return
            if not self._settled.is_set():
                answered = time.monotonic()
                continue
            live = await self.admin.state() == "LIVE"
            if self.stopping.is_set() or ended.done():
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


def running_envoys(sandbox: Sandbox, name: str) -> list[Child]:
    """The processes that run under a sidecar's name: the one that serves, and before its end the one before it."""
    found = [sandbox.children[one] for one in _names(name) if one in sandbox.children]

    def age(child: Child) -> tuple[int, float]:
        generation = read_note(child.note)[1]
        return (-generation.epoch if generation else 0, -child.started)

    return sorted(found, key=age)


def version_of(text: str) -> str:
    """`1.40.0` of what Envoy says of its build: `COMMIT/1.40.0/Clean/RELEASE/BoringSSL`."""
    parts = text.split("/")
    return parts[1] if len(parts) > 2 else ""


def _names(name: str) -> tuple[str, str]:
    """Of two processes that follow each other one has the name, and the other nearly."""
    return (name, f"{name} 2")
