"""Gateways: what each of their servers serves, and which workloads they select.

Invariant: a server's hosts are full names with the namespaces whose VirtualServices may bind to them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gossamer.api.gateway import HTTP3, Gateway, Server, serves_http3
from gossamer.api.resource import Resource
from gossamer.core.frozen import EMPTY, FrozenMap, Value
from gossamer.core.ids import Origin, ResourceId
from gossamer.core.memo import Memo

SERVICES: Final = "internal.istio.io/gateway-service"
"""Annotation on Gateways made from the Kubernetes Gateway API: the services, separated by commas, whose workloads serve
them, in place of a selector."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ServerHost(Value):
    """A host of a server, and the namespace (or `*`) whose VirtualServices may serve it."""

    host: str
    namespace: str = "*"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GatewayServer(Value):
    """`spec.servers[index]` of a Gateway."""

    index: int
    spec: Server
    hosts: tuple[ServerHost, ...]
    origin: Origin
    http3: bool = False
    """Whether HTTP/3 is served beside it, on the same port of UDP."""
    granted: frozenset[str] = frozenset()
    """Credentials of other namespaces that it may have (Kubernetes Gateway API)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GatewayRule(Value):
    """One Gateway. Older ones come before younger ones wherever they are listed."""

    id: ResourceId
    selector: FrozenMap[str, str] = EMPTY
    namespace: str = ""
    """Whose workloads alone it selects; empty for those of every namespace."""
    services: tuple[str, ...] = ()
    servers: tuple[GatewayServer, ...] = ()

    @property
    def name(self) -> str:
        """`namespace/name`, as VirtualServices bind to it."""
        return f"{self.id.namespace}/{self.id.name}"


def build_gateways(resources: tuple[Resource[Gateway], ...], memo: Memo) -> tuple[GatewayRule, ...]:
    """All Gateways, oldest first."""
    return tuple(memo(_gateway, resource) for resource in sorted(resources, key=lambda r: r.age_key))


def _gateway(resource: Resource[Gateway]) -> GatewayRule:
    services = resource.annotations.get(SERVICES, "")
    return GatewayRule(
        id=resource.id,
        selector=resource.spec.selector,
        services=tuple(name.strip() for name in services.split(",") if name.strip()),
        servers=tuple(
            GatewayServer(
                index=index,
                spec=server,
                hosts=tuple(_host(text, resource.namespace) for text in server.hosts),
                origin=Origin(resource=resource.id, rule=f"spec.servers[{index}]"),
                http3=resource.annotations.get(HTTP3) == "true" and serves_http3(server),
            )
            for index, server in enumerate(resource.spec.servers)
        ),
    )


def _host(text: str, namespace: str) -> ServerHost:
    """`[namespace/]host`; `.` is the Gateway's own namespace, `*` or none any."""
    before, slash, host = text.rpartition("/")
    return ServerHost(host=host.lower(), namespace=(namespace if before == "." else before) if slash else "*")
