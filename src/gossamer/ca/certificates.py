"""X.509 without I/O: certificates are built and checked here from values alone; time and serial numbers are arguments.

Every certificate carries subject and authority key identifiers: Envoy finds the right issuer by them when two roots
have one name, and fails without. Names come from the caller, never from a request.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gossamer.core.errors import IdentityError

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

ROOT_LIFETIME: Final = timedelta(days=3650)
BACKDATE: Final = timedelta(seconds=60)
"""How far a certificate's beginning lies in the past, for clocks that disagree; a tenth of a short lifetime at most."""

_SMALLEST_RSA: Final = 2048
_LARGEST_RSA: Final = 8192
_LONGEST_REQUEST: Final = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What a leaf certificate says its holder is."""

    uri: str
    dns: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()

    def extension(self) -> x509.SubjectAlternativeName:
        addresses = (x509.IPAddress(ipaddress.ip_address(address)) for address in self.addresses)
        return x509.SubjectAlternativeName(
            [x509.UniformResourceIdentifier(self.uri), *(x509.DNSName(name) for name in self.dns), *addresses]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Validity:
    not_before: datetime
    not_after: datetime


def new_key() -> ec.EllipticCurvePrivateKey:
    """A new ECDSA P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: PrivateKey) -> bytes:
    """`key` as unencrypted PKCS #8 PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def load_key(pem: bytes, what: str) -> PrivateKey:
    """The private key of `pem`, ECDSA or RSA; IdentityError otherwise. `what` names it in the message."""
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise IdentityError(f"{what} holds no private key in unencrypted PEM: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise IdentityError(f"{what} is neither an ECDSA nor an RSA key; Envoy verifies no other")
    check_public_key(key.public_key(), what)
    return key


def check_public_key(key: object, what: str) -> PublicKey:
    """`key` itself, if it is one that Envoy verifies: ECDSA on P-256, P-384 or P-521, RSA of 2048 to 8192 bits."""
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1 | ec.SECP521R1):
        return key
    if isinstance(key, rsa.RSAPublicKey) and _SMALLEST_RSA <= key.key_size <= _LARGEST_RSA:
        return key
    raise IdentityError(
        f"{what} must be ECDSA on P-256, P-384 or P-521, or RSA of {_SMALLEST_RSA} to {_LARGEST_RSA} bits"
    )


def load_chain(pem: bytes, what: str) -> tuple[x509.Certificate, ...]:
    """All certificates of a PEM text, in order; IdentityError if there is none or one is damaged."""
    try:
        return tuple(x509.load_pem_x509_certificates(pem))
    except ValueError as error:
        raise IdentityError(f"{what} holds no certificates in PEM: {error}") from error


def chain_pem(chain: Iterable[x509.Certificate]) -> bytes:
    """The certificates as one PEM text."""
    return b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in chain)


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the certificate's DER, as 64 hexadecimal digits."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def key_fingerprint(key: PublicKey) -> str:
    """SHA-256 of the key's SubjectPublicKeyInfo, as 64 hexadecimal digits."""
    info = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    digest = hashes.Hash(hashes.SHA256())
    digest.update(info)
    return digest.finalize().hex()


def build_request(key: PrivateKey) -> bytes:
    """A certificate request (PKCS #10, PEM) that proves the key and asks for no name."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def verify_request(pem: bytes) -> PublicKey:
    """The key that a request proves; IdentityError if it is damaged, wrongly signed or of a kind that is not used."""
    if len(pem) > _LONGEST_REQUEST:
        raise IdentityError(f"the certificate request is longer than {_LONGEST_REQUEST} bytes")
    try:
        request = x509.load_pem_x509_csr(pem)
        key = check_public_key(request.public_key(), "the key of a certificate request")
        valid = request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm) as error:
        raise IdentityError(f"the certificate request cannot be read: {error}") from error
    if not valid:
        raise IdentityError("the certificate request is not signed by the key that it names")
    return key


def build_root(key: PrivateKey, trust_domain: str, now: datetime, serial: int) -> x509.Certificate:
    """A self-signed root for a trust domain, valid from an hour before `now` for ten years."""
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, trust_domain[:64]),
            x509.NameAttribute(NameOID.COMMON_NAME, "Gossamer root"),
        ]
    )
    public = check_public_key(key.public_key(), "the root key")
    ski = x509.SubjectKeyIdentifier.from_public_key(public)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public)
        .serial_number(serial)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + ROOT_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(ski, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski), critical=False)
        .sign(key, hashes.SHA256())
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """A key that signs, its certificate, and what every leaf takes from it."""

    key: PrivateKey
    certificate: x509.Certificate
    authority_key_identifier: x509.AuthorityKeyIdentifier

    @classmethod
    def of(cls, key: PrivateKey, certificate: x509.Certificate) -> Issuer:
        aki = authority_key_identifier(certificate)
        return cls(key=key, certificate=certificate, authority_key_identifier=aki)

    def sign_leaf(self, key: PublicKey, names: Names, validity: Validity, serial: int) -> x509.Certificate:
        """A certificate for both ends of mutual TLS; its subject is empty, so its names are critical (RFC 5280)."""
        encipherment = isinstance(key, rsa.RSAPublicKey)
        return (
            x509.CertificateBuilder()
            .subject_name(_NO_NAME)
            .issuer_name(self.certificate.subject)
            .public_key(key)
            .serial_number(serial)
            .not_valid_before(validity.not_before)
            .not_valid_after(validity.not_after)
            .add_extension(names.extension(), critical=True)
            .add_extension(_LEAF, critical=True)
            .add_extension(_key_usage(signs_certificates=False, encipherment=encipherment), critical=True)
            .add_extension(_BOTH_ENDS, critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(self.authority_key_identifier, critical=False)
            .sign(self.key, hashes.SHA256())
        )


def build_bridge(issuer: Issuer, root: x509.Certificate, now: datetime, serial: int) -> x509.Certificate:
    """The name and key of `root` vouched for by another authority, so that who trusts that one alone follows us."""
    public = check_public_key(root.public_key(), "the root key")
    return (
        x509.CertificateBuilder()
        .subject_name(root.subject)
        .issuer_name(issuer.certificate.subject)
        .public_key(public)
        .serial_number(serial)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(min(root.not_valid_after_utc, issuer.certificate.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(_own_identifier(root), critical=False)
        .add_extension(issuer.authority_key_identifier, critical=False)
        .sign(issuer.key, hashes.SHA256())
    )


def build_anchor(issuer: Issuer, now: datetime) -> x509.Certificate:
    """The certificate of an issuer as if it had issued itself, with its own names and no more: equal calls a day apart
    give certificates that differ in nothing that a verifier looks at."""
    certificate = issuer.certificate
    own = x509.AuthorityKeyIdentifier(issuer.authority_key_identifier.key_identifier, None, None)
    return (
        x509.CertificateBuilder()
        .subject_name(certificate.subject)
        .issuer_name(certificate.subject)
        .public_key(check_public_key(certificate.public_key(), "the key of the CA certificate"))
        .serial_number(certificate.serial_number)
        .not_valid_before(min(now, certificate.not_valid_before_utc))
        .not_valid_after(certificate.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(_own_identifier(certificate), critical=False)
        .add_extension(own, critical=False)
        .sign(issuer.key, hashes.SHA256())
    )


_NO_NAME: Final = x509.Name([])
_LEAF: Final = x509.BasicConstraints(ca=False, path_length=None)
_BOTH_ENDS: Final = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])


def _key_usage(*, signs_certificates: bool, encipherment: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=encipherment,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def authority_key_identifier(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """What a certificate of this issuer says of its issuer's key: the issuer's own identifier, else one of its key."""
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(_own_identifier(issuer))


def _own_identifier(issuer: x509.Certificate) -> x509.SubjectKeyIdentifier:
    try:
        return issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.SubjectKeyIdentifier.from_public_key(
            check_public_key(issuer.public_key(), "the key of the CA certificate")
        )


def leaf_validity(now: datetime, lifetime: timedelta, issuers: Sequence[x509.Certificate]) -> Validity:
    """From a little before `now` for `lifetime`, within every issuer's own; whole seconds, as X.509 has them."""
    now = now.replace(microsecond=0)
    backdate = min(BACKDATE, lifetime / 10)
    return Validity(
        not_before=max(now - backdate, *(issuer.not_valid_before_utc for issuer in issuers)),
        not_after=min(now + lifetime, *(issuer.not_valid_after_utc for issuer in issuers)),
    )


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether the issuer's name and key fit: that its signature is on the certificate, no more."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True
