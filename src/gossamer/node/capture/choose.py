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
    """The way taken, and those that were not possible."""

    isolation: Isolation
    attempts: tuple[Attempt, ...] = ()

    @property
    def mode(self) -> CaptureMode:
        return CaptureMode.EXPLICIT if self.isolation is Isolation.NONE else CaptureMode.TRANSPARENT

    def __str__(self) -> str:
        failures = "".join(f"; not {_NAMES[attempt.isolation]}: {attempt.reason}" for attempt in self.attempts)
        bypass = " (an application could bypass its sidecar)" if self.isolation is Isolation.NONE else ""
        return f"{_NAMES[self.isolation]}{bypass}{failures}"


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
            return sandbox, Choice(isolation=sandbox.isolation)
        try:
            if isolation is not Isolation.NONE:
                await _probe(sandbox)
        except CaptureError as error:
            attempts.append(Attempt(isolation=isolation, reason=str(error)))
            await sandbox.close()
            continue
        return sandbox, Choice(isolation=isolation, attempts=tuple(attempts))
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


async def _probe(sandbox: Sandbox) -> None:
    """Go through all that a workload needs: a network, a confined program, a program that enters."""
    program = ("/bin/true",) if Path("/bin/true").exists() else ("true",)
    environment = FrozenMap({"PATH": os.environ.get("PATH", os.defpath)})
    log = Path(os.devnull)
    await sandbox.add_network(Network(name=_PROBE))
    confined, entering = await asyncio.gather(
        sandbox.spawn("probe", Command(argv=program, env=environment, log=log, network=_PROBE)),
        sandbox.spawn("probe-entering", Command(argv=program, env=environment, log=log, enters=True)),
    )
    codes = await asyncio.gather(confined.wait(), entering.wait())
    if any(codes):
        raise CaptureError(f"programs do not run inside a sandbox here (exit codes {codes[0]} and {codes[1]})")
    await sandbox.remove_network(_PROBE)
