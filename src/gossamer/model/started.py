"""What one Envoy is started with, as the control plane tells agents and agents keep it.

Invariant: a value alone. It imports nothing of what users write, and so an agent, which starts Envoys, does not either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gossamer.core.frozen import EMPTY, FrozenMap, Value
from gossamer.model.proxy import INBOUND_PORT, OUTBOUND_PORT

_NEVER: Final = ("LD_", "GLIBC_", "MALLOC_", "ENVOY_", "GOSSAMER_")
_NEVER_NAMES: Final = frozenset({"PATH", "TZ", "HOME", "TMPDIR", "GCONV_PATH", "LOCPATH", "NLSPATH"})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ProxySettings(Value):
    """What one Envoy is started with. None, empty and 0 leave it at what the agent does by itself."""

    concurrency: int | None = None
    """Worker threads; 0: one for each core."""
    environment: FrozenMap[str, str] = EMPTY
    runtime: FrozenMap[str, str] = EMPTY
    """Envoy's runtime keys."""
    statsd: str = ""
    """HOST:PORT of a statsd server, over UDP."""
    termination_drain_s: float | None = None
    flush_interval_s: float | None = None
    flush_kb: int = 0
    max_connections: int | None = None
    drain_s: int | None = None
    """How long connections have to end when their listener changes."""
    listener_connections: int | None = None
    """Connections that one listener holds at most."""
    outbound_port: int = OUTBOUND_PORT
    inbound_port: int = INBOUND_PORT
    """Where it takes what is captured."""
    readiness_probe: str = ""
    """How a workload that says nothing of it is probed: JSON, as users write it."""


DEFAULT: Final = ProxySettings()


def may_be_set(name: str) -> bool:
    """Whether a proxy's configuration may set this environment variable. Envoy runs on the host: what changes which
    code it loads is not for the mesh's configuration to say."""
    return name not in _NEVER_NAMES and not name.startswith(_NEVER)
