"""The way from a sidecar to its application.

Invariant: a connection to the application starts in the application's network namespace, from an address (127.0.0.6,
Istio's) that tells it from a connection of the application's own where the kernel redirects those.
"""

from __future__ import annotations

from typing import Final

from envoy.config.cluster.v3.circuit_breaker_pb2 import CircuitBreakers
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.address_pb2 import Address, BindConfig, ExtraSourceAddress, SocketAddress
from envoy.config.core.v3.protocol_pb2 import Http1ProtocolOptions, Http2ProtocolOptions
from envoy.config.endpoint.v3.endpoint_components_pb2 import Endpoint, LbEndpoint, LocalityLbEndpoints
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions
from google.protobuf.wrappers_pb2 import UInt32Value

from gossamer.compile.draft import pack
from gossamer.compile.limits import HTTP_OPTIONS, seconds
from gossamer.model.proxy import Capture, CaptureMode
from gossamer.model.service import Protocol
from gossamer.model.settings import MeshSettings

PASSTHROUGH: Final = "InboundPassthroughCluster"
_SOURCE, _SOURCE_SIX = "127.0.0.6", "::6"
_UNLIMITED: Final = UInt32Value(value=2**32 - 1)
"""A sidecar does not limit its own application; callers do, by their DestinationRules."""


def port_cluster(port: int) -> str:
    """Name of the cluster of one of the workload's ports."""
    return f"inbound|{port}||"


def inbound_cluster(number: int, protocol: Protocol, capture: Capture, settings: MeshSettings) -> Cluster:
    """The cluster of a port: where the application listens if that is known, else where the caller dialled."""
    cluster = _cluster(port_cluster(number), protocol, capture, settings)
    address = capture.application_address or ("127.0.0.1" if capture.mesh_ports else "")
    if address:
        cluster.type = Cluster.STATIC
        cluster.load_assignment.CopyFrom(_assignment(cluster.name, address, number))
    else:
        _dial_original(cluster)
    return cluster


def passthrough_cluster(capture: Capture, settings: MeshSettings) -> Cluster:
    """Captured connections to ports that nobody named go on to where they were dialled."""
    cluster = _cluster(PASSTHROUGH, Protocol.AUTO, capture, settings)
    _dial_original(cluster)
    return cluster


def _cluster(name: str, protocol: Protocol, capture: Capture, settings: MeshSettings) -> Cluster:
    thresholds = CircuitBreakers.Thresholds(
        max_connections=_UNLIMITED, max_pending_requests=_UNLIMITED, max_requests=_UNLIMITED, max_retries=_UNLIMITED
    )
    cluster = Cluster(
        name=name,
        connect_timeout=seconds(settings.connect_timeout),
        circuit_breakers=CircuitBreakers(thresholds=[thresholds]),
        typed_extension_protocol_options={HTTP_OPTIONS: pack(_http_options(protocol))},
    )
    if capture.mode is CaptureMode.TRANSPARENT:
        cluster.upstream_bind_config.CopyFrom(_bind(capture.network_namespace))
    return cluster


def _dial_original(cluster: Cluster) -> None:
    cluster.type = Cluster.ORIGINAL_DST
    cluster.lb_policy = Cluster.CLUSTER_PROVIDED


def _assignment(name: str, address: str, port: int) -> ClusterLoadAssignment:
    endpoint = LbEndpoint(endpoint=Endpoint(address=_address(address, port)))
    return ClusterLoadAssignment(cluster_name=name, endpoints=[LocalityLbEndpoints(lb_endpoints=[endpoint])])


def _address(address: str, port: int) -> Address:
    return Address(socket_address=SocketAddress(address=address, port_value=port))


def _bind(network_namespace: str) -> BindConfig:
    """Connections start at 127.0.0.6, or ::6 to an IPv6 address; in a namespace of its own if there is one."""
    source = SocketAddress(address=_SOURCE, port_value=0, network_namespace_filepath=network_namespace)
    other = SocketAddress(address=_SOURCE_SIX, port_value=0, network_namespace_filepath=network_namespace)
    return BindConfig(source_address=source, extra_source_addresses=[ExtraSourceAddress(address=other)])


def _http_options(protocol: Protocol) -> HttpProtocolOptions:
    """How the application is spoken to: as its port declares, whatever its caller's sidecar made of the request (HTTP/2
    by `h2UpgradePolicy`, say); where nothing is declared, as its caller speaks."""
    one, two = Http1ProtocolOptions(), Http2ProtocolOptions()
    if protocol.is_http2:
        explicit = HttpProtocolOptions.ExplicitHttpConfig(http2_protocol_options=two)
        return HttpProtocolOptions(explicit_http_config=explicit)
    if protocol is Protocol.HTTP:
        explicit = HttpProtocolOptions.ExplicitHttpConfig(http_protocol_options=one)
        return HttpProtocolOptions(explicit_http_config=explicit)
    both = HttpProtocolOptions.UseDownstreamHttpConfig(http_protocol_options=one, http2_protocol_options=two)
    return HttpProtocolOptions(use_downstream_protocol_config=both)
