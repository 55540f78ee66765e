"""What MeshConfig and its defaults say about the whole mesh, resolved once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshSettings:
    """Mesh-wide settings. Durations are seconds."""

    root_namespace: str = "istio-system"
    trust_domain: str = "cluster.local"
    trust_domain_aliases: tuple[str, ...] = ()
    domain: str = "cluster.local"
    registry_only: bool = False
    """outboundTrafficPolicy: REGISTRY_ONLY instead of ALLOW_ANY."""
    auto_mtls: bool = True
    connect_timeout: float = 10.0
    access_log: str = ""
