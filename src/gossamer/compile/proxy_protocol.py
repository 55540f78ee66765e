"""The PROXY protocol to a cluster's endpoints: they are told the address that a connection came from.

Invariant: sidecars read no PROXY header, so an endpoint that is called by the mesh's own TLS of its own accord (auto
mTLS) is sent none.
"""

from __future__ import annotations

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.base_pb2 import TransportSocket
from envoy.config.core.v3.proxy_protocol_pb2 import ProxyProtocolConfig
from envoy.extensions.transport_sockets.proxy_protocol.v3.upstream_proxy_protocol_pb2 import (
    ProxyProtocolUpstreamTransport,
)

from gossamer.api.destination_rule import ProxyProtocol, ProxyProtocolVersion
from gossamer.compile.draft import pack
from gossamer.compile.upstream_tls import MESH_SOCKET, PLAIN


def speak_proxy_protocol(cluster: Cluster, asked: ProxyProtocol | None) -> None:
    """Wrap the cluster's transport sockets, if a DestinationRule asks for it."""
    if asked is None:
        return
    for match in cluster.transport_socket_matches:
        if match.name != MESH_SOCKET:
            match.transport_socket.CopyFrom(_wrapped(match.transport_socket, asked))
    if not cluster.transport_socket_matches:
        own = cluster.transport_socket if cluster.HasField("transport_socket") else PLAIN
        cluster.transport_socket.CopyFrom(_wrapped(own, asked))


def _wrapped(socket: TransportSocket, asked: ProxyProtocol) -> TransportSocket:
    second = asked.version is ProxyProtocolVersion.V2
    config = ProxyProtocolConfig(version=ProxyProtocolConfig.V2 if second else ProxyProtocolConfig.V1)
    transport = ProxyProtocolUpstreamTransport(config=config, transport_socket=socket)
    return TransportSocket(name="envoy.transport_sockets.upstream_proxy_protocol", typed_config=pack(transport))
