"""Which proxies a resource with `targetRefs` is for.

Invariant: a reference reaches the gateways that serve its Gateway, in its own namespace (in all, for a GatewayClass
that the root namespace names). What Istio gives to waypoints (Service, ServiceEntry) reaches no proxy here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from gossamer.api.common import PolicyTargetReference
from gossamer.model.build_policies import GATEWAY_CLASS, GATEWAY_NAME
from gossamer.model.proxy import Proxy, ProxyType

_GATEWAY_GROUP: Final = "gateway.networking.k8s.io"


def is_attached(references: Iterable[PolicyTargetReference], namespace: str, proxy: Proxy, root: str) -> bool:
    """Whether one of a resource's references is to what this proxy serves."""
    if proxy.type is not ProxyType.ROUTER:
        return False
    serves = (proxy.labels.get(GATEWAY_NAME), "Gateway", namespace == proxy.namespace)
    is_of = (proxy.labels.get(GATEWAY_CLASS), "GatewayClass", namespace == root)
    return any(
        reference.group == _GATEWAY_GROUP and reference.kind == kind and reference.name == name and reaches
        for reference in references
        for name, kind, reaches in (serves, is_of)
    )
