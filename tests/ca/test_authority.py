"""What the authority signs, and which CA folders it takes."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gossamer.ca.authority import Authority, Lifetimes, workload_names
from gossamer.ca.certificates import (
    build_request,
    load_chain,
    new_key,
    verify_request,
)
from gossamer.ca.folder import create_authority
from gossamer.ca.issue import issue
from gossamer.ca.peer import WorkloadPeer, read_peer
from gossamer.ca.spiffe import WorkloadId, workload_id
from gossamer.core.errors import IdentityError

NOW = datetime(2030, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def reviews() -> WorkloadId:
    return workload_id(trust_domain="cluster.local", namespace="default", service_account="bookinfo", name="reviews-v1")


def sign(authority: Authority, request: bytes, *, now: datetime = NOW, lifetime: timedelta = DAY) -> bytes:
    return authority.sign(verify_request(request), workload_names(reviews()), now=now, lifetime=lifetime, serial=7)


@pytest.fixture
def root(tmp_path: Path) -> Authority:
    return create_authority(tmp_path / "ca", "cluster.local", NOW)


def test_a_certificate_says_what_was_authorised_and_nothing_that_was_asked(root: Authority) -> None:
    key = new_key()
    greedy = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "admin")]))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("control-plane.gossamer-system.svc")]), critical=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    (leaf,) = load_chain(sign(root, greedy), "chain")
    extensions = leaf.extensions
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert list(names.value) == [
        x509.UniformResourceIdentifier("spiffe://cluster.local/ns/default/sa/bookinfo"),
        x509.DNSName("reviews-v1.default.workload.cluster.local"),
    ]
    assert names.critical
    assert not list(leaf.subject)
    assert extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    usages = set(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    assert usages == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    root_ski = root.root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier == root_ski
    ski = extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert ski == x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    assert leaf.public_key() == key.public_key()
    leaf.verify_directly_issued_by(root.root)


def test_the_root_has_both_key_identifiers(root: Authority) -> None:
    ski = root.root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    aki = root.root.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    assert ski == aki


@pytest.mark.parametrize(
    ("lifetime", "backdate"), [(DAY, timedelta(seconds=60)), (timedelta(minutes=1), timedelta(seconds=6))]
)
def test_a_certificate_begins_a_little_earlier(root: Authority, lifetime: timedelta, backdate: timedelta) -> None:
    (leaf,) = load_chain(sign(root, build_request(new_key()), lifetime=lifetime), "chain")
    assert leaf.not_valid_before_utc == NOW - backdate
    assert leaf.not_valid_after_utc == NOW + lifetime


def test_a_certificate_never_outlives_its_issuer(root: Authority) -> None:
    ends = root.root.not_valid_after_utc
    (leaf,) = load_chain(sign(root, build_request(new_key()), now=ends - timedelta(hours=1)), "chain")
    assert leaf.not_valid_after_utc == ends
    with pytest.raises(IdentityError, match="CA certificate ended"):
        sign(root, build_request(new_key()), now=ends)


def test_a_lifetime_is_20_seconds_or_more() -> None:
    Lifetimes(workload=timedelta(seconds=20))
    with pytest.raises(IdentityError, match="20 seconds or more"):
        Lifetimes(workload=timedelta(seconds=19))


def damaged_request() -> bytes:
    """A request whose key is not the one that signed it."""
    request = x509.load_pem_x509_csr(build_request(new_key()))
    der = bytearray(request.public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    return x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM)


def ed25519_request() -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(ed25519.Ed25519PrivateKey.generate(), None).public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize(
    ("request_pem", "said"),
    [
        (damaged_request(), "not signed by the key"),
        (ed25519_request(), "must be ECDSA"),
        (build_request(rsa.generate_private_key(65537, 1024)), "must be ECDSA"),
        (build_request(ec.generate_private_key(ec.SECP256K1())), "must be ECDSA"),
        (b"", "cannot be read"),
        (b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", "cannot be read"),
        (b"x" * 20_000, "longer than"),
    ],
)
def test_a_bad_request_is_refused(request_pem: bytes, said: str) -> None:
    with pytest.raises(IdentityError, match=said):
        verify_request(request_pem)


def test_an_rsa_key_gets_a_certificate(root: Authority) -> None:
    (leaf,) = load_chain(sign(root, build_request(rsa.generate_private_key(65537, 2048))), "chain")
    assert leaf.extensions.get_extension_for_class(x509.KeyUsage).value.key_encipherment


def test_issue_writes_a_key_its_certificate_and_the_roots(root: Authority, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "out"
    issue(root, reviews(), folder, now=NOW)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == {"key.pem": 0o600, "cert.pem": 0o600, "root.pem": 0o600}
    peer = read_peer((folder / "cert.pem").read_bytes(), "cluster.local")
    assert isinstance(peer, WorkloadPeer)
    assert peer.workload == reviews()
    assert peer.not_after == NOW + DAY
    assert (folder / "root.pem").read_bytes() == root.roots_pem
