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

from gossamer.api.destination_rule import ClientTLSMode, ClientTLSSettings, TrafficPolicy
from gossamer.compile.draft import pack
from gossamer.compile.tls import client_context, mesh_alpn, mesh_client_context
from gossamer.model.destinations import Subset
from gossamer.model.names import server_name
from gossamer.model.service import Port, Resolution
from gossamer.model.settings import MeshSettings
from gossamer.model.view import OutboundService

TLS_MODE: Final = "tlsMode"
"""Key of an endpoint's metadata (`envoy.transport_socket_match`): `istio` where a sidecar takes mutual TLS."""
ISTIO: Final = "istio"

_PLAIN: Final = TransportSocket(name="envoy.transport_sockets.raw_buffer", typed_config=pack(RawBuffer()))


def upstream_tls(
    cluster: Cluster,
    outbound: OutboundService,
    port: Port,
    subset: Subset | None,
    policy: TrafficPolicy,
    settings: MeshSettings,
) -> None:
    """Set the cluster's transport sockets."""
    service, tls = outbound.service, policy.tls
    if tls is None:
        unknown = cluster.type == Cluster.ORIGINAL_DST or service.resolution is Resolution.DYNAMIC_DNS
        if settings.auto_mtls and not service.external and not unknown:
            mesh = _mesh_socket(outbound, port, subset, (), settings)
            _by_endpoint(cluster, mesh)
        return
    if tls.mode is ClientTLSMode.ISTIO_MUTUAL:
        cluster.transport_socket.CopyFrom(
            _mesh_socket(outbound, port, subset, tls.subject_alt_names, settings, tls.sni)
        )
    elif tls.mode in (ClientTLSMode.SIMPLE, ClientTLSMode.MUTUAL):
        cluster.transport_socket.CopyFrom(_own_socket(outbound, port, tls))


def _by_endpoint(cluster: Cluster, mesh: TransportSocket) -> None:
    match = Struct()
    match.fields[TLS_MODE].string_value = ISTIO
    cluster.transport_socket_matches.extend(
        [
            Cluster.TransportSocketMatch(name="tlsMode-istio", match=match, transport_socket=mesh),
            Cluster.TransportSocketMatch(name="tlsMode-disabled", match=Struct(), transport_socket=_PLAIN),
        ]
    )


def _mesh_socket(
    outbound: OutboundService,
    port: Port,
    subset: Subset | None,
    names: tuple[str, ...],
    settings: MeshSettings,
    sni: str = "",
) -> TransportSocket:
    service = outbound.service
    known = names or service.subject_alt_names or spiffe_names(outbound.accounts, settings)
    asked = sni or server_name(service.hostname, port.number, subset.name if subset else "")
    return mesh_client_context(asked, tuple(known), mesh_alpn(port.protocol))


def spiffe_names(accounts: tuple[str, ...], settings: MeshSettings) -> tuple[str, ...]:
    """Identities of accounts in every trust domain that counts as the mesh's own."""
    return tuple(f"spiffe://{domain}/{account}" for account in accounts for domain in settings.trust_domains)


def _own_socket(outbound: OutboundService, port: Port, tls: ClientTLSSettings) -> TransportSocket:
    """SIMPLE and MUTUAL: the service's name is what SNI says and, where nothing else is said, what is verified."""
    service = outbound.service
    name = tls.sni or ("" if service.wildcard else service.hostname)
    if not tls.subject_alt_names:
        tls = replace(tls, subject_alt_names=service.subject_alt_names or ((name,) if name else ()))
    return client_context(tls, name, ("h2",) if port.protocol.is_http2 else ())
