"""One Envoy takes over from another while connections go on: Envoy's hot restart, asked for and watched.

The one that comes is given the listening sockets of the one that goes, and tells it to drain once it serves. It costs
a second process for as long as the old one drains. Invariant: unless the new one serves, the old one does.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from typing import TYPE_CHECKING, Final

from gossamer.ca.files import write_private
from gossamer.core.errors import CaptureError, EnvoyError, GossamerError, UnavailableError
from gossamer.node.envoy_settings import EnvoySettings
from gossamer.node.hot_restart import Generation, first_generation
from gossamer.node.log_file import read_tail
from gossamer.node.sandbox import Child, Command, end_child

if TYPE_CHECKING:
    from gossamer.node.envoy import Envoy

SERVES_WITHIN: Final = 30.0
"""Seconds that a new Envoy has to serve; after them the old one goes on."""
_ASKED_SECONDS: Final = 10.0
_END_SECONDS: Final = 2.0
_INTERVAL: Final = 0.03


async def take_over(envoy: Envoy, settings: EnvoySettings, shutdown_seconds: int) -> None:
    """Have an Envoy started as `settings` say take over from the one that runs. EnvoyError as `Envoy.exchange` says."""
    generation = await _following(envoy, settings)
    with envoy.exchanging():
        problem = await _try(envoy, settings, generation, shutdown_seconds)
        if problem and not envoy.stopping.is_set():
            envoy.generation = None  # the lock that they share says for ever that one is about to take over
            if not await envoy.admin.state():
                problem += await _recover(envoy)
    if problem:
        raise EnvoyError(problem)


async def _recover(envoy: Envoy) -> str:
    """One that has given its admin interface up for nothing cannot be looked after: another like it, that shares its
    ports, takes its place, and what is open is cut. Returns what happened."""
    assert envoy.settings.restarts_in is not None
    generation = first_generation(envoy.settings.restarts_in, random.random)
    if problem := await _try(envoy, envoy.settings, generation, 0):
        return f"; nor does one like the old one start: {problem}"
    if envoy.before is not None:
        await end_child(envoy.before, _END_SECONDS)
    return "; the old one was restarted, and what was open cut"


async def _following(envoy: Envoy, settings: EnvoySettings) -> Generation:
    """What the next one is to be. EnvoyError if there can be none."""
    name = settings.name
    if envoy.before is not None and envoy.before.returncode is None:
        raise EnvoyError(f"{name} was exchanged a moment ago, and the one before it still drains: try again later")
    generation = envoy.generation
    if generation is None or settings.restarts_in is None:
        raise EnvoyError(f"{name} was started without hot restart: it is exchanged by restarting its workload")
    try:
        info = await envoy.admin.server_info()
    except UnavailableError as error:
        raise EnvoyError(f"{name} does not serve now: {error}") from error
    runs, comes = str(info.get("hot_restart_version", "")), await _hot_restart_version(envoy, settings)
    if runs != comes:
        raise EnvoyError(
            f"{settings.binary} cannot take over from the Envoy that runs: its hot restart is version "
            f"{comes or 'none'}, and {runs} is wanted. Restart the workload to run it"
        )
    await _validate(envoy, settings)
    return generation.next


async def _hot_restart_version(envoy: Envoy, settings: EnvoySettings) -> str:
    """What a binary says of itself; empty for one that says nothing of the kind."""
    code, said = await _ask(envoy, settings, "--hot-restart-version")
    return said if code == 0 and len(said.split()) == 1 else ""


async def _validate(envoy: Envoy, settings: EnvoySettings) -> None:
    """EnvoyError if a binary would not start with its bootstrap: better known before it has asked for anything."""
    path = settings.folder / "wanted.json"
    write_private(path, settings.bootstrap.encode())
    code, said = await _ask(envoy, settings, "--mode", "validate", "--config-path", str(path), "--log-level", "error")
    if code:
        raise EnvoyError(f"{settings.binary} would not start: {said[-1000:] or f'it ends with code {code}'}")


async def _ask(envoy: Envoy, settings: EnvoySettings, *words: str) -> tuple[int, str]:
    """Exit code and output of a binary; code 1 if it takes too long. EnvoyError if it cannot be started."""
    log = settings.folder / "said"
    log.unlink(missing_ok=True)
    command = Command(argv=(str(settings.binary), *words), env=settings.environment, log=log, enters=True)
    try:
        child = await envoy.sandbox.spawn(f"{settings.name} asked", command)
    except CaptureError as error:
        raise EnvoyError(str(error)) from error
    try:
        async with asyncio.timeout(_ASKED_SECONDS):
            code = await child.wait()
    except TimeoutError:
        await end_child(child, 0.1)
        return 1, f"no answer within {_ASKED_SECONDS:g} s"
    return code, read_tail(log).strip()


async def _try(envoy: Envoy, settings: EnvoySettings, generation: Generation, shutdown_seconds: int) -> str:
    """Start one and wait until it serves; empty, or what is wrong (and then it has ended)."""
    try:
        child = await envoy.launch(settings, generation, shutdown_seconds)
    except GossamerError as error:
        return str(error)
    try:
        problem = await _serves(envoy, child, generation)
    except BaseException:
        await end_child(child, _END_SECONDS)
        raise
    if problem:
        await end_child(child, _END_SECONDS)
        words = read_tail(settings.log, size=1024).strip()
        return f"{problem}; the log ends: {words}" if words else problem
    await envoy.succeed(child, settings, generation)
    return ""


async def _serves(envoy: Envoy, child: Child, generation: Generation) -> str:
    """Empty once it does, and with that the one before it drains."""
    deadline = time.monotonic() + SERVES_WITHIN
    while time.monotonic() < deadline:
        if envoy.stopping.is_set():
            return f"{child.name} is being stopped"
        if child.returncode is not None:
            return f"the new Envoy ended with code {child.returncode} before it served; the old one goes on"
        with contextlib.suppress(UnavailableError, EnvoyError, ValueError):
            info = await envoy.admin.server_info()
            if info.get("state") == "LIVE" and info["command_line_options"].get("restart_epoch", 0) == generation.epoch:
                return ""
        await asyncio.sleep(_INTERVAL)
    return f"the new Envoy did not serve within {SERVES_WITHIN:g} s; the old one goes on"
