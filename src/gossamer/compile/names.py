"""What things are called on the wire: Istio's names, which people's tools and habits know."""

from __future__ import annotations

from typing import Final

from gossamer.model.view import Target

PASSTHROUGH: Final = "PassthroughCluster"
BLACK_HOLE: Final = "BlackHoleCluster"
FORWARD_PROXY: Final = "DynamicForwardProxyCluster"
VIRTUAL_OUTBOUND: Final = "virtualOutbound"
OUTBOUND_PORT: Final = 15001
DNS_PORT: Final = 15053
METADATA: Final = "gossamer"
"""Under this key metadata names the user resources that made a thing."""


def cluster_name(host: str, port: int, subset: str = "") -> str:
    return f"outbound|{port}|{subset}|{host}"


def target_name(target: Target) -> str:
    """The cluster that a target is called by."""
    return cluster_name(target.host, target.port, target.subset)


def server_name(host: str, port: int, subset: str = "") -> str:
    """SNI of mutual TLS to a service: by it a gateway between networks finds the cluster."""
    return f"outbound_.{port}_.{subset}_.{host}"
