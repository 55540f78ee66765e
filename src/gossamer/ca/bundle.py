"""What hosts are told to trust: the mesh's roots, and what was revoked.

Invariant: equal content has one version, whoever signs.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509

from gossamer.ca.authority import Authority
from gossamer.ca.certificates import build_anchor, fingerprint
from gossamer.rpc import gossamer_pb2 as pb


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What is said beside the authority's own roots: `verify_pem` is what Envoy verifies the mesh's certificates by
    while some are revoked."""

    verify_pem: bytes = b""


def anchors_of(authority: Authority, now: datetime) -> tuple[x509.Certificate, ...]:
    """The key that signs as a root of its own, which may sign lists. Of every certificate above a leaf Envoy wants the
    list of its issuer, too, and above a plugged-in intermediate nobody but its owner could make one."""
    if authority.issuer.certificate == authority.root:
        return (authority.root,)
    return (build_anchor(authority.issuer, now),)


def trust_bundle(authority: Authority, beside: Beside) -> pb.TrustBundle:
    """What a host is told, and which key signs now."""
    return pb.TrustBundle(
        trust_domain=authority.trust_domain,
        roots_pem=authority.roots_pem.decode(),
        signer_key_id=authority.signer_key_id,
        version=trust_version(authority, beside),
        verify_pem=beside.verify_pem.decode(),
    )


def trust_version(authority: Authority, beside: Beside) -> str:
    """Names what is trusted; it does not depend on who signs."""
    digest = hashlib.sha256()
    parts = [fingerprint(root).encode() for root in authority.roots]
    for part in (*parts, beside.verify_pem):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:32]
