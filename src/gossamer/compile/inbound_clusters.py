"""The way from a sidecar to its application, and what a Sidecar limits on it.

Invariant: a connection to the application starts in the application's network namespace, from an address (127.0.0.6,
Istio's) that tells it from a connection of the application's own where the kernel redirects those.
"""

from __future__ import annotations

from typing import Final

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.address_pb2 import BindConfig, ExtraSourceAddress, SocketAddress
from envoy.config.core.v3.protocol_pb2 import Http1ProtocolOptions
from envoy.config.endpoint.v3.endpoint_components_pb2 import Endpoint, LbEndpoint, LocalityLbEndpoints
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions

from gossamer.api.destination_rule import ConnectionPoolSettings, HTTPSettings
from gossamer.compile.clusters import connect_timeout, keep_alive
from gossamer.compile.draft import pack
from gossamer.compile.endpoints import address_of
from gossamer.compile.limits import circuit_breakers
from gossamer.compile.serving import keep_case
from gossamer.compile.stat_names import inbound_stat_name
from gossamer.compile.upstream_http import HTTP_OPTIONS, common_options, http2_options
from gossamer.model.proxy import Capture, CaptureMode, Proxy
from gossamer.model.service import Protocol
from gossamer.model.settings import MeshSettings
from gossamer.model.sidecars import NOWHERE
from gossamer.model.view import InboundPort

PASSTHROUGH: Final = "InboundPassthroughCluster"
_SOURCE, _SOURCE_SIX = "127.0.0.6", "::6"
_LOOPBACK: Final = "127.0.0.1"
_UNIX: Final = "unix://"


def port_cluster(port: int) -> str:
    """Name of the cluster of one of the workload's ports."""
    return f"inbound|{port}||"


def inbound_cluster(port: InboundPort, proxy: Proxy, settings: MeshSettings) -> Cluster:
    """The cluster of a port: where the application listens if that is known, else where the caller dialled. Nobody but
    a Sidecar limits it; callers limit themselves, by their DestinationRules."""
    capture = proxy.capture
    cluster = _cluster(port_cluster(port.number), port.protocol, port.pool, settings)
    cluster.alt_stat_name = inbound_stat_name(port, settings)
    host, number = _application(port, proxy, settings)
    if port.endpoint == NOWHERE:
        cluster.type = Cluster.STATIC
    elif host:
        cluster.type = Cluster.STATIC
        cluster.load_assignment.CopyFrom(_assignment(cluster.name, host, number))
    else:
        _dial_original(cluster)
        if number != port.number:
            cluster.original_dst_lb_config.upstream_port_override.value = number
    if capture.mode is CaptureMode.TRANSPARENT and not host.startswith(("/", "@")):
        cluster.upstream_bind_config.CopyFrom(_bind(capture.network_namespace))
    return cluster


def _application(port: InboundPort, proxy: Proxy, settings: MeshSettings) -> tuple[str, int]:
    """Where the application is called: its address (none: the one that was dialled; the path of a UNIX socket) and
    port. What a Sidecar calls the loopback is, where workloads share the host's, this workload's own part of it."""
    capture = proxy.capture
    known = capture.application_address or (_LOOPBACK if capture.mesh_ports or settings.inbound_localhost else "")
    if not port.endpoint:
        return known or (_LOOPBACK if port.opened else ""), port.number
    if port.endpoint.startswith(_UNIX):
        return port.endpoint.removeprefix(_UNIX), 0
    host, _, number = port.endpoint.rpartition(":")
    host = host.strip("[]")
    if capture.mode is CaptureMode.EXPLICIT:
        return capture.application_address or host, int(number)
    if host not in _INSTANCE:
        return host, int(number)
    dialled = not capture.mesh_ports and not port.opened
    return "" if dialled else next(iter(proxy.addresses), known or _LOOPBACK), int(number)


_INSTANCE: Final = ("0.0.0.0", "::")  # noqa: S104 - in a Sidecar it stands for the workload's own address


def passthrough_cluster(capture: Capture, settings: MeshSettings) -> Cluster:
    """Captured connections to ports that nobody named go on to where they were dialled."""
    cluster = _cluster(PASSTHROUGH, Protocol.AUTO, None, settings)
    cluster.upstream_bind_config.CopyFrom(_bind(capture.network_namespace))
    _dial_original(cluster)
    return cluster


def _cluster(name: str, protocol: Protocol, pool: ConnectionPoolSettings | None, settings: MeshSettings) -> Cluster:
    cluster = Cluster(
        name=name,
        connect_timeout=connect_timeout(pool, settings),
        circuit_breakers=circuit_breakers(pool, None),
        typed_extension_protocol_options={HTTP_OPTIONS: pack(_http_options(protocol, pool))},
    )
    if pool is not None:
        keep_alive(cluster, pool, settings)
    keep_case(cluster, settings.headers)
    return cluster


def _dial_original(cluster: Cluster) -> None:
    cluster.type = Cluster.ORIGINAL_DST
    cluster.lb_policy = Cluster.CLUSTER_PROVIDED


def _assignment(name: str, address: str, port: int) -> ClusterLoadAssignment:
    endpoint = LbEndpoint(endpoint=Endpoint(address=address_of(address, port)))
    return ClusterLoadAssignment(cluster_name=name, endpoints=[LocalityLbEndpoints(lb_endpoints=[endpoint])])


def _bind(network_namespace: str) -> BindConfig:
    """Connections start at 127.0.0.6, or ::6 to an IPv6 address; in a namespace of its own if there is one."""
    source = SocketAddress(address=_SOURCE, port_value=0, network_namespace_filepath=network_namespace)
    other = SocketAddress(address=_SOURCE_SIX, port_value=0, network_namespace_filepath=network_namespace)
    return BindConfig(source_address=source, extra_source_addresses=[ExtraSourceAddress(address=other)])


def _http_options(protocol: Protocol, pool: ConnectionPoolSettings | None) -> HttpProtocolOptions:
    """How the application is spoken to: as its port declares, whatever its caller's sidecar made of the request (HTTP/2
    by `h2UpgradePolicy`, say); where nothing is declared, as its caller speaks."""
    one, two = Http1ProtocolOptions(), http2_options((pool.http if pool else None) or HTTPSettings())
    options = HttpProtocolOptions(common_http_protocol_options=common_options(pool) if pool is not None else None)
    if protocol.is_http2:
        options.explicit_http_config.http2_protocol_options.CopyFrom(two)
    elif protocol is Protocol.HTTP:
        options.explicit_http_config.http_protocol_options.CopyFrom(one)
    else:
        options.use_downstream_protocol_config.http_protocol_options.CopyFrom(one)
        options.use_downstream_protocol_config.http2_protocol_options.CopyFrom(two)
    return options
