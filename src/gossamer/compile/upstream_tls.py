"""Which TLS a cluster speaks to its endpoints.

Invariant: without a DestinationRule's word a call inside the mesh uses mutual TLS wherever the endpoint takes it (auto
mTLS), and the endpoint must be one of those who answer for the service (secure naming).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.base_pb2 import TransportSocket
from envoy.extensions.transport_sockets.raw_buffer.v3.raw_buffer_pb2 import RawBuffer
from google.protobuf.struct_pb2 import Struct

from gossamer.api.destination_rule import ClientTLSMode, ClientTLSSettings
from gossamer.compile.calls import Call
from gossamer.compile.draft import pack
from gossamer.compile.tls import HTTP2_ALPN, client_context, mesh_alpn, mesh_client_context
from gossamer.compile.upstream_http import verifies_by_request
from gossamer.model.names import server_name
from gossamer.model.service import Resolution
from gossamer.model.settings import MeshSettings

TLS_MODE: Final = "tlsMode"
"""Key of an endpoint's metadata (`envoy.transport_socket_match`): `istio` where a sidecar takes mutual TLS."""
ISTIO: Final = "istio"
MESH_SOCKET: Final = "tlsMode-istio"
"""Name of the match by which endpoints are called over mutual TLS."""

PLAIN: Final = TransportSocket(name="envoy.transport_sockets.raw_buffer", typed_config=pack(RawBuffer()))


def upstream_tls(cluster: Cluster, call: Call, settings: MeshSettings) -> None:
    """Set the cluster's transport sockets."""
    service, tls = call.outbound.service, call.policy.tls
    if tls is None:
        unknown = cluster.type == Cluster.ORIGINAL_DST or service.resolution is Resolution.DYNAMIC_DNS
        if settings.auto_mtls and not service.external and not unknown:
            _by_endpoint(cluster, _mesh_socket(call, (), settings))
    elif tls.mode is ClientTLSMode.ISTIO_MUTUAL:
        cluster.transport_socket.CopyFrom(_mesh_socket(call, tls.subject_alt_names, settings, tls.sni))
    elif tls.mode in (ClientTLSMode.SIMPLE, ClientTLSMode.MUTUAL):
        cluster.transport_socket.CopyFrom(_own_socket(call, tls, settings))


def _by_endpoint(cluster: Cluster, mesh: TransportSocket) -> None:
    match = Struct()
    match.fields[TLS_MODE].string_value = ISTIO
    cluster.transport_socket_matches.extend(
        [
            Cluster.TransportSocketMatch(name=MESH_SOCKET, match=match, transport_socket=mesh),
            Cluster.TransportSocketMatch(name="tlsMode-disabled", match=Struct(), transport_socket=PLAIN),
        ]
    )


def _mesh_socket(call: Call, names: tuple[str, ...], settings: MeshSettings, sni: str = "") -> TransportSocket:
    service, subset = call.outbound.service, call.subset
    known = names or service.subject_alt_names or spiffe_names(call.outbound.accounts, settings)
    asked = sni or server_name(service.hostname, call.port.number, subset.name if subset else "")
    alpn = HTTP2_ALPN if call.http2 and call.port.protocol.is_http else mesh_alpn(call.port.protocol)
    members = settings.trust_domains if settings.foreign else ()
    return mesh_client_context(asked, tuple(known), alpn, settings.tls.mesh, members=members)


def spiffe_names(accounts: tuple[str, ...], settings: MeshSettings) -> tuple[str, ...]:
    """Identities of accounts in every trust domain that counts as the mesh's own."""
    return tuple(f"spiffe://{domain}/{account}" for account in accounts for domain in settings.trust_domains)


def _own_socket(call: Call, tls: ClientTLSSettings, settings: MeshSettings) -> TransportSocket:
    """SIMPLE and MUTUAL. Without any other word the name that SNI says is the one that is verified: that of each HTTP
    request, or the service's where there are no requests to read."""
    service = call.outbound.service
    name = tls.sni or ("" if service.wildcard else service.hostname)
    if not tls.subject_alt_names:
        fallback = (name,) if name and not verifies_by_request(call) else ()
        tls = replace(tls, subject_alt_names=service.subject_alt_names or fallback)
    return client_context(tls, name, ("h2",) if call.http2 else (), settings.tls.others)
