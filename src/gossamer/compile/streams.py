"""Connections that are passed on without being read: TCP proxies, their chains, and what looks at the first bytes.

Invariant: a connection that fits no chain of its listener goes where `outboundTrafficPolicy` says.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from datetime import timedelta
from typing import Final

from envoy.config.core.v3.address_pb2 import Address, CidrRange, SocketAddress
from envoy.config.listener.v3.listener_components_pb2 import Filter, FilterChain, FilterChainMatch, ListenerFilter
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.filters.listener.http_inspector.v3.http_inspector_pb2 import HttpInspector
from envoy.extensions.filters.listener.tls_inspector.v3.tls_inspector_pb2 import TlsInspector
from envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import TcpProxy
from google.protobuf.wrappers_pb2 import UInt32Value

from gossamer.compile.access_log import access_logs, asked_logs
from gossamer.compile.balancing import tcp_hash_policies
from gossamer.compile.draft import pack
from gossamer.compile.dynamic_dns import server_name_lookup
from gossamer.compile.limits import seconds
from gossamer.compile.names import BLACK_HOLE, PASSTHROUGH, cluster_name, target_name
from gossamer.compile.origins import metadata_of
from gossamer.compile.seen import PERIOD_S, only_when_ended, tcp_logs
from gossamer.compile.stat_names import target_stat_name
from gossamer.model.settings import MeshSettings
from gossamer.model.view import Chain, Target

PLAINTEXT_HTTP: Final = ("http/1.0", "http/1.1", "h2c")
"""What the HTTP inspector finds in plaintext."""


def socket(address: str, port: int, network_namespace: str = "") -> Address:
    """A TCP address, opened in a network namespace if one is named."""
    return Address(
        socket_address=SocketAddress(address=address, port_value=port, network_namespace_filepath=network_namespace)
    )


def tcp_chain(chain: Chain, settings: MeshSettings) -> FilterChain:
    """The filter chain of connections that are passed on."""
    match = FilterChainMatch(
        server_names=chain.server_names,
        prefix_ranges=[cidr(subnet) for subnet in chain.subnets],
        source_prefix_ranges=[cidr(source) for source in chain.sources],
    )
    return FilterChain(
        filter_chain_match=None if chain.takes_everything else match,
        filters=tcp_filters(chain.targets, settings),
        metadata=metadata_of(chain.origins),
    )


def unknown_chain(cluster: str, settings: MeshSettings) -> FilterChain:
    """The filter chain of connections to what nobody declared."""
    return FilterChain(name=f"{cluster}-chain", filters=[pass_to(cluster, settings)])


def unknown_cluster(settings: MeshSettings) -> str:
    """The cluster of what nobody declared."""
    proxy = settings.outbound.egress_proxy
    if proxy is not None and not settings.registry_only:
        return cluster_name(proxy.host, proxy.port.number if proxy.port else 0, proxy.subset)
    return BLACK_HOLE if settings.registry_only else PASSTHROUGH


def pass_to(cluster: str, settings: MeshSettings, idle_timeout: timedelta | None = None, stat_name: str = "") -> Filter:
    """The network filter that passes connections to one cluster, and closes them when they are idle for too long.
    They are counted under `stat_name`, or under the cluster's own."""
    proxy = TcpProxy(stat_prefix=stat_name or cluster, cluster=cluster)
    _log(proxy, settings)
    if idle_timeout is not None:
        proxy.idle_timeout.CopyFrom(seconds(idle_timeout.total_seconds()))
    return _filter(proxy)


def tcp_filters(targets: tuple[tuple[Target, int], ...], settings: MeshSettings) -> list[Filter]:
    """The network filters that pass connections to these targets: a lookup of the server name before the TCP proxy if
    some target is found by it."""
    port = next((target.lookup for target, _ in targets if target.lookup), 0)
    return [*(server_name_lookup(port) if port else ()), tcp_proxy(targets, settings)]


def tcp_proxy(targets: Iterable[tuple[Target, int]], settings: MeshSettings) -> Filter:
    """The network filter that passes connections to these targets, by weight."""
    weights = [(target, weight) for target, weight in targets]
    first = weights[0][0]
    proxy = TcpProxy(
        stat_prefix=target_stat_name(first, settings) or target_name(first),
        hash_policy=tcp_hash_policies(first.consistent_hash),
    )
    _log(proxy, settings)
    _limit(proxy, first, settings)
    if first.tunnel is not None:
        proxy.tunneling_config.hostname = f"{first.tunnel.target_host}:{first.tunnel.target_port}"
        proxy.tunneling_config.use_post = first.tunnel.protocol.upper() == "POST"
    if len(weights) == 1:
        proxy.cluster = target_name(first)
    else:
        proxy.weighted_clusters.clusters.extend(
            TcpProxy.WeightedCluster.ClusterWeight(name=target_name(target), weight=weight)
            for target, weight in weights
            if weight > 0
        )
    return _filter(proxy)


def _limit(proxy: TcpProxy, target: Target, settings: MeshSettings) -> None:
    """How long a connection may be idle, and last: as a DestinationRule says, else MeshConfig for all."""
    pool = settings.default_pool
    default = pool.tcp if pool is not None and not target.pooled else None
    idle, longest = target.idle_timeout, target.max_duration
    if default is not None and default.idle_timeout is not None:
        idle = default.idle_timeout.total_seconds()
    if default is not None and default.max_connection_duration is not None:
        longest = default.max_connection_duration.total_seconds()
    if idle is not None:
        proxy.idle_timeout.CopyFrom(seconds(idle))
    if longest is not None:
        proxy.max_downstream_connection_duration.CopyFrom(seconds(longest))


def _log(proxy: TcpProxy, settings: MeshSettings) -> None:
    """Connections may live for days: an agent is told of each meanwhile, people when it has ended."""
    logs = access_logs(settings, tcp=True)
    if settings.observed:
        logs = [*map(only_when_ended, logs), *asked_logs(settings, tcp=True), *tcp_logs(settings)]
        proxy.access_log_options.access_log_flush_interval.CopyFrom(seconds(PERIOD_S))
    proxy.access_log.extend(logs)


def _filter(proxy: TcpProxy) -> Filter:
    return Filter(name="envoy.filters.network.tcp_proxy", typed_config=pack(proxy))


def cidr(subnet: str) -> CidrRange:
    """An address or network as Envoy's range."""
    network = ipaddress.ip_network(subnet, strict=False)
    return CidrRange(address_prefix=str(network.network_address), prefix_len=UInt32Value(value=network.prefixlen))


def inspect(listener: Listener, settings: MeshSettings, *, tls: bool, http: bool) -> None:
    """Have the first bytes looked at: for TLS and its server name, for plaintext HTTP. Without a detection timeout a
    client that sends nothing is waited for (Istio's default)."""
    if tls or http:
        listener.listener_filters.append(TLS_INSPECTOR)
    if http:
        listener.listener_filters.append(_HTTP_INSPECTOR)
    if tls or http:
        listener.listener_filters_timeout.CopyFrom(seconds(settings.protocol_detection_timeout))
        listener.continue_on_listener_filters_timeout = True


TLS_INSPECTOR: Final = ListenerFilter(name="envoy.filters.listener.tls_inspector", typed_config=pack(TlsInspector()))
_HTTP_INSPECTOR: Final = ListenerFilter(
    name="envoy.filters.listener.http_inspector", typed_config=pack(HttpInspector())
)
