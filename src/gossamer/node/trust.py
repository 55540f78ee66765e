"""What an Envoy verifies its peers of the mesh by: the roots that its certificates came with, and the anchors that the
control plane names beside them.

Invariant: an anchor counts for the trust domains that it is given for and for no other, and one that is damaged is left
out, since Envoy would refuse all of them for it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from typing import Final

from envoy.config.core.v3.base_pb2 import DataSource
from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.extensions.transport_sockets.tls.v3.common_pb2 import CertificateValidationContext
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from envoy.extensions.transport_sockets.tls.v3.tls_spiffe_validator_config_pb2 import SPIFFECertValidatorConfig
from google.protobuf.any_pb2 import Any as AnyMessage

from gossamer.ca.certificates import load_chain
from gossamer.ca.revocation import split_lists
from gossamer.compile.agent_clusters import FOREIGN_ANCHORS, SPIFFE_VALIDATOR, TRUST_ANCHORS
from gossamer.core.errors import IdentityError
from gossamer.core.resources import Resource

_LOG = logging.getLogger(__name__)
_UNLISTED: Final = "while certificates are revoked, Envoy believes none whose issuer has no list: anchors have none"
_BLOCK: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\s*", re.DOTALL)


def trust_context(own_pem: bytes, named: Iterable[Resource]) -> CertificateValidationContext:
    """Whom to believe: the mesh's roots, with lists of what they revoked among them if there are any; `named` are the
    control plane's secrets, among which there may be one of anchors.

    Lists are looked at for the certificates of workloads alone: of those above, Envoy would want lists, too. Where
    there are lists, it wants one of every issuer: whom an anchor vouches for is refused then.
    """
    roots_pem, lists = split_lists(own_pem)
    context = CertificateValidationContext(trusted_ca=DataSource(inline_bytes=roots_pem))
    if lists:
        context.crl.inline_bytes = lists
        context.only_verify_leaf_cert_crl = True
    given = {one.name: one for one in named if one.name in (TRUST_ANCHORS, FOREIGN_ANCHORS)}
    if TRUST_ANCHORS not in given:
        return context
    anchors = _anchors(given[TRUST_ANCHORS])
    if lists and any(pem for _, pem in anchors):
        _LOG.warning("anchors-without-lists", extra={"reason": _UNLISTED})
    own = ((name, own_pem.rstrip() + b"\n" + pem) for name, pem in anchors)
    foreign = _anchors(given[FOREIGN_ANCHORS]) if FOREIGN_ANCHORS in given else []
    domains = [
        SPIFFECertValidatorConfig.TrustDomain(name=name, trust_bundle=DataSource(inline_bytes=pem))
        for name, pem in (*own, *foreign)
        if pem
    ]
    config = AnyMessage()
    config.Pack(SPIFFECertValidatorConfig(trust_domains=domains), deterministic=True)
    context.custom_validator_config.CopyFrom(TypedExtensionConfig(name=SPIFFE_VALIDATOR, typed_config=config))
    return context


def _anchors(secret: Resource) -> list[tuple[str, bytes]]:
    """The trust domains of a secret, with those of their roots that can be read."""
    found = Secret.FromString(AnyMessage.FromString(secret.body).value)
    config = SPIFFECertValidatorConfig()
    found.validation_context.custom_validator_config.typed_config.Unpack(config)
    return [(domain.name, _sound(domain.trust_bundle.inline_bytes)) for domain in config.trust_domains]


def _sound(pem: bytes) -> bytes:
    """The certificates that can be read."""
    kept = []
    for block in _BLOCK.findall(pem):
        try:
            load_chain(block, "an anchor of caCertificates")
        except IdentityError as error:
            _LOG.warning("anchor-left-out", extra={"reason": str(error)})
        else:
            kept.append(block)
    return b"".join(kept)
