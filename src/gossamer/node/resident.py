"""A workload that runs without us: processes of the host that are captured by their user.

Nothing is started or ended; its health alone is followed. The invariant of `Application`'s callers holds: it is healthy
or it says why not.
"""

from __future__ import annotations

import asyncio

from gossamer.core.latest import Latest
from gossamer.node.application import ApplicationState
from gossamer.node.health import HealthWatch, Probe
from gossamer.node.sandbox import Command, Sandbox


class Resident:
    """Seen by a sidecar as an application is."""

    pid = 0
    restarts = 0

    def __init__(self, sandbox: Sandbox, name: str, probe: Probe, place: Command, *, well: bool = False) -> None:
        """`well` where an earlier agent had it in the mesh already: until its probe says otherwise."""
        self.state = Latest(ApplicationState.STOPPED)
        self._health = HealthWatch(sandbox, probe, name, place)
        self._stopping = asyncio.Event()
        self._well = well

    @property
    def problem(self) -> str:
        return self._health.problem

    async def run(self) -> int:
        """Follow its health until `stop`; returns 0."""
        self.state.publish(ApplicationState.HEALTHY if self._well else ApplicationState.STARTING)
        following = asyncio.create_task(self._health.follow(self._tell, well=self._well))
        try:
            await self._stopping.wait()
        finally:
            following.cancel()
            self.state.publish(ApplicationState.STOPPED)
        return 0

    async def stop(self) -> None:
        """Let go of it; `run` returns."""
        self._stopping.set()

    def _tell(self, well: bool) -> None:
        self.state.publish(ApplicationState.HEALTHY if well else ApplicationState.UNHEALTHY)
