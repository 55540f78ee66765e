"""The authority that signs: a key, its chain up to a root, and the roots that the mesh trusts.

Pure: time and serial numbers are arguments. What it puts into a certificate is what its caller authorised; of a
request it takes the key alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Final

from cryptography import x509

from gossamer.ca.certificates import (
    Issuer,
    Names,
    PrivateKey,
    PublicKey,
    chain_pem,
    check_public_key,
    fingerprint,
    is_issued_by,
    leaf_validity,
)
from gossamer.ca.spiffe import CONTROL_PLANE, HostId, SpiffeId, WorkloadId, check_trust_domain
from gossamer.core.errors import IdentityError

SHORTEST_LIFETIME: Final = timedelta(seconds=20)
_DEEPEST_CHAIN: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetimes:
    """How long certificates are valid. Hosts' are long because each use of one is checked against its grant."""

    workload: timedelta = timedelta(hours=24)
    host: timedelta = timedelta(days=30)
    control_plane: timedelta = timedelta(hours=24)

    def __post_init__(self) -> None:
        for lifetime in (self.workload, self.host, self.control_plane):
            if lifetime < SHORTEST_LIFETIME:
                raise IdentityError(f"a certificate's lifetime must be 20 seconds or more, not {lifetime}")


@dataclass(frozen=True, kw_only=True)
class Authority:
    """What signs for one trust domain. `chain` begins with the issuer's certificate and leaves the root out."""

    trust_domain: str
    issuer: Issuer
    chain: tuple[x509.Certificate, ...]
    root: x509.Certificate
    """The root that the chain ends in: the one whose fingerprint join tokens carry."""
    roots: tuple[x509.Certificate, ...]
    """All that the mesh trusts, `root` among them."""
    bridge: tuple[x509.Certificate, ...] = ()
    """While another root is replaced by `root`: what leads from here to that one, which is the last of them."""

    @cached_property
    def roots_pem(self) -> bytes:
        return chain_pem(self.roots)

    @cached_property
    def root_fingerprint(self) -> str:
        """SHA-256 of the root's DER, in hexadecimal digits."""
        return fingerprint(self.root)

    @property
    def root_ends(self) -> datetime:
        """When the root of new certificates is no longer valid (UTC)."""
        return self.root.not_valid_after_utc

    @property
    def signer_key_id(self) -> str:
        """Identifier of the signing key, in hexadecimal digits, as certificates name their authority's key."""
        return (self.issuer.authority_key_identifier.key_identifier or b"").hex()

    @cached_property
    def _chain_pem(self) -> bytes:
        return chain_pem(self.chain)

    @cached_property
    def _issuers(self) -> tuple[x509.Certificate, ...]:
        return (*self.chain, self.root)

    def sign(self, key: PublicKey, names: Names, *, now: datetime, lifetime: timedelta, serial: int) -> bytes:
        """A certificate for `key` as PEM, intermediates after it. IdentityError when the authority has itself expired.

        It never outlives its issuers.
        """
        validity = leaf_validity(now, lifetime, self._issuers)
        if validity.not_after <= now:
            raise IdentityError(
                f"the CA certificate ended on {validity.not_after:%Y-%m-%d %H:%M} UTC: give the mesh a new one"
            )
        return chain_pem([self.issuer.sign_leaf(key, names, validity, serial)]) + self._chain_pem


def workload_names(workload: WorkloadId) -> Names:
    """What the certificate of a workload says: its SPIFFE ID and its DNS name."""
    return Names(uri=str(workload.spiffe_id), dns=(workload.dns_name,))


def application_names(workload: WorkloadId) -> Names:
    """What the certificate of an application says, beside its sidecar's: its SPIFFE ID, and no name that opens the
    control plane to it."""
    return Names(uri=str(workload.spiffe_id))


def host_names(host: HostId) -> Names:
    """What the certificate of a host says: its SPIFFE ID alone."""
    return Names(uri=str(host))


def control_plane_names(trust_domain: str, dns: tuple[str, ...], addresses: tuple[str, ...]) -> Names:
    """What the control plane's certificate says: its fixed name, and what else it is dialled by."""
    identity = SpiffeId(trust_domain=trust_domain, namespace="gossamer-system", service_account="control-plane")
    return Names(uri=str(identity), dns=tuple(dict.fromkeys((CONTROL_PLANE, *dns))), addresses=addresses)


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What an authority is made of, as its files hold it; `certificate` is the signing one, `chain` what is above."""

    key: PrivateKey
    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    roots: tuple[x509.Certificate, ...]


def build_authority(trust_domain: str, material: Material, now: datetime) -> Authority:
    """The authority of these parts. IdentityError, saying which and why, if a part does not fit."""
    check_trust_domain(trust_domain)
    certificate = material.certificate
    if material.key.public_key() != certificate.public_key():
        raise IdentityError("ca-key.pem is not the key of the certificate in ca-cert.pem")
    chain, root = _chain_to_root(material, now)
    for below, ca in enumerate((*chain, root)):
        _check_ca(ca, now, below=below)
    return Authority(
        trust_domain=trust_domain,
        issuer=Issuer.of(material.key, certificate),
        chain=chain,
        root=root,
        roots=material.roots,
    )


def _chain_to_root(material: Material, now: datetime) -> tuple[tuple[x509.Certificate, ...], x509.Certificate]:
    """The certificates from the signing one up to the root, without it, and the root."""
    path: list[x509.Certificate] = []
    # One key may have an old certificate and a new one: those that have not ended come first.
    above = sorted((*material.roots, *material.chain), key=lambda ca: ca.not_valid_after_utc <= now)
    current = material.certificate
    while len(path) < _DEEPEST_CHAIN:
        if current in material.roots:
            return tuple(path), current
        path.append(current)
        issuer = next((ca for ca in above if ca not in path and is_issued_by(current, ca)), None)
        if issuer is None:
            break
        current = issuer
    raise IdentityError(
        f"no chain leads from ca-cert.pem to a root in root-cert.pem: "
        f"{_name(current)} was issued by {current.issuer.rfc4514_string() or 'nobody'}, which is in neither "
        "cert-chain.pem nor root-cert.pem"
    )


def _check_ca(certificate: x509.Certificate, now: datetime, *, below: int) -> None:
    """IdentityError unless the certificate may issue others, with `below` further CAs between it and a leaf."""
    who = _name(certificate)
    if certificate.not_valid_after_utc <= now:
        raise IdentityError(f"the CA certificate {who} ended on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
    if certificate.not_valid_before_utc > now:
        raise IdentityError(
            f"the CA certificate {who} is only valid from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on"
        )
    check_public_key(certificate.public_key(), f"the key of the CA certificate {who}")
    try:
        extensions = certificate.extensions
        constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
    except (x509.ExtensionNotFound, ValueError) as error:
        raise IdentityError(f"{who} is not a CA certificate (no basic constraint CA:TRUE)") from error
    if not constraints.ca:
        raise IdentityError(f"{who} is not a CA certificate (its basic constraints say CA:FALSE)")
    if constraints.path_length is not None and constraints.path_length < below:
        raise IdentityError(
            f"the CA certificate {who} allows {constraints.path_length} CAs below it; there are {below}"
        )
    try:
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return
    if not usage.key_cert_sign:
        raise IdentityError(f"the key usage of {who} does not allow to sign certificates")


def _name(certificate: x509.Certificate) -> str:
    return repr(certificate.subject.rfc4514_string() or f"serial {certificate.serial_number:x}")
