"""Transport sockets: how a connection is encrypted and whose certificate is believed.

Invariant: keys and certificates are only ever named. They come over the agent's SDS, from the static cluster `sds-grpc`
of the bootstrap: `default` is the workload's own certificate, `ROOTCA` the mesh's roots, `kubernetes://NAME` (and
`NAME-cacert`) a Secret of a gateway's namespace, `file-cert:CERT~KEY` and `file-root:FILE` or `file-root:FILE~CRL`
files of the host.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import cache
from typing import Final

from envoy.config.core.v3.base_pb2 import TransportSocket
from envoy.config.core.v3.config_source_pb2 import ApiConfigSource, ApiVersion, ConfigSource
from envoy.config.core.v3.grpc_service_pb2 import GrpcService
from envoy.extensions.transport_sockets.tls.v3.common_pb2 import (
    CertificateValidationContext,
    SubjectAltNameMatcher,
)
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import SdsSecretConfig
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import CommonTlsContext, DownstreamTlsContext, UpstreamTlsContext
from envoy.type.matcher.v3.string_pb2 import StringMatcher
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import BoolValue

from gossamer.api.destination_rule import ClientTLSMode, ClientTLSSettings
from gossamer.api.gateway import ServerTLSMode, ServerTLSSettings
from gossamer.api.mesh_config import MeshTLSConfig
from gossamer.compile.agent_clusters import SDS_CLUSTER
from gossamer.compile.draft import pack
from gossamer.compile.tls_parameters import chosen_parameters, mesh_client_parameters, server_parameters
from gossamer.model.credentials import authority_name, resource_name
from gossamer.model.service import Protocol
from gossamer.model.tls_choices import NO_CHOICES, UNCHOSEN, TlsChoices

IDENTITY: Final = "default"
ROOTS: Final = "ROOTCA"

HTTP1_ALPN: Final = ("istio-http/1.1",)
HTTP2_ALPN: Final = ("istio-h2",)
HTTP_ALPN: Final = ("istio-http/1.1", "istio-h2")
TCP_ALPN: Final = ("istio-peer-exchange", "istio")
HTTP_PEER_ALPN: Final = ("istio-http/1.0", "istio-http/1.1", "istio-h2")
"""What marks a TLS connection as one of the mesh's that carries HTTP."""
PEER_ALPN: Final = (*TCP_ALPN, *HTTP_PEER_ALPN)
"""What marks a TLS connection as one of the mesh's, whatever it carries."""

_CREDENTIAL_TIMEOUT: Final = 5
"""Seconds that a listener or cluster warms for a Secret of a user's. A missing one then fails its own handshakes and
holds up nothing else; the mesh's own identity is waited for without end, since nothing works without it."""


def mesh_alpn(protocol: Protocol) -> tuple[str, ...]:
    """What a client offers to a port of this protocol over the mesh's mutual TLS.

    Istio's names, by which a server tells mesh traffic from the application's own TLS, and HTTP from TCP. Only such
    names: none of them is negotiated, so the server finds the HTTP version by looking. For AUTO it is what a TCP
    connection offers; HTTP requests override it (`hcm`).
    """
    if protocol.is_http2:
        return HTTP2_ALPN
    return HTTP1_ALPN if protocol.is_http else TCP_ALPN


def mesh_client_context(
    sni: str,
    spiffe_ids: tuple[str, ...],
    alpn: tuple[str, ...],
    chosen: MeshTLSConfig = UNCHOSEN,
    *,
    members: tuple[str, ...] = (),
) -> TransportSocket:
    """ISTIO_MUTUAL: own identity against the mesh's roots. The server must be one of `spiffe_ids` (secure naming); with
    none of them known, anyone of the mesh: of the trust domains `members`, where others are trusted, too."""
    common = CommonTlsContext(tls_params=mesh_client_parameters(chosen), alpn_protocols=alpn)
    _identify(common, IDENTITY, ROOTS, _san_context(spiffe_ids) if spiffe_ids else _domains_context(members))
    return _client_socket(UpstreamTlsContext(common_tls_context=common, sni=sni))


def client_context(
    settings: ClientTLSSettings, sni: str, alpn: tuple[str, ...] = (), chosen: MeshTLSConfig = UNCHOSEN
) -> TransportSocket:
    """SIMPLE or MUTUAL of a DestinationRule (ISTIO_MUTUAL: see `mesh_client_context`; DISABLE has no socket).

    `sni` is used when the settings have none. Without a CA of its own the server is verified against the host's
    trusted roots (`file-root:system`).
    """
    common = CommonTlsContext(tls_params=chosen_parameters(chosen), alpn_protocols=alpn)
    if settings.mode is ClientTLSMode.MUTUAL:
        name = resource_name(settings.credential_name) if settings.credential_name else ""
        files = f"file-cert:{settings.client_certificate}~{settings.private_key}"
        common.tls_certificate_sds_secret_configs.append(sds(name or files, timeout=_CREDENTIAL_TIMEOUT))
    if not settings.insecure_skip_verify:
        context = _san_context(settings.subject_alt_names)
        _validate(common, _client_roots(settings), context, timeout=_CREDENTIAL_TIMEOUT)
    return _client_socket(UpstreamTlsContext(common_tls_context=common, sni=settings.sni or sni))


def _client_roots(settings: ClientTLSSettings) -> str:
    if settings.credential_name:
        return authority_name(settings.credential_name)
    return _root_files(settings.ca_certificates or "system", settings.ca_crl)


def _root_files(roots: str, revoked: str) -> str:
    """The name of roots in a file, with the list of what they revoked."""
    return f"file-root:{roots}~{revoked}" if revoked else f"file-root:{roots}"


@cache
def mesh_server_context(
    trust_domains: tuple[str, ...], alpn: tuple[str, ...], chosen: MeshTLSConfig = UNCHOSEN
) -> TransportSocket:
    """What a sidecar's port takes: a client certificate is required, and must be one of these trust domains.
    The same message each time."""
    common = CommonTlsContext(tls_params=chosen_parameters(chosen), alpn_protocols=alpn)
    _identify(common, IDENTITY, ROOTS, _domains_context(trust_domains))
    return _server_socket(
        DownstreamTlsContext(common_tls_context=common, require_client_certificate=BoolValue(value=True))
    )


def server_context(
    settings: ServerTLSSettings,
    trust_domains: tuple[str, ...],
    alpn: tuple[str, ...] = ("h2", "http/1.1"),
    choices: TlsChoices = NO_CHOICES,
) -> TransportSocket:
    """What a Gateway's server takes: SIMPLE, MUTUAL, OPTIONAL_MUTUAL or ISTIO_MUTUAL (PASSTHROUGH has no socket).

    The first of `credentialName`, `credentialNames` (several: one per key type), `tlsCertificates` and the two file
    fields that is set gives the certificate.
    """
    if settings.mode is ServerTLSMode.ISTIO_MUTUAL:
        return mesh_server_context(trust_domains, alpn, choices.mesh)
    return _server_socket(own_server_context(settings, alpn, choices.others))


def own_server_context(
    settings: ServerTLSSettings, alpn: tuple[str, ...], chosen: MeshTLSConfig = UNCHOSEN
) -> DownstreamTlsContext:
    """The context of a server with certificates of its own: every mode that ends TLS but ISTIO_MUTUAL."""
    common = CommonTlsContext(tls_params=server_parameters(settings, chosen), alpn_protocols=alpn)
    for name in _server_certificates(settings):
        common.tls_certificate_sds_secret_configs.append(sds(name, timeout=_CREDENTIAL_TIMEOUT))
    demands = settings.mode is ServerTLSMode.MUTUAL
    if demands or settings.mode is ServerTLSMode.OPTIONAL_MUTUAL:
        context = _san_context(settings.subject_alt_names)
        context.verify_certificate_spki.extend(settings.verify_certificate_spki)
        context.verify_certificate_hash.extend(settings.verify_certificate_hash)
        if settings.insecure_skip_verify:
            context.trust_chain_verification = CertificateValidationContext.ACCEPT_UNTRUSTED
        _validate(common, _server_roots(settings), context, timeout=_CREDENTIAL_TIMEOUT)
    return DownstreamTlsContext(common_tls_context=common, require_client_certificate=BoolValue(value=demands))


def _server_certificates(settings: ServerTLSSettings) -> list[str]:
    if settings.credential_name or settings.credential_names:
        names = (settings.credential_name,) if settings.credential_name else settings.credential_names
        return [resource_name(name) for name in names]
    if settings.tls_certificates:
        return [f"file-cert:{pair.server_certificate}~{pair.private_key}" for pair in settings.tls_certificates]
    return [f"file-cert:{settings.server_certificate}~{settings.private_key}"]


def _server_roots(settings: ServerTLSSettings) -> str:
    name = settings.ca_cert_credential_name or settings.credential_name or next(iter(settings.credential_names), "")
    if name:
        return authority_name(name)
    pairs = (pair.ca_certificates for pair in settings.tls_certificates if pair.ca_certificates)
    return _root_files(settings.ca_certificates or next(pairs, ""), settings.ca_crl)


def sds(name: str, timeout: int = 0) -> SdsSecretConfig:
    """A secret by name over the agent's SDS; `timeout` seconds of warming, 0 for as long as it takes."""
    source = ApiConfigSource(
        api_type=ApiConfigSource.GRPC,
        transport_api_version=ApiVersion.V3,
        set_node_on_first_message_only=True,
        grpc_services=[GrpcService(envoy_grpc=GrpcService.EnvoyGrpc(cluster_name=SDS_CLUSTER))],
    )
    return SdsSecretConfig(
        name=name,
        sds_config=ConfigSource(
            api_config_source=source,
            resource_api_version=ApiVersion.V3,
            initial_fetch_timeout=Duration(seconds=timeout),
        ),
    )


def _identify(common: CommonTlsContext, certificate: str, roots: str, context: CertificateValidationContext) -> None:
    common.tls_certificate_sds_secret_configs.append(sds(certificate))
    _validate(common, roots, context)


def _validate(common: CommonTlsContext, roots: str, context: CertificateValidationContext, timeout: int = 0) -> None:
    combined = common.combined_validation_context
    combined.default_validation_context.CopyFrom(context)
    combined.validation_context_sds_secret_config.CopyFrom(sds(roots, timeout))


def _domains_context(trust_domains: tuple[str, ...]) -> CertificateValidationContext:
    matchers = [_san(SubjectAltNameMatcher.URI, StringMatcher(prefix=f"spiffe://{name}/")) for name in trust_domains]
    return CertificateValidationContext(match_typed_subject_alt_names=matchers)


def _san_context(names: Iterable[str]) -> CertificateValidationContext:
    matchers = [_san(_san_type(name), StringMatcher(exact=name)) for name in names]
    return CertificateValidationContext(match_typed_subject_alt_names=matchers)


def _san_type(name: str) -> SubjectAltNameMatcher.SanType.ValueType:
    if "://" in name:
        return SubjectAltNameMatcher.URI
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return SubjectAltNameMatcher.EMAIL if "@" in name else SubjectAltNameMatcher.DNS
    return SubjectAltNameMatcher.IP_ADDRESS


def _san(kind: SubjectAltNameMatcher.SanType.ValueType, matcher: StringMatcher) -> SubjectAltNameMatcher:
    return SubjectAltNameMatcher(san_type=kind, matcher=matcher)


def _client_socket(context: UpstreamTlsContext) -> TransportSocket:
    return TransportSocket(name="envoy.transport_sockets.tls", typed_config=pack(context))


def _server_socket(context: DownstreamTlsContext) -> TransportSocket:
    return TransportSocket(name="envoy.transport_sockets.tls", typed_config=pack(context))
