"""What things are called on the wire: Istio's names, which people's tools and habits know."""

from __future__ import annotations

from typing import Final

from gossamer.model.names import server_name
from gossamer.model.view import Target

PASSTHROUGH: Final = "PassthroughCluster"
BLACK_HOLE: Final = "BlackHoleCluster"
FORWARD_PROXY: Final = "DynamicForwardProxyCluster"
VIRTUAL_OUTBOUND: Final = "virtualOutbound"
DNS_PORT: Final = 15053
METADATA: Final = "gossamer"
"""Under this key metadata names the user resources that made a thing."""


def cluster_name(host: str, port: int, subset: str = "") -> str:
    return f"outbound|{port}|{subset}|{host}"


def target_name(target: Target) -> str:
    """The cluster that a target is called by."""
    name = server_name if target.passed_on else cluster_name
    return name(target.host, target.port, target.subset)
