"""A sidecar's Envoy is exchanged for what is wanted now: another binary, or settings that have changed meanwhile.

Invariant: nothing is cut that could end by itself within the time it is given.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from gossamer.core.errors import EnvoyError
from gossamer.node.host import Host
from gossamer.node.sidecar import Sidecar
from gossamer.node.sidecar_settings import envoy_settings

_LOG = logging.getLogger(__name__)
_TOLD_S: Final = 1.0
"""How long the control plane is waited for, to hear how it wants the Envoy; it may be away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchanged:
    """How an exchange went."""

    before: str
    """Version of the Envoy that ran, and of the one that runs."""
    now: str
    pid: int


async def exchange_envoy(
    host: Host, sidecar: Sidecar, binary: Path | None = None, shutdown_seconds: int = 0
) -> Exchanged:
    """Have `binary` (the agent's own if None) take over, started as the control plane wants it now, and return once it
    serves. Open connections have `shutdown_seconds` to end, the drain time at least. EnvoyError if it cannot be."""
    envoy, captured, socket = sidecar.envoy, sidecar.captured, sidecar.socket
    if envoy is None or captured is None or socket is None or not sidecar.ready.is_set():
        raise EnvoyError(
            f"{sidecar.spec.namespace}/{sidecar.spec.name} does not serve yet: there is nothing to exchange"
        )
    host.registration.repeat(sidecar.spec.key)
    await host.registration.told(_TOLD_S)
    settings = envoy_settings(host, sidecar.spec, captured, sidecar.readiness, socket)
    before = envoy.version
    await envoy.exchange(replace(settings, binary=binary or host.settings.envoy), shutdown_seconds)
    found = Exchanged(before=before, now=envoy.version, pid=envoy.pid)
    _LOG.info("envoy-exchanged", extra={"workload": sidecar.spec.slug, "before": before, "now": found.now})
    return found
