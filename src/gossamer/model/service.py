"""Services and their endpoints: what a hostname is, which ports it has, and who answers there.

A `Service` says nothing about who its endpoints are, so endpoint churn never changes it; `Endpoints` is a snapshot of
its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from gossamer.core.frozen import FrozenMap, Value
from gossamer.core.ids import Origin


class Protocol(StrEnum):
    """What is spoken on a port, by Istio's names. AUTO is told apart by looking at the first bytes."""

    HTTP = "HTTP"
    HTTP2 = "HTTP2"
    GRPC = "GRPC"
    GRPC_WEB = "GRPC-Web"
    HTTPS = "HTTPS"
    TLS = "TLS"
    TCP = "TCP"
    MONGO = "Mongo"
    REDIS = "Redis"
    MYSQL = "MySQL"
    UDP = "UDP"
    HBONE = "HBONE"
    AUTO = "AUTO"

    @property
    def is_http(self) -> bool:
        return self in (Protocol.HTTP, Protocol.HTTP2, Protocol.GRPC, Protocol.GRPC_WEB)

    @property
    def is_http2(self) -> bool:
        return self in (Protocol.HTTP2, Protocol.GRPC, Protocol.GRPC_WEB)

    @property
    def is_tls(self) -> bool:
        return self in (Protocol.HTTPS, Protocol.TLS)


class Resolution(StrEnum):
    """How a service's endpoints are found."""

    STATIC = "STATIC"
    """From the registry (EDS)."""
    DNS = "DNS"
    DNS_ROUND_ROBIN = "DNS_ROUND_ROBIN"
    DYNAMIC_DNS = "DYNAMIC_DNS"
    NONE = "NONE"
    """The connection goes to the address its caller dialled."""
    ALIAS = "ALIAS"
    """Another name for a service (Kubernetes ExternalName)."""


class Distribution(StrEnum):
    """Which endpoints a service's callers prefer (Kubernetes' trafficDistribution, and Istio's annotation for it)."""

    ANY = "Any"
    SAME_ZONE = "PreferSameZone"
    SAME_NODE = "PreferSameNode"


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """A service's port. `target` is the port number or name on the workload, empty for the same number."""

    number: int
    name: str = ""
    protocol: Protocol = Protocol.AUTO
    target: int | str = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Service(Value):
    """A hostname of the mesh. `addresses` are its VIPs (declared; CIDRs allowed), `allocated` the one given to it when
    it has none; `export_to` holds namespaces, `*`, or `.` already resolved to its own namespace. Ports are in order of
    their numbers."""

    hostname: str
    namespace: str
    ports: tuple[Port, ...]
    name: str = ""
    addresses: tuple[str, ...] = ()
    allocated: str = ""
    resolution: Resolution = Resolution.STATIC
    headless: bool = False
    external: bool = False
    """MESH_EXTERNAL: no mTLS, no policy of ours on the other side."""
    alias_of: str = ""
    export_to: frozenset[str] = frozenset({"*"})
    subject_alt_names: tuple[str, ...] = ()
    selector: FrozenMap[str, str] = field(default_factory=FrozenMap)
    labels: FrozenMap[str, str] = field(default_factory=FrozenMap)
    external_ips: tuple[str, ...] = ()
    """Addresses besides its own by which it is called too (Kubernetes' externalIPs); no name resolves to them."""
    node_local: bool = False
    """Callers reach the endpoints on their own node alone (`internalTrafficPolicy: Local`)."""
    cluster_local: bool = False
    """Callers reach the endpoints of their own cluster alone (MeshConfig's `serviceSettings`)."""
    distribution: Distribution = Distribution.ANY
    publish_not_ready: bool = False
    """Endpoints that are not ready are called too."""
    instance_of: str = ""
    """The hostname of the headless service that this is one instance of."""
    kubernetes: bool = False
    """Declared by a Kubernetes Service: known by short names (`reviews`, `reviews.default`) too."""
    created: str = ""
    origin: Origin | None = None

    def port(self, number: int) -> Port | None:
        return next((port for port in self.ports if port.number == number), None)

    @property
    def key(self) -> tuple[str, str]:
        """(hostname, namespace): what tells services apart."""
        return (self.hostname, self.namespace)

    @property
    def allocated_six(self) -> str:
        """The address of IPv6 that goes with `allocated`."""
        return six_of(self.allocated) if self.allocated else ""

    @property
    def declared_as(self) -> str:
        """The hostname by which its author, and whoever lets it in, knows it."""
        return self.instance_of or self.hostname

    @property
    def wildcard(self) -> bool:
        return self.hostname.startswith("*")


def six_of(allocated: str) -> str:
    """The address of 2001:2::/48 that is given together with one of 240.240.0.0/16 (Istio's networks for this)."""
    third, fourth = (int(part) for part in allocated.split(".")[2:])
    return f"2001:2::{third * 256 + fourth:x}"


class Health(StrEnum):
    HEALTHY = "HEALTHY"
    UNHEALTHY = "UNHEALTHY"
    """Nobody knows how it is: called when there is no other."""
    UNREADY = "UNREADY"
    """It says so itself, or its probe does: not called at all."""
    DRAINING = "DRAINING"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One place where a service port answers: address and port as its callers dial it.

    `address` is an IP, a DNS name (for DNS resolution) or a UNIX socket path (its port is 0). `tls` says whether a
    sidecar takes mutual TLS there. `workload_port` is the port on the workload itself, which differs from `port` where
    callers dial another (an agent's, in front of it).
    """

    address: str
    port: int
    workload_port: int = 0
    labels: FrozenMap[str, str] = field(default_factory=FrozenMap)
    namespace: str = ""
    workload: str = ""
    service_account: str = ""
    network: str = ""
    cluster: str = ""
    node: str = ""
    locality: str = ""
    weight: int = 0
    tls: bool = False
    health: Health = Health.HEALTHY
    origin: Origin | None = None
    router: bool = False
    """A gateway: it takes mutual TLS where its Gateway says so, and then shows who it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceEndpoints:
    """Endpoints of one service by service port number, each in a deterministic order. `accounts` are the SPIFFE names,
    less scheme and trust domain (`ns/foo/sa/bar`), of those who take mutual TLS and of gateways,
    sorted."""

    hostname: str
    namespace: str
    by_port: FrozenMap[int, tuple[Endpoint, ...]] = field(default_factory=FrozenMap)
    accounts: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        return (self.hostname, self.namespace)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One running instance: what the registry (or a WorkloadEntry, or an inline endpoint) holds of it.

    `ports` maps a port of the workload (as services' `target` names or numbers it) to the port that callers dial at
    `address`; where they are equal it may be left out. `service_ports` are those of a WorkloadEntry: the port to dial
    by the name of the service's port, `service_numbers` those of a gateway: the port to dial by its number. `origin` is
    the document that declares it; None for what is registered.
    """

    name: str
    namespace: str
    service_account: str = "default"
    labels: FrozenMap[str, str] = field(default_factory=FrozenMap)
    address: str = ""
    ports: FrozenMap[int, int] = field(default_factory=FrozenMap)
    named_ports: FrozenMap[str, int] = field(default_factory=FrozenMap)
    service_ports: FrozenMap[str, int] = field(default_factory=FrozenMap)
    service_numbers: FrozenMap[int, int] = field(default_factory=FrozenMap)
    network: str = ""
    cluster: str = ""
    node: str = ""
    locality: str = ""
    weight: int = 0
    tls: bool = False
    health: Health = Health.HEALTHY
    origin: Origin | None = None
    router: bool = False
    """A gateway."""
    group: str = ""
    """The WorkloadGroup of its namespace that it belongs to."""
