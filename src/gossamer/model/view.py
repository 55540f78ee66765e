"""What one proxy sees: visibility, precedence and policies resolved; nothing left to decide but how Envoy spells it.

Two proxies that see the same services in the same way hold the same `Outbound` object, so that everything compiled
from it is compiled, serialised and diffed once.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum

from gossamer.api.destination_rule import ConnectionPoolSettings, ConsistentHashLB, TunnelSettings
from gossamer.api.gateway import ServerTLSSettings
from gossamer.api.kubernetes import ConfigMap, Secret
from gossamer.api.resource import Resource
from gossamer.api.virtual_service import Destination
from gossamer.core.frozen import EMPTY, FrozenMap, Value
from gossamer.core.ids import Origin
from gossamer.model.destinations import NO_POLICY, DestinationPolicy
from gossamer.model.extensions import Extension
from gossamer.model.gateways import GatewayServer
from gossamer.model.health_checks import Check
from gossamer.model.patches import SelectedPatch
from gossamer.model.place import NOWHERE, Place
from gossamer.model.policy import WorkloadPolicies
from gossamer.model.proxy import Proxy
from gossamer.model.routing import Client, HttpRule, Routing
from gossamer.model.service import Port, Protocol, Service, ServiceEndpoints
from gossamer.model.settings import MeshSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundPort:
    """A port on which a sidecar's own workload is served.

    `number` is the workload's port (the destination port of a captured connection), `services` the services (with
    their port) that lead here: the first one names what is reported. `pool` limits what is taken in.

    A Sidecar's ingress listener says more: `bind`, the one address that it is for; `opened`, that it is really bound
    there, nothing being redirected to it; `endpoint`, where the application is called instead of where its callers
    dialled (`127.0.0.1:8080`, `0.0.0.0:8080`, `unix:///path`); `tls`, what is terminated for callers from outside the
    mesh.
    """

    number: int
    protocol: Protocol
    name: str = ""
    services: tuple[tuple[Service, int], ...] = ()
    pool: ConnectionPoolSettings | None = None
    bind: str = ""
    opened: bool = False
    endpoint: str = ""
    tls: ServerTLSSettings | None = None
    origin: Origin | None = None
    decided: tuple[HttpRule, ...] | None = None
    """The rules by which calls are let in, if a VirtualService has them decided here; whom none takes is refused."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OutboundService(Value):
    """A service as a caller sees it. `accounts` are who may answer for it (`ns/foo/sa/bar`), none if nobody knows."""

    service: Service
    destination: DestinationPolicy = NO_POLICY
    accounts: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Target(Value):
    """Where a destination of a route leads: requests to a service that the mesh does not have fail. `mesh_tls` says
    whether its TLS may be the mesh's own."""

    host: str
    port: int
    subset: str = ""
    mesh_tls: bool = True
    consistent_hash: ConsistentHashLB | None = None
    idle_timeout: float | None = None
    """Seconds after which an idle TCP connection to it is closed."""
    passed_on: bool = False
    """The caller's own mutual TLS goes on to the endpoint, unread (a gateway's AUTO_PASSTHROUGH)."""
    lookup: int = 0
    """Where the host that TLS names is looked up (DYNAMIC_DNS), the port that it is called on."""
    max_duration: float | None = None
    """Seconds after which a TCP connection to it is closed whatever happens on it."""
    pooled: bool = False
    """Whether a DestinationRule limits connections to it, and not the mesh's own default."""
    declared: Port | None = None
    """The port, as the service declares it."""
    tunnel: TunnelSettings | None = None
    """Where a tunnel that TCP connections to it go through is to end."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HostRoutes(Value):
    """One virtual host: the routes of a hostname on a port. `aliases` are the shorter names and the addresses that it
    has too, unless something else has them by right. Requests that no rule takes go to `default`, or nowhere."""

    name: str
    port: int
    host: str
    aliases: tuple[str, ...] = ()
    rules: tuple[HttpRule, ...] = ()
    targets: FrozenMap[Destination, Target] = EMPTY
    default: Target | None = None
    service: Service | None = None
    https_redirect: bool = False
    tls: bool = False
    """Requests to it come over TLS that ends at the proxy."""
    everything: bool = False
    """Takes whatever host is asked for: whoever comes here dialled this service's own address."""


class Rest(StrEnum):
    """What becomes of requests to hosts that nobody declared."""

    ALLOW = "allow_any"
    BLOCK = "block_all"
    FORWARD = "forward_any"
    """As ALLOW, where nobody knows the address that was dialled: the host is looked up."""
    NOT_FOUND = "not_found"


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteTable:
    """Virtual hosts that are served together on a port. `rest` is what becomes of other hosts. `with_ports` says that
    hosts are told apart by their ports too, as on an HTTP proxy, which serves all ports at once."""

    name: str
    port: int
    hosts: tuple[HostRoutes, ...]
    rest: Rest
    with_ports: bool = False
    http3_port: int = 0
    """Where clients are told (`alt-svc`) that the same is served by HTTP/3; 0 for nowhere."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chain(Value):
    """Connections with one of these server names to one of these subnets from one of these sources (any, where there
    are none), and where they go, by weight."""

    server_names: tuple[str, ...] = ()
    subnets: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    targets: tuple[tuple[Target, int], ...] = ()
    origins: tuple[Origin, ...] = ()

    @property
    def takes_everything(self) -> bool:
        return not (self.server_names or self.subnets or self.sources)

    def named(self, names: tuple[str, ...]) -> Chain:
        return replace(self, server_names=names)

    def within(self, subnets: tuple[str, ...]) -> Chain:
        return replace(self, subnets=subnets)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bind(Value):
    """An address (any, when empty) and port at which the workload's connections are taken in. HTTP is served by the
    route table named `table`, if there is one; what fits no chain goes to `rest`, or where unknown traffic goes."""

    address: str
    port: int
    table: str = ""
    chains: tuple[Chain, ...] = ()
    rest: Chain | None = None
    opened: bool = False
    """Really bound (explicit capture, or a Sidecar's listener without any); otherwise the capture listener hands
    connections on."""
    origin: Origin | None = None
    """Of the Sidecar's listener that asks for it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outbound:
    """All that the proxies of one kind of client see of others."""

    client: Client
    services: tuple[OutboundService, ...] = ()
    routings: tuple[Routing, ...] = ()
    tables: tuple[RouteTable, ...] = ()
    """A sidecar's route tables; a gateway's are its view's."""
    binds: tuple[Bind, ...] = ()
    """Where a sidecar takes in its workload's connections, by port and address."""
    opened: tuple[Bind, ...] = ()
    """What its Sidecar has opened for the workload to call by itself."""
    opened_tables: tuple[RouteTable, ...] = ()
    """The route tables of these."""
    named: tuple[OutboundService, ...] = ()
    """Those of `services` that the workload may call; the others are only what routes lead to."""
    node_local: bool = False
    """Whether some service's endpoints depend on the node that its callers run on."""
    cluster_local: bool = False
    """Whether they depend on the cluster of its callers."""
    settings: MeshSettings = field(default_factory=MeshSettings)
    """The mesh's, with what the Sidecar says of unknown traffic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A Gateway's server on one gateway proxy, bound to `port`."""

    gateway: str
    rule: GatewayServer
    port: int
    number: int
    mapped: bool = False
    """Whether it was the proxy's host that chose `port`: then that is the port which callers dial."""
    chains: tuple[Chain, ...] = ()
    """Where its connections go, if it does not speak HTTP."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Credential(Value):
    """A certificate with its key, and a CA, under one name. `authority` is the Secret of that name with `-cacert`
    behind it, which speaks before a CA in `certificate`, and that before one in `bundle`."""

    name: str
    certificate: Resource[Secret] | None = None
    authority: Resource[Secret] | None = None
    bundle: Resource[ConfigMap] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What a proxy really opens: a gateway its servers, a sidecar with explicit capture ports for its workload."""

    servers: tuple[Server, ...] = ()
    binds: tuple[Bind, ...] = ()
    tables: tuple[RouteTable, ...] = ()
    """The route tables of these, by name."""
    credentials: tuple[Credential, ...] = ()
    """Those that the TLS of its servers, or of its connections to others, names."""


NOTHING = Opened()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyView:
    """Everything `compile_proxy` may read. `endpoints` stand in the order of `outbound.services`."""

    proxy: Proxy
    settings: MeshSettings
    inbound: tuple[InboundPort, ...] = ()
    policies: WorkloadPolicies = field(default_factory=WorkloadPolicies)
    outbound: Outbound
    endpoints: tuple[ServiceEndpoints, ...] = ()
    opened: Opened = NOTHING
    extensions: tuple[Extension, ...] = ()
    patches: tuple[SelectedPatch, ...] = ()
    """What EnvoyFilters change in all that is compiled of this."""
    place: Place = NOWHERE
    """Where the proxy is, as far as that decides which endpoints it is to prefer."""
