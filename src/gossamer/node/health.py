"""Following a workload's health: asked again and again, from inside its network.

The words and their defaults are those of Kubernetes' and WorkloadGroup's readiness probes. Invariant: what is probed is
well only after it has said so, and unwell again only after it has failed several times in a row.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from gossamer.core.errors import CaptureError, UnavailableError
from gossamer.node.sandbox import Check, Command, Sandbox

_EAGER_SECONDS: Final = 0.05
_PERIOD_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """How to know whether a workload is well: `check` asks over its network; without one, `command` is run where the
    workload runs, and 0 is well. Seconds throughout.

    Without a `period` a workload that starts is asked more often, and later every two seconds.
    """

    check: Check | None = None
    command: tuple[str, ...] = ()
    timeout: float = 1.0
    initial_delay: float = 0.0
    period: float | None = None
    successes: int = 1
    failures: int = 3
    """So many in a row before one that was well is not."""


class HealthWatch:
    """Asks one workload. `place` is a command whose network, user, folder and environment are the workload's."""

    def __init__(self, sandbox: Sandbox, probe: Probe, name: str, place: Command) -> None:
        self.problem = ""
        """What the last question was answered; empty when all was well."""
        self._sandbox = sandbox
        self._probe = probe
        self._name = name
        self._place = place

    async def follow(self, tell: Callable[[bool], None], *, well: bool = False) -> None:
        """Ask until cancelled or the warden has gone, and tell whether it is well whenever that is known anew; `well`
        is what is known of it at first."""
        probe = self._probe
        row, interval = 0, _EAGER_SECONDS
        await asyncio.sleep(probe.initial_delay)
        with contextlib.suppress(UnavailableError):
            while True:
                self.problem = await self._ask()
                row = row + 1 if (not self.problem) != well else 0
                if row >= (probe.failures if well else probe.successes):
                    well, row = not well, 0
                    tell(well)
                if probe.period is None:
                    interval = _PERIOD_SECONDS if well else min(interval * 1.3, _PERIOD_SECONDS)
                await asyncio.sleep(interval if probe.period is None else probe.period)

    async def _ask(self) -> str:
        if self._probe.check is not None:
            return await self._sandbox.check(self._probe.check, self._place.network)
        return await self._run()

    async def _run(self) -> str:
        program = self._probe.command[0]
        command = replace(self._place, argv=self._probe.command, log=Path(os.devnull), note="")
        try:
            child = await self._sandbox.spawn(f"probe {self._name}", command)
        except CaptureError as error:
            return str(error)
        try:
            async with asyncio.timeout(self._probe.timeout):
                code = await child.wait()
        except TimeoutError:
            return f"{program} did not end within {self._probe.timeout:g} s"
        finally:
            if child.returncode is None:
                with contextlib.suppress(UnavailableError):
                    await asyncio.shield(child.signal(signal.SIGKILL))
        return f"{program} ended with exit code {code}" if code else ""
