"""A workload's or a host's key and certificates as one value, and when it is to be renewed.

The key is made on this host and never leaves it; what is shown or logged of a value never contains it. Pure: time and
chance are arguments.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from gossamer.ca.certificates import load_chain
from gossamer.ca.revocation import serials_on
from gossamer.ca.spiffe import WorkloadId
from gossamer.core.errors import IdentityError

RENEWAL_SPREAD: Final = 0.1
_FIRST_RETRY_S: Final = 1.0
_LONGEST_RETRY_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyedCertificate:
    """A private key, the certificates that speak for it, and the roots to verify others by; all PEM.

    `chain_pem` begins with the leaf and goes on with intermediates, without the root; `roots_pem` may hold several
    roots, all of them trusted. Times are those of the leaf, in UTC. `signer_key_id` is the hexadecimal identifier of
    the key that signed it.
    """

    key_pem: bytes = field(repr=False)
    chain_pem: bytes = field(repr=False)
    roots_pem: bytes = field(repr=False)
    not_before: datetime
    not_after: datetime
    signer_key_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadIdentity(KeyedCertificate):
    """What one sidecar proves itself with."""

    spiffe_id: str
    dns_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationIdentity(KeyedCertificate):
    """What an application proves itself with where no sidecar does it."""

    spiffe_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HostIdentity(KeyedCertificate):
    """What this host proves itself with. `grants` is what it may ask for: `namespace/service account`, `*` for any."""

    trust_domain: str
    host: str
    grants: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """What the mesh trusts, as the control plane last said; all PEM.

    `signer_key_id` is the identifier of the key that signs now, `version` names all the rest. `verify_pem` is what
    Envoy verifies the mesh's certificates by while some are revoked, with the lists of these.
    """

    roots_pem: bytes
    signer_key_id: str
    version: str = ""
    verify_pem: bytes = b""


K = TypeVar("K", bound=KeyedCertificate)


def workload_identity(key_pem: bytes, chain_pem: bytes, roots_pem: bytes) -> WorkloadIdentity:
    """The value of these texts; IdentityError if they are damaged or do not fit together."""
    leaf = _leaf(key_pem, chain_pem)
    names = _names(leaf)
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    dns = names.get_values_for_type(x509.DNSName)
    if len(uris) != 1 or len(dns) != 1:
        raise IdentityError("the certificate does not name one workload")
    return WorkloadIdentity(
        key_pem=key_pem,
        chain_pem=chain_pem,
        roots_pem=roots_pem,
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
        signer_key_id=_signer(leaf),
        spiffe_id=uris[0],
        dns_name=dns[0],
    )


def application_identity(
    key_pem: bytes, chain_pem: bytes, roots_pem: bytes, workload: WorkloadId
) -> ApplicationIdentity:
    """The value of these texts; IdentityError if they are damaged, do not fit together, or say more than the workload's
    SPIFFE ID: such a certificate would open the control plane to the application."""
    leaf = _leaf(key_pem, chain_pem)
    names = _names(leaf)
    spiffe_id = str(workload.spiffe_id)
    if list(names) != [x509.UniformResourceIdentifier(spiffe_id)]:
        raise IdentityError("the control plane gives applications no certificates of their own; is it an older one?")
    return ApplicationIdentity(
        key_pem=key_pem,
        chain_pem=chain_pem,
        roots_pem=roots_pem,
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
        signer_key_id=_signer(leaf),
        spiffe_id=spiffe_id,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HostTerms:
    """What the control plane says to a host beside its certificate."""

    trust_domain: str
    host: str
    grants: tuple[str, ...]


def host_identity(key_pem: bytes, chain_pem: bytes, roots_pem: bytes, terms: HostTerms) -> HostIdentity:
    """The value of these texts; IdentityError if they are damaged or do not fit together."""
    leaf = _leaf(key_pem, chain_pem)
    return HostIdentity(
        key_pem=key_pem,
        chain_pem=chain_pem,
        roots_pem=roots_pem,
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
        signer_key_id=_signer(leaf),
        trust_domain=terms.trust_domain,
        host=terms.host,
        grants=terms.grants,
    )


def with_roots(identity: K, roots_pem: bytes) -> K:
    """The same identity with other roots to trust; the same object if they are the same."""
    return identity if identity.roots_pem == roots_pem else replace(identity, roots_pem=roots_pem)


def is_revoked(identity: KeyedCertificate, trust: Trust) -> bool:
    """Whether the certificate is on a list of what was revoked."""
    if not trust.verify_pem:
        return False
    return load_chain(identity.chain_pem, "the certificate chain")[0].serial_number in serials_on(trust.verify_pem)


def renewal_time(identity: KeyedCertificate, chance: float) -> datetime:
    """When to renew: at half-life, or up to a tenth of the lifetime earlier as `chance` (0 to 1) has it."""
    lifetime = identity.not_after - identity.not_before
    return identity.not_before + lifetime * (0.5 - RENEWAL_SPREAD * chance)


def retry_delay(identity: KeyedCertificate | None, failures: int, chance: float) -> float:
    """Seconds until the next try after so many: doubling from 1, less up to half by `chance`.

    At most 60, and a tenth of the lifetime of the identity that is to be renewed.
    """
    longest = _LONGEST_RETRY_S
    if identity is not None:
        longest = min(longest, (identity.not_after - identity.not_before).total_seconds() / 10)
    return min(longest, _FIRST_RETRY_S * 2.0 ** min(failures - 1, 16)) * (1 - chance / 2)


def _names(leaf: x509.Certificate) -> x509.SubjectAlternativeName:
    try:
        return leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound as error:
        raise IdentityError("the certificate names nobody") from error


def _leaf(key_pem: bytes, chain_pem: bytes) -> x509.Certificate:
    leaf = load_chain(chain_pem, "the certificate chain")[0]
    try:
        key = serialization.load_pem_private_key(key_pem, password=None)
    except (ValueError, TypeError) as error:
        raise IdentityError(f"the private key is damaged: {error}") from error
    if key.public_key() != leaf.public_key():
        raise IdentityError("the certificate is of another key")
    return leaf


def _signer(leaf: x509.Certificate) -> str:
    try:
        aki = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    except x509.ExtensionNotFound:
        return ""
    return (aki.key_identifier or b"").hex()
