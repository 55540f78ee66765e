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
    TlsParameters,
)
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import SdsSecretConfig
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import CommonTlsContext, DownstreamTlsContext, UpstreamTlsContext
from envoy.type.matcher.v3.string_pb2 import StringMatcher
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import BoolValue

from gossamer.api.destination_rule import ClientTLSMode, ClientTLSSettings
from gossamer.api.gateway import ServerTLSMode, ServerTLSSettings, TLSProtocol
from gossamer.api.rules.gateway import CIPHER_SUITES
from gossamer.compile.agent_clusters import SDS_CLUSTER
from gossamer.compile.draft import pack
from gossamer.model.credentials import authority_name, resource_name
from gossamer.model.service import Protocol

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

_CIPHERS: Final = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
)
"""For TLS 1.2: forward secrecy and AEAD only. TLS 1.3 has none to choose."""
_VERSIONS: Final = {
    TLSProtocol.TLS_AUTO: TlsParameters.TLS_AUTO,
    TLSProtocol.TLSV1_0: TlsParameters.TLSv1_0,
    TLSProtocol.TLSV1_1: TlsParameters.TLSv1_1,
    TLSProtocol.TLSV1_2: TlsParameters.TLSv1_2,
    TLSProtocol.TLSV1_3: TlsParameters.TLSv1_3,
}
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


def mesh_client_context(sni: str, spiffe_ids: tuple[str, ...], alpn: tuple[str, ...]) -> TransportSocket:
    """ISTIO_MUTUAL: own identity against the mesh's roots. The server must be one of `spiffe_ids` (secure naming); with
    none of them known, anyone of the mesh."""
    common = _common(alpn)
    common.tls_params.ClearField("cipher_suites")  # a twentieth of all that is sent; Envoy's own list is as strict
    _identify(common, IDENTITY, ROOTS, _san_context(spiffe_ids))
    return _client_socket(UpstreamTlsContext(common_tls_context=common, sni=sni))


def client_context(settings: ClientTLSSettings, sni: str, alpn: tuple[str, ...] = ()) -> TransportSocket:
    """SIMPLE or MUTUAL of a DestinationRule (ISTIO_MUTUAL: see `mesh_client_context`; DISABLE has no socket).

    `sni` is used when the settings have none. Without a CA of its own the server is verified against the host's
    trusted roots (`file-root:system`).
    """
    common = _common(alpn)
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
def mesh_server_context(trust_domains: tuple[str, ...], alpn: tuple[str, ...]) -> TransportSocket:
    """What a sidecar's port takes: a client certificate is required, and must be one of these trust domains.
    The same message each time."""
    common = _common(alpn)
    context = CertificateValidationContext(
        match_typed_subject_alt_names=[
            _san(SubjectAltNameMatcher.URI, StringMatcher(prefix=f"spiffe://{name}/")) for name in trust_domains
        ]
    )
    _identify(common, IDENTITY, ROOTS, context)
    return _server_socket(
        DownstreamTlsContext(common_tls_context=common, require_client_certificate=BoolValue(value=True))
    )


def server_context(
    settings: ServerTLSSettings, trust_domains: tuple[str, ...], alpn: tuple[str, ...] = ("h2", "http/1.1")
) -> TransportSocket:
    """What a Gateway's server takes: SIMPLE, MUTUAL, OPTIONAL_MUTUAL or ISTIO_MUTUAL (PASSTHROUGH has no socket).

    The first of `credentialName`, `credentialNames` (several: one per key type), `tlsCertificates` and the two file
    fields that is set gives the certificate.
    """
    if settings.mode is ServerTLSMode.ISTIO_MUTUAL:
        return mesh_server_context(trust_domains, alpn)
    return _server_socket(own_server_context(settings, alpn))


def own_server_context(settings: ServerTLSSettings, alpn: tuple[str, ...]) -> DownstreamTlsContext:
    """The context of a server with certificates of its own: every mode that ends TLS but ISTIO_MUTUAL."""
    common = _common(alpn)
    common.tls_params.CopyFrom(_server_parameters(settings))
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


def _server_parameters(settings: ServerTLSSettings) -> TlsParameters:
    """A Gateway's own choice of versions and ciphers, TLS 1.2 at least unless it asks for less by name."""
    minimum = _VERSIONS[settings.min_protocol_version] or TlsParameters.TLSv1_2
    maximum = _VERSIONS[settings.max_protocol_version] or TlsParameters.TLSv1_3
    return TlsParameters(
        tls_minimum_protocol_version=minimum,
        tls_maximum_protocol_version=maximum,
        cipher_suites=[name for name in dict.fromkeys(settings.cipher_suites) if name in CIPHER_SUITES] or _CIPHERS,
        ecdh_curves=settings.ecdh_curves,
    )


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


def _common(alpn: tuple[str, ...]) -> CommonTlsContext:
    parameters = TlsParameters(
        tls_minimum_protocol_version=TlsParameters.TLSv1_2,
        tls_maximum_protocol_version=TlsParameters.TLSv1_3,
        cipher_suites=_CIPHERS,
    )
    return CommonTlsContext(tls_params=parameters, alpn_protocols=alpn)


def _identify(common: CommonTlsContext, certificate: str, roots: str, context: CertificateValidationContext) -> None:
    common.tls_certificate_sds_secret_configs.append(sds(certificate))
    _validate(common, roots, context)


def _validate(common: CommonTlsContext, roots: str, context: CertificateValidationContext, timeout: int = 0) -> None:
    combined = common.combined_validation_context
    combined.default_validation_context.CopyFrom(context)
    combined.validation_context_sds_secret_config.CopyFrom(sds(roots, timeout))


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
