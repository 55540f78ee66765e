"""Which way of capturing traffic this host allows: tried for real, since no list of features tells the truth.

Invariant: `auto` never fails for want of a privilege; it takes the next way and says why.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Final

from gossamer.core.errors import CaptureError
from gossamer.core.frozen import FrozenMap
from gossamer.model.proxy import CaptureMode
from gossamer.node.sandbox import Command, Isolation, Network, Sandbox, SandboxSettings, open_sandbox
from gossamer.node.sandbox_spawn import HOSTS

_PROBE: Final = "probe"
_NAMES: Final = {
    Isolation.ROOT: "transparent (root)",
    Isolation.USER: "transparent (user namespace)",
    Isolation.NONE: "explicit",
}


class Way(StrEnum):
    """What a user may ask for."""

    AUTO = "auto"
    TRANSPARENT = "transparent"
    EXPLICIT = "explicit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A way that was tried and did not work, and the reason."""

    isolation: Isolation
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The way taken, and those that were not possible; `nameless` is why applications in explicit capture cannot be
    given the names of services (empty: they can)."""

    isolation: Isolation
    attempts: tuple[Attempt, ...] = ()
    nameless: str = ""

    @property
    def mode(self) -> CaptureMode:
        return CaptureMode.EXPLICIT if self.isolation is Isolation.NONE else CaptureMode.TRANSPARENT

    def __str__(self) -> str:
        failures = "".join(f"; not {_NAMES[attempt.isolation]}: {attempt.reason}" for attempt in self.attempts)
        bypass = " (an application could bypass its sidecar)" if self.isolation is Isolation.NONE else ""
        names = f"; names of services do not resolve by themselves: {self.nameless}" if self.nameless else ""
        return f"{_NAMES[self.isolation]}{bypass}{names}{failures}"


async def choose_capture(way: Way, settings: SandboxSettings) -> tuple[Sandbox, Choice]:
    """Open the sandbox in the first way that works; `settings.isolation` is overwritten.

    A warden that runs already is kept as it is. CaptureError, with every reason, if nothing that was asked for works.
    """
    attempts: list[Attempt] = []
    for isolation in _candidates(way):
        try:
            sandbox = await open_sandbox(replace(settings, isolation=isolation))
        except CaptureError as error:
            attempts.append(Attempt(isolation=isolation, reason=str(error)))
            continue
        if sandbox.adopted:
            await _check_adopted(way, sandbox)
            return sandbox, Choice(isolation=sandbox.isolation, nameless=await _without_names(sandbox))
        try:
            if isolation is not Isolation.NONE:
                await _probe(sandbox)
        except CaptureError as error:
            attempts.append(Attempt(isolation=isolation, reason=str(error)))
            await sandbox.close()
            continue
        return sandbox, Choice(isolation=isolation, attempts=tuple(attempts), nameless=await _without_names(sandbox))
    reasons = "; ".join(f"{_NAMES[attempt.isolation]}: {attempt.reason}" for attempt in attempts)
    raise CaptureError(f"this host does not allow {way.value} capture: {reasons}")


def _candidates(way: Way) -> tuple[Isolation, ...]:
    transparent = (Isolation.ROOT, Isolation.USER) if os.geteuid() == 0 else (Isolation.USER,)
    match way:
        case Way.EXPLICIT:
            return (Isolation.NONE,)
        case Way.TRANSPARENT:
            return transparent
        case Way.AUTO:
            return (*transparent, Isolation.NONE)


async def _check_adopted(way: Way, sandbox: Sandbox) -> None:
    if way is not Way.AUTO and (sandbox.isolation is Isolation.NONE) != (way is Way.EXPLICIT):
        running = _NAMES[sandbox.isolation]
        await sandbox.detach()
        raise CaptureError(f"sidecars run already with {running} capture; stop them before asking for {way.value}")


async def _without_names(sandbox: Sandbox) -> str:
    """Why a program cannot have a hosts file of its own here, empty if it can or needs none."""
    if sandbox.isolation is not Isolation.NONE:
        return ""
    try:
        child = await sandbox.spawn("probe-names", replace(_trial(), hosts=HOSTS))
    except CaptureError as error:
        return str(error).rpartition(": ")[2]
    code = await child.wait()
    return f"programs with a hosts file of their own do not run here (exit code {code})" if code else ""


def _trial() -> Command:
    """A program that does nothing, to see whether it may."""
    program = ("/bin/true",) if Path("/bin/true").exists() else ("true",)
    environment = FrozenMap({"PATH": os.environ.get("PATH", os.defpath)})
    return Command(argv=program, env=environment, log=Path(os.devnull))


async def _probe(sandbox: Sandbox) -> None:
    """Go through all that a workload needs: a network, a confined program, a program that enters."""
    await sandbox.add_network(Network(name=_PROBE))
    confined, entering = await asyncio.gather(
        sandbox.spawn("probe", replace(_trial(), network=_PROBE)),
        sandbox.spawn("probe-entering", replace(_trial(), enters=True)),
    )
    codes = await asyncio.gather(confined.wait(), entering.wait())
    if any(codes):
        raise CaptureError(f"programs do not run inside a sandbox here (exit codes {codes[0]} and {codes[1]})")
    await sandbox.remove_network(_PROBE)
