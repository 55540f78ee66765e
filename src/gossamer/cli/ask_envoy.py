"""What Envoy has against the EnvoyFilters and extensions of files, asked as the control plane asks.

Invariant: no module is fetched: what is judged is what the files say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gossamer.api.config import Config
from gossamer.api.load import Loaded
from gossamer.api.source_index import placed
from gossamer.core.diagnostics import Diagnostics
from gossamer.core.errors import EnvoyError
from gossamer.core.memo import Memo
from gossamer.model.build_endpoints import build_endpoints
from gossamer.model.mesh import build_mesh
from gossamer.model.modules import Modules
from gossamer.node.binary import find_envoy
from gossamer.plane.admission import Admission, candidates_of, with_candidates
from gossamer.plane.envoy_check import EnvoyCheck, Trial
from gossamer.plane.gate import Gate
from gossamer.plane.trials import trials_of

LIMIT_S: Final = 60.0
"""How long all of it may take."""


def ask_envoy(loaded: Loaded) -> Diagnostics:
    """What the installed Envoy refuses of their EnvoyFilters and extensions; nothing where there is none to ask."""
    try:
        envoy = find_envoy()
    except EnvoyError:
        return ()
    return placed(asyncio.run(_judged(loaded, envoy)), loaded.index)


async def _judged(loaded: Loaded, envoy: Path) -> Diagnostics:
    memo = Memo()
    plain, _ = with_candidates(loaded.config, {})
    endpoints = build_endpoints(loaded.config, (), build_mesh(plain, memo), memo)

    def trials(config: Config, modules: Modules) -> Iterator[tuple[Trial, Trial]]:
        return trials_of(config, modules, endpoints, (), memo)

    wanted = candidates_of(loaded.config, Modules(), loaded.index)
    try:
        async with asyncio.timeout(LIMIT_S):
            judged = await Gate(EnvoyCheck(envoy=envoy), trials).judge(loaded.config, wanted, Admission())
    except TimeoutError:
        return ()
    return judged.diagnostics
