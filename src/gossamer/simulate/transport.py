"""The TLS handshake with the client: whether it succeeds and what both sides then know.

Invariant: a certificate counts only when Envoy asks for it and verifies it.
"""

from __future__ import annotations

from envoy.extensions.transport_sockets.tls.v3.common_pb2 import CertificateValidationContext, SubjectAltNameMatcher
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import CommonTlsContext, DownstreamTlsContext
from envoy.type.matcher.v3.string_pb2 import StringMatcher

from gossamer.simulate.connection import Connection
from gossamer.simulate.index import ChainConfig
from gossamer.simulate.matchers import matches_string
from gossamer.simulate.request import Certificate, Tls


def accept(chain: ChainConfig, connection: Connection) -> str:
    """Make the handshake; returns why it fails, the empty string when it does not."""
    context, tls = chain.tls, connection.request.tls
    if context is None:
        return ""
    if tls is None:
        return "the filter chain takes only TLS, and the client speaks plaintext"
    if context.require_sni.value and not tls.server_name:
        return "the client names no server in its handshake, which is required"
    problem = _client_certificate(context, tls)
    if problem:
        return problem
    common = context.common_tls_context
    connection.terminated = True
    connection.server_name = tls.server_name.lower()
    connection.negotiated = next((name for name in common.alpn_protocols if name in tls.alpn), "")
    connection.peer = tls.certificate if _asks(context) else None
    return ""


def pins(chain: ChainConfig) -> bool:
    """Whether certificates are accepted by their hash or key alone."""
    if chain.tls is None:
        return False
    asked = validation_context(chain.tls.common_tls_context)
    return bool(asked.verify_certificate_hash or asked.verify_certificate_spki)


def _asks(context: DownstreamTlsContext) -> bool:
    """Whether a certificate is asked for at all."""
    kind = context.common_tls_context.WhichOneof("validation_context_type")
    return context.require_client_certificate.value or kind is not None


def _client_certificate(context: DownstreamTlsContext, tls: Tls) -> str:
    if not _asks(context):
        return ""
    asked = validation_context(context.common_tls_context)
    blind = asked.trust_chain_verification == CertificateValidationContext.ACCEPT_UNTRUSTED
    if tls.certificate is None:
        demanded = context.require_client_certificate.value or (not blind and _picks(asked))
        return "the client shows no certificate" if demanded else ""
    if blind:  # Envoy then looks at nothing that is said of the certificate
        return ""
    if not tls.certificate.trusted:
        return "the client's certificate is not from an authority that is trusted here"
    wanted = asked.match_typed_subject_alt_names
    if wanted and not any(_san_matches(matcher, tls.certificate) for matcher in wanted):
        listed = ", ".join(describe_san(matcher) for matcher in wanted)
        return f"the client's certificate has none of the names that are accepted ({listed})"
    return ""


def _picks(asked: CertificateValidationContext) -> bool:
    """Whether certain certificates are wanted: then Envoy demands one, whether or not it is told to."""
    return bool(asked.match_typed_subject_alt_names or asked.verify_certificate_hash or asked.verify_certificate_spki)


def validation_context(common: CommonTlsContext) -> CertificateValidationContext:
    """What is written down about certificates of the other side; its roots may come by SDS."""
    match common.WhichOneof("validation_context_type"):
        case "validation_context":
            return common.validation_context
        case "combined_validation_context":
            return common.combined_validation_context.default_validation_context
    return CertificateValidationContext()


def _san_matches(wanted: SubjectAltNameMatcher, certificate: Certificate) -> bool:
    names: tuple[str, ...] = ()
    if wanted.san_type == SubjectAltNameMatcher.URI:
        names = certificate.uris
    elif wanted.san_type == SubjectAltNameMatcher.DNS:
        names = certificate.dns_names
    return any(matches_string(wanted.matcher, name) for name in names)


def describe_san(wanted: SubjectAltNameMatcher) -> str:
    """The matcher in words: `spiffe://a/ns/b/sa/c`, or `spiffe://a/*` for a prefix."""
    return describe_string(wanted.matcher)


def describe_string(matcher: StringMatcher) -> str:
    """A string matcher in words."""
    match matcher.WhichOneof("match_pattern"):
        case "exact":
            return matcher.exact
        case "prefix":
            return f"{matcher.prefix}*"
        case "suffix":
            return f"*{matcher.suffix}"
        case "contains":
            return f"*{matcher.contains}*"
        case "safe_regex":
            return f"~{matcher.safe_regex.regex}"
    return "(an extension)"
