"""A change on its way to the proxies: built once, compiled and sent, and how long that took told.

Changes that come while it works are taken together by the next turn.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from gossamer.core.diagnostics import Diagnostic
from gossamer.plane.pipeline import Pipeline
from gossamer.plane.proxies import Proxies, Refreshed
from gossamer.plane.tuning import settle_heap
from gossamer.xds.service import Service

_LOG = logging.getLogger(__name__)

_PASSING = frozenset({"selects-nothing"})
"""True as long as the workloads that are meant do not run: shown to who asks, and no event."""
PREPARED = 32
"""Namespaces that are compiled for before anybody of them connects."""
PATIENCE_S = 5.0
"""How long the report of a push waits for proxies that read slowly."""
MUCH_S = 0.2
"""Work of a push after which the heap is set aside anew: a small mesh never needs it."""


@dataclass(slots=True, kw_only=True)
class Pushing:
    """Follows `changed`; `build` reads the newest of everything into the pipeline."""

    changed: asyncio.Event
    pipeline: Pipeline
    proxies: Proxies
    xds: Service
    build: Callable[[], None]
    _told: frozenset[Diagnostic] = frozenset()

    async def prepare(self) -> None:
        """Compile for namespaces before anybody of them connects."""
        began = time.perf_counter()
        await self.proxies.prepare(self.pipeline.namespaces[:PREPARED])
        _settle_after(time.perf_counter() - began)

    async def follow(self) -> None:
        """Push what changed, again and again, until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self.changed.wait()
                self.changed.clear()
                began = time.perf_counter()
                self.build()
                built = time.perf_counter()
                refreshed = await self.proxies.refresh()
                self.pipeline.settle()
                group.create_task(self._report(began, built, refreshed))

    async def _report(self, began: float, built: float, refreshed: Refreshed) -> None:
        """Say how a push went, once it is sent or has waited long enough for slow proxies."""
        generation = self.pipeline.generation
        waiting = await self.xds.unsent.none(PATIENCE_S)
        sent = time.perf_counter()
        _LOG.info(
            "config-pushed",
            extra={
                "generation": generation,
                "proxies": refreshed.changed,
                "unsent": waiting,
                "build_ms": round((built - began) * 1000, 1),
                "compile_ms": round(refreshed.seconds * 1000, 1),
                "send_ms": round((sent - built - refreshed.seconds) * 1000, 1),
            },
        )
        self.tell_diagnostics()
        _settle_after(built - began + refreshed.seconds)

    def tell_diagnostics(self) -> None:
        """Log what is wrong with the configuration now, and was not a push ago."""
        found = [one for one in self.pipeline.diagnostics if one.code not in _PASSING]
        for diagnostic in found:
            if diagnostic not in self._told:
                _LOG.warning("diagnostic", extra={"diagnostic": diagnostic.to_json()})
        self._told = frozenset(found)


def _settle_after(seconds: float) -> None:
    if seconds > MUCH_S:
        settle_heap()
