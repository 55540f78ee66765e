"""Listeners on a sidecar's outbound side: where its workload's connections are captured and told apart.

Invariant: all but the capture listener are opened nowhere: it hands each connection to the one for its original
destination, so that these are the same for every workload that sees the same services.
"""

from __future__ import annotations

from typing import Final

from envoy.config.core.v3.address_pb2 import Address
from envoy.config.core.v3.base_pb2 import OUTBOUND
from envoy.config.listener.v3.listener_components_pb2 import (
    FilterChain,
    FilterChainMatch,
    ListenerFilterChainMatchPredicate,
)
from envoy.config.listener.v3.listener_pb2 import AdditionalAddress, Listener
from envoy.config.route.v3.route_components_pb2 import Route, RouteAction, RouteMatch, VirtualHost
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.type.v3.range_pb2 import Int32Range
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import BoolValue, UInt32Value

from gossamer.compile.draft import Draft, references
from gossamer.compile.endpoints import address_of
from gossamer.compile.hcm import Direction, connection_manager
from gossamer.compile.limits import seconds
from gossamer.compile.names import BLACK_HOLE, FORWARD_PROXY, VIRTUAL_OUTBOUND, target_name
from gossamer.compile.origins import metadata_of
from gossamer.compile.serialise import finished
from gossamer.compile.serving import buffer_listener
from gossamer.compile.streams import (
    PLAINTEXT_HTTP,
    inspect,
    pass_to,
    socket,
    tcp_chain,
    unknown_chain,
    unknown_cluster,
)
from gossamer.core.memo import Memo
from gossamer.core.resources import CLUSTER, LISTENER, ROUTE, Reference, Resource, Table
from gossamer.model.binds import origins_of
from gossamer.model.protocols import SERVER_FIRST
from gossamer.model.proxy import Proxy
from gossamer.model.settings import MeshSettings, Unknown
from gossamer.model.view import Bind, Rest


def compile_binds(binds: tuple[Bind, ...], wildcards: tuple[str, ...], settings: MeshSettings, memo: Memo) -> Table:
    """A listener for each bind. `wildcards` are the addresses that stand for any: of IPv4, of IPv6, or of both."""
    return Table(LISTENER, [memo(_bind, bind, wildcards, "", settings) for bind in binds])


def compile_opened(binds: tuple[Bind, ...], network_namespace: str, settings: MeshSettings, memo: Memo) -> Table:
    """A listener for each bind that is really opened, on the workload's own network."""
    return Table(LISTENER, [memo(_bind, bind, (), network_namespace, settings) for bind in binds])


def wildcards_of(proxy: Proxy) -> tuple[str, ...]:
    """The any-address of each family that the workload has an address of."""
    families = {":" in address for address in proxy.addresses} or {False}
    return tuple("::" if six else "0.0.0.0" for six in sorted(families))  # noqa: S104 - most are opened nowhere


def _bind(bind: Bind, wildcards: tuple[str, ...], network_namespace: str, settings: MeshSettings) -> Resource:
    addresses = (bind.address,) if bind.address else wildcards
    name = f"{addresses[0]}_{bind.port}" if bind.port else addresses[0]
    origins = origins_of(bind)
    listener = Listener(
        name=name,
        address=_address(addresses[0], bind.port, network_namespace),
        additional_addresses=[AdditionalAddress(address=socket(one, bind.port)) for one in addresses[1:]],
        traffic_direction=OUTBOUND,
        bind_to_port=BoolValue(value=bind.opened),
        filter_chains=[tcp_chain(chain, settings) for chain in bind.chains],
        default_filter_chain=tcp_chain(bind.rest, settings)
        if bind.rest
        else unknown_chain(_unknown(bind, settings), settings),
        metadata=metadata_of(origins),
    )
    if bind.table:
        listener.filter_chains.append(http_chain(name, bind.table, settings))
    buffer_listener(listener, settings.connections)
    inspect(listener, settings, tls=any(chain.server_names for chain in bind.chains), http=bool(bind.table))
    return finished(
        Draft(type_url=LISTENER, name=name, message=listener, references=_named(bind, settings), origins=origins)
    )


def _address(address: str, port: int, network_namespace: str) -> Address:
    """A TCP address, or a UNIX socket's path."""
    if address.startswith("unix://"):
        return address_of(address.removeprefix("unix://"), 0)
    return socket(address, port, network_namespace)


def http_chain(listener: str, table: str, settings: MeshSettings) -> FilterChain:
    """The chain of plaintext HTTP, routed by a table."""
    return FilterChain(
        filter_chain_match=FilterChainMatch(transport_protocol="raw_buffer", application_protocols=PLAINTEXT_HTTP),
        filters=[connection_manager(Direction.OUTBOUND, f"outbound_{listener}", table, settings)],
    )


def _named(bind: Bind, settings: MeshSettings) -> frozenset[Reference]:
    chains = (*bind.chains, *((bind.rest,) if bind.rest else ()))
    clusters = [target_name(target) for chain in chains for target, _ in chain.targets]
    if bind.rest is None:
        clusters.append(_unknown(bind, settings))
    return references(CLUSTER, clusters) | references(ROUTE, [bind.table] if bind.table else [])


def _unknown(bind: Bind, settings: MeshSettings) -> str:
    """Where what fits no chain goes. A connection to an open port was dialled there: it cannot go on to itself."""
    return BLACK_HOLE if bind.opened else unknown_cluster(settings)


def capture_listener(proxy: Proxy, settings: MeshSettings) -> Draft:
    """The listener to which the kernel redirects what the workload sends. A connection made to it by hand would be its
    own destination, and go round for ever: it ends in the black hole."""
    unknown = unknown_cluster(settings)
    addresses = wildcards_of(proxy)
    namespace, port = proxy.capture.network_namespace, proxy.capture.outbound_port
    listener = Listener(
        name=VIRTUAL_OUTBOUND,
        address=socket(addresses[0], port, namespace),
        additional_addresses=[AdditionalAddress(address=socket(one, port, namespace)) for one in addresses[1:]],
        traffic_direction=OUTBOUND,
        use_original_dst=BoolValue(value=True),
        filter_chains=[
            FilterChain(
                name="virtualOutbound-blackhole",
                filter_chain_match=FilterChainMatch(destination_port=UInt32Value(value=port)),
                filters=[pass_to(BLACK_HOLE, settings)],
            ),
            FilterChain(name="virtualOutbound-catchall-tcp", filters=[pass_to(unknown, settings)]),
        ],
    )
    buffer_listener(listener, settings.connections)
    clusters = [BLACK_HOLE, unknown]
    if settings.outbound.unknown is Unknown.ALLOW_ANY_DYNAMIC_DNS:
        _read_unknown(listener, settings)
        clusters.append(FORWARD_PROXY)
    return Draft(type_url=LISTENER, name=VIRTUAL_OUTBOUND, message=listener, references=references(CLUSTER, clusters))


def _read_unknown(listener: Listener, settings: MeshSettings) -> None:
    """Have plaintext HTTP on ports that nobody declared go to the host that it names. There a server may speak first:
    who says nothing is not waited for for ever, and not at all on the ports of such protocols."""
    route = Route(match=RouteMatch(prefix="/"), route=RouteAction(cluster=FORWARD_PROXY, timeout=Duration()))
    host = VirtualHost(
        name=Rest.FORWARD, domains=["*"], routes=[route], include_request_attempt_count=settings.counts_attempts
    )
    routes = RouteConfiguration(
        name="virtualOutbound-forward", virtual_hosts=[host], validate_clusters=BoolValue(value=False)
    )
    manager = connection_manager(Direction.OUTBOUND, "outbound_unknown", routes, settings)
    match = FilterChainMatch(transport_protocol="raw_buffer", application_protocols=PLAINTEXT_HTTP)
    listener.default_filter_chain.CopyFrom(listener.filter_chains.pop())
    listener.filter_chains.append(
        FilterChain(name="virtualOutbound-catchall-http", filter_chain_match=match, filters=[manager])
    )
    inspect(listener, settings, tls=True, http=True)
    quiet = [
        ListenerFilterChainMatchPredicate(destination_port_range=Int32Range(start=port, end=port + 1))
        for port in sorted(SERVER_FIRST)
    ]
    for found in listener.listener_filters:
        found.filter_disabled.or_match.rules.extend(quiet)
    if not settings.protocol_detection_timeout:
        listener.listener_filters_timeout.CopyFrom(seconds(_UNKNOWN_WAIT))


_UNKNOWN_WAIT: Final = 5.0
