"""The control plane's judging: modules are fetched and new EnvoyFilters and extensions tried, beside the pushes.

Invariant: a push never waits for it. Before the first push it is waited for, within a bound, so that a control plane
that starts does not for a moment tell proxies a mesh without the patches that they had.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gossamer.api.config import Config
from gossamer.model.modules import Modules
from gossamer.model.proxy import Proxy
from gossamer.plane.download import Access
from gossamer.plane.envoy_check import EnvoyCheck, Trial
from gossamer.plane.gate import Gate
from gossamer.plane.modules import ModuleStore
from gossamer.plane.pipeline import Pipeline

_LOG = logging.getLogger(__name__)

FIRST_S: Final = 20.0
"""How long a control plane that starts waits for modules and for Envoy's verdict."""
AGAIN_S: Final = 3.0
"""How often, at most, what was taken is tried again because something around it changed."""


@dataclass(slots=True, kw_only=True)
class Judging:
    """Keeps a pipeline's admission up to date. `rebuild` makes the newest build anew; `changed` asks for a push."""

    pipeline: Pipeline
    envoy: Path | None
    state: Path
    running: Callable[[], Iterable[Proxy]]
    rebuild: Callable[[], None]
    changed: Callable[[], None]
    private_redirects: bool = False
    """Whether who has modules may lead to private addresses."""
    store: ModuleStore = field(init=False)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _gate: Gate | None = field(init=False)
    _tried: float = 0.0

    def __post_init__(self) -> None:
        self.store = ModuleStore(
            folder=self.state / "modules",
            changed=self._module_changed,
            access=Access(private_redirects=self.private_redirects),
        )
        self._gate = None
        if self.envoy is not None and self.pipeline.admission is not None:
            self._gate = Gate(EnvoyCheck(envoy=self.envoy), self._trials)

    def built(self) -> None:
        """The pipeline has built anew: there may be something to fetch, and to judge."""
        if self.pipeline.loaded is not None:
            self.store.want(self.pipeline.loaded.config)
            self.pipeline.notices = self.store.diagnostics(self.pipeline.loaded.config)
        if self._gate is not None and self.pipeline.wanted:
            self._wake.set()

    async def first(self) -> None:
        """Fetch and judge what there is, before anybody is told anything."""
        self.built()
        try:
            async with asyncio.timeout(FIRST_S):
                if self.store.missing:
                    await self.store.fetch(self.store.missing)
                    self.rebuild()
                if await self._judge():
                    self.rebuild()
        except TimeoutError:
            _LOG.warning("not-judged-in-time", extra={"seconds": FIRST_S})
        except Exception:
            _LOG.exception("judging-failed")

    async def follow(self) -> None:
        """Go on with it until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.store.follow())
            group.create_task(self._follow_judging())

    async def _follow_judging(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if not self.pipeline.unjudged:
                await asyncio.sleep(max(self._tried + AGAIN_S - time.monotonic(), 0))
            try:
                if await self._judge():
                    self.changed()
            except Exception:
                _LOG.exception("judging-failed")  # pushes go on with what is in force

    async def _judge(self) -> bool:
        """Judge once; returns whether something is in force now that was not, or the other way round."""
        admission, loaded = self.pipeline.admission, self.pipeline.loaded
        if self._gate is None or admission is None or loaded is None or not (self.pipeline.wanted or admission.taken):
            return False
        self._tried = time.monotonic()
        wanted = self.pipeline.wanted
        judged = await self._gate.judge(loaded.config, wanted, admission)
        if judged == admission:
            return False
        self.pipeline.admission = judged
        _LOG.info(
            "judged",
            extra={
                "taken": sorted(str(id_) for id_ in judged.taken),
                "refused": sorted(str(id_) for id_ in judged.refused),
                "judge_ms": round((time.monotonic() - self._tried) * 1000, 1),
            },
        )
        return True

    def _trials(self, config: Config, modules: Modules) -> Iterator[tuple[Trial, Trial]]:
        return self.pipeline.trials(config, modules, self.running())

    def _module_changed(self) -> None:
        self.pipeline.modules = self.store.modules
        self.changed()
