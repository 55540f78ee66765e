"""Compiled resources as messages, each decoded once and only when it is asked for.

Invariant: nobody changes a message that is given out here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.address_pb2 import SocketAddress
from envoy.config.core.v3.base_pb2 import TransportSocket
from envoy.config.core.v3.config_source_pb2 import ExtensionConfigSource
from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_components_pb2 import FilterChain
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_components_pb2 import VirtualHost
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from envoy.extensions.transport_sockets.proxy_protocol.v3.upstream_proxy_protocol_pb2 import (
    ProxyProtocolUpstreamTransport,
)
from envoy.extensions.transport_sockets.quic.v3.quic_transport_pb2 import QuicDownstreamTransport
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import DownstreamTlsContext, UpstreamTlsContext
from envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct

from gossamer.core.ids import Origin
from gossamer.core.resources import CLUSTER, ENDPOINT, EXTENSION, LISTENER, ROUTE, Resource, Resources
from gossamer.simulate.decode import address_of, canonical, short_type, unpack, unpack_as
from gossamer.simulate.notes import NotSimulatedError
from gossamer.simulate.request import Address

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True, eq=False)
class Filter:
    """A filter of a listener, a chain or a connection manager; `config` is None where its type is not simulated."""

    name: str
    type: str
    config: Message | None
    disabled: bool = False
    origins: tuple[Origin, ...] = ()


class ChainConfig:
    """A filter chain and what is in it."""

    def __init__(self, message: FilterChain, decoder: Decoder) -> None:
        self.message = message
        self.name = message.name
        self._decoder = decoder

    @cached_property
    def filters(self) -> tuple[Filter, ...]:
        return tuple(
            self._decoder.filter(f.name, f.typed_config, f.config_discovery if f.HasField("config_discovery") else None)
            for f in self.message.filters
        )

    @cached_property
    def tls(self) -> DownstreamTlsContext | None:
        """Its TLS; None for plaintext."""
        socket = self.message.transport_socket
        if not self.message.HasField("transport_socket") or short_type(socket.typed_config) == "RawBuffer":
            return None
        context = unpack_as(DownstreamTlsContext, socket.typed_config)
        quic = unpack_as(QuicDownstreamTransport, socket.typed_config)
        if quic is not None:
            return quic.downstream_tls_context
        if context is None:
            raise NotSimulatedError(f"the transport socket {socket.name or short_type(socket.typed_config)} of a chain")
        return context


class ListenerConfig:
    """A listener, its chains and the addresses at which it is known."""

    def __init__(self, message: Listener, origins: tuple[Origin, ...], decoder: Decoder) -> None:
        self.message = message
        self.name = message.name
        self.origins = origins
        self._decoder = decoder
        self.addresses = tuple(
            Address(ip=canonical(address.ip), port=address.port)
            for address in map(
                address_of, (message.address, *(extra.address for extra in message.additional_addresses))
            )
        )
        self.udp = message.address.socket_address.protocol == SocketAddress.UDP
        self.bound = not message.HasField("bind_to_port") or message.bind_to_port.value

    @cached_property
    def chains(self) -> tuple[ChainConfig, ...]:
        return tuple(ChainConfig(chain, self._decoder) for chain in self.message.filter_chains)

    @cached_property
    def default_chain(self) -> ChainConfig | None:
        given = self.message.HasField("default_filter_chain")
        return ChainConfig(self.message.default_filter_chain, self._decoder) if given else None

    @cached_property
    def filters(self) -> tuple[Filter, ...]:
        return tuple(
            self._decoder.filter(f.name, f.typed_config, f.config_discovery if f.HasField("config_discovery") else None)
            for f in self.message.listener_filters
        )


class RouteTable:
    """A route configuration with its virtual hosts by domain."""

    def __init__(self, message: RouteConfiguration, origins: tuple[Origin, ...]) -> None:
        self.message = message
        self.name = message.name
        self.origins = origins

    @cached_property
    def by_domain(self) -> dict[str, VirtualHost]:
        """The virtual host of each domain, in lower case; the first one that claims it."""
        found: dict[str, VirtualHost] = {}
        for virtual_host in self.message.virtual_hosts:
            for domain in virtual_host.domains:
                found.setdefault(domain.lower(), virtual_host)
        return found

    @cached_property
    def suffix_lengths(self) -> tuple[int, ...]:
        """Lengths, longest first, of what follows the star in `*.example.com`."""
        return tuple(sorted({len(d) - 1 for d in self.by_domain if d.startswith("*") and d != "*"}, reverse=True))

    @cached_property
    def prefix_lengths(self) -> tuple[int, ...]:
        """Lengths, longest first, of what precedes the star in `example.*`."""
        return tuple(sorted({len(d) - 1 for d in self.by_domain if d.endswith("*") and d != "*"}, reverse=True))


class ManagerConfig:
    """An HTTP connection manager, its filters and its routes."""

    def __init__(self, message: HttpConnectionManager, decoder: Decoder) -> None:
        self.message = message
        self._decoder = decoder

    @cached_property
    def filters(self) -> tuple[Filter, ...]:
        return tuple(
            self._decoder.filter(
                f.name,
                f.typed_config,
                f.config_discovery if f.HasField("config_discovery") else None,
                disabled=f.disabled,
            )
            for f in self.message.http_filters
        )

    @property
    def routes_name(self) -> str:
        kind = self.message.WhichOneof("route_specifier")
        return self.message.rds.route_config_name if kind == "rds" else self.message.route_config.name

    @cached_property
    def routes(self) -> RouteTable | None:
        """Its routes; None when they come by RDS and were not delivered."""
        match self.message.WhichOneof("route_specifier"):
            case "route_config":
                return RouteTable(self.message.route_config, ())
            case "rds":
                return self._decoder.route_table(self.message.rds.route_config_name)
        raise NotSimulatedError("scoped routes")


class ClusterConfig:
    """A cluster with the endpoints that were delivered for it."""

    def __init__(self, message: Cluster, origins: tuple[Origin, ...], decoder: Decoder) -> None:
        self.message = message
        self.name = message.name
        self.origins = origins
        self._decoder = decoder

    @cached_property
    def assignment(self) -> ClusterLoadAssignment | None:
        """Its endpoints; None when none were delivered."""
        if self.message.WhichOneof("cluster_discovery_type") == "type" and self.message.type == Cluster.EDS:
            return self._decoder.assignment(self.message.eds_cluster_config.service_name or self.name)
        return self.message.load_assignment if self.message.HasField("load_assignment") else None

    @cached_property
    def sockets(self) -> tuple[UpstreamTlsContext | None, tuple[tuple[Struct, UpstreamTlsContext | None], ...]]:
        """TLS of its own, and of the transport sockets that endpoints choose by matching; None is plaintext."""
        by_match = [
            (match.match, _upstream_tls(match.transport_socket)) for match in self.message.transport_socket_matches
        ]
        return _upstream_tls(self.message.transport_socket), tuple(by_match)

    @cached_property
    def http_options(self) -> HttpProtocolOptions | None:
        packed = self.message.typed_extension_protocol_options.get(HttpProtocolOptions.DESCRIPTOR.full_name)
        return unpack_as(HttpProtocolOptions, packed) if packed is not None else None


def _upstream_tls(socket: TransportSocket) -> UpstreamTlsContext | None:
    wrapped = unpack_as(ProxyProtocolUpstreamTransport, socket.typed_config)
    if wrapped is not None:
        return _upstream_tls(wrapped.transport_socket)
    return unpack_as(UpstreamTlsContext, socket.typed_config)


class Decoder:
    """All that one proxy is told, by type and name."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._tables: dict[str, RouteTable] = {}
        self._clusters: dict[str, ClusterConfig] = {}
        self._managers: dict[int, ManagerConfig] = {}  # by identity: each holds its message, so no number is reused

    @cached_property
    def listeners(self) -> tuple[ListenerConfig, ...]:
        return tuple(
            ListenerConfig(self._message(Listener, found), found.origins, self)
            for found in self._resources.all_of(LISTENER)
        )

    def route_table(self, name: str) -> RouteTable | None:
        """The route configuration of this name that came by RDS."""
        if name not in self._tables:
            found = self._resources.get(ROUTE, name)
            if found is None:
                return None
            self._tables[name] = RouteTable(self._message(RouteConfiguration, found), found.origins)
        return self._tables[name]

    def cluster(self, name: str) -> ClusterConfig | None:
        if name not in self._clusters:
            found = self._resources.get(CLUSTER, name)
            if found is None:
                return None
            self._clusters[name] = ClusterConfig(self._message(Cluster, found), found.origins, self)
        return self._clusters[name]

    def assignment(self, name: str) -> ClusterLoadAssignment | None:
        found = self._resources.get(ENDPOINT, name)
        return None if found is None else self._message(ClusterLoadAssignment, found)

    def filter(
        self, name: str, packed: Any, discovery: ExtensionConfigSource | None, *, disabled: bool = False
    ) -> Filter:
        """A filter with its configuration: inline, or delivered by ECDS under the filter's name, or the default until
        it is."""
        origins: tuple[Origin, ...] = ()
        if discovery is not None:
            found = self._resources.get(EXTENSION, name)
            packed = discovery.default_config
            if found is not None:
                origins = found.origins
                packed = self._message(TypedExtensionConfig, found).typed_config
            elif not discovery.HasField("default_config"):
                raise NotSimulatedError(f"the filter {name}, whose configuration was not delivered")
        return Filter(name, short_type(packed), unpack(packed), disabled, origins)

    def manager(self, message: HttpConnectionManager) -> ManagerConfig:
        """What a connection manager holds, decoded once for each."""
        found = self._managers.get(id(message))
        if found is None:
            found = self._managers[id(message)] = ManagerConfig(message, self)
        return found

    def _message(self, kind: type[M], resource: Resource) -> M:
        packed = Any.FromString(resource.body)
        found = unpack_as(kind, packed)
        if found is None:
            raise NotSimulatedError(f"the resource {resource.name}, which is no {kind.DESCRIPTOR.name}")
        return found
