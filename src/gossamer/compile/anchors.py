"""The anchors of trust beside the mesh's own roots, told to agents as one secret.

An agent joins them with the roots that its own certificates came with, and gives its Envoy the whole as `ROOTCA`.
Invariant: there is such a secret only where some are configured.
"""

from __future__ import annotations

from envoy.config.core.v3.base_pb2 import DataSource
from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.extensions.transport_sockets.tls.v3.common_pb2 import CertificateValidationContext
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from envoy.extensions.transport_sockets.tls.v3.tls_spiffe_validator_config_pb2 import SPIFFECertValidatorConfig

from gossamer.compile.agent_clusters import SPIFFE_VALIDATOR, TRUST_ANCHORS
from gossamer.compile.draft import Draft, pack
from gossamer.compile.serialise import finished
from gossamer.core.memo import Memo
from gossamer.core.resources import SECRET, Resource, Table
from gossamer.model.anchors import Anchors


def compile_anchors(anchors: tuple[Anchors, ...], memo: Memo) -> tuple[Table, ...]:
    """The table of the secret, the same one for all proxies."""
    return memo(_table, anchors) if anchors else ()


def _table(anchors: tuple[Anchors, ...]) -> tuple[Table, ...]:
    return (Table(SECRET, [_secret(anchors)]),)


def _secret(anchors: tuple[Anchors, ...]) -> Resource:
    domains = [
        SPIFFECertValidatorConfig.TrustDomain(name=one.domain, trust_bundle=DataSource(inline_bytes=one.roots.encode()))
        for one in anchors
    ]
    config = SPIFFECertValidatorConfig(trust_domains=domains)
    context = CertificateValidationContext(
        custom_validator_config=TypedExtensionConfig(name=SPIFFE_VALIDATOR, typed_config=pack(config))
    )
    message = Secret(name=TRUST_ANCHORS, validation_context=context)
    return finished(Draft(type_url=SECRET, name=TRUST_ANCHORS, message=message, references=frozenset(), origins=()))
