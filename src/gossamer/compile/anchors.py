"""The anchors of trust beside the mesh's own roots, told to agents as secrets.

An agent joins them with the roots that its own certificates came with, and gives its Envoy the whole as `ROOTCA`; those
of foreign trust domains, a secret of their own, it joins with nothing. Invariant: there are such secrets only where
some are configured.
"""

from __future__ import annotations

from envoy.config.core.v3.base_pb2 import DataSource
from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.extensions.transport_sockets.tls.v3.common_pb2 import CertificateValidationContext
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from envoy.extensions.transport_sockets.tls.v3.tls_spiffe_validator_config_pb2 import SPIFFECertValidatorConfig

from gossamer.compile.agent_clusters import FOREIGN_ANCHORS, SPIFFE_VALIDATOR, TRUST_ANCHORS
from gossamer.compile.draft import Draft, pack
from gossamer.compile.serialise import finished
from gossamer.core.memo import Memo
from gossamer.core.resources import SECRET, Resource, Table
from gossamer.model.anchors import Anchors


def compile_anchors(anchors: tuple[Anchors, ...], memo: Memo, foreign: tuple[Anchors, ...] = ()) -> tuple[Table, ...]:
    """The table of the secrets, the same one for all proxies."""
    return memo(_table, anchors, foreign) if anchors else ()


def _table(anchors: tuple[Anchors, ...], foreign: tuple[Anchors, ...]) -> tuple[Table, ...]:
    there = tuple(one for one in foreign if one.roots)
    abroad = [_secret(FOREIGN_ANCHORS, there)] if there else []
    return (Table(SECRET, [_secret(TRUST_ANCHORS, anchors), *abroad]),)


def _secret(name: str, anchors: tuple[Anchors, ...]) -> Resource:
    domains = [
        SPIFFECertValidatorConfig.TrustDomain(name=one.domain, trust_bundle=DataSource(inline_bytes=one.roots.encode()))
        for one in anchors
    ]
    config = SPIFFECertValidatorConfig(trust_domains=domains)
    context = CertificateValidationContext(
        custom_validator_config=TypedExtensionConfig(name=SPIFFE_VALIDATOR, typed_config=pack(config))
    )
    message = Secret(name=name, validation_context=context)
    return finished(Draft(type_url=SECRET, name=name, message=message, references=frozenset(), origins=()))
