"""Clients of the mesh with certificates of all kinds: such as its authority gives, and such as it never would."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from gossamer.ca.authority import Authority, workload_names
from gossamer.ca.certificates import PrivateKey, chain_pem, check_public_key, key_pem, load_chain, load_key, new_key
from gossamer.ca.folder import open_authority
from gossamer.ca.spiffe import workload_id

Pair = tuple[bytes, bytes]
"""Certificate chain and key, as PEM."""
HTTP_ALPN = ("istio-http/1.1",)
TCP_ALPN = ("istio-peer-exchange", "istio")


def issue(
    authority: Authority,
    namespace: str,
    name: str,
    *,
    trust_domain: str = "cluster.local",
) -> Pair:
    """A certificate of the workload NAME-1 (the gateway is but `door`), whose account is NAME."""
    identity = workload_id(
        trust_domain=trust_domain,
        namespace=namespace,
        service_account=name,
        name=name if name == "door" else f"{name}-1",
    )
    key = new_key()
    chain = authority.sign(
        check_public_key(key.public_key(), "key"),
        workload_names(identity),
        now=datetime.now(UTC),
        lifetime=timedelta(hours=1),
        serial=x509.random_serial_number(),
    )
    return chain, key_pem(key)


def issued_by_a_leaf(pair: Pair, namespace: str, name: str) -> Pair:
    """A certificate that a workload has signed with its own, as if that were an authority's."""
    chain = load_chain(pair[0], "chain")
    now = datetime.now(UTC)
    made, key = _signed(chain[0], load_key(pair[1], "key"), namespace, name, now + timedelta(minutes=30))
    return chain_pem([made, *chain]), key


def expired(authority: Authority, namespace: str, name: str) -> Pair:
    """A certificate of the mesh's authority that ended a minute ago."""
    ended = datetime.now(UTC) - timedelta(minutes=1)
    made, key = _signed(authority.root, authority.issuer.key, namespace, name, ended)
    return chain_pem([made, *authority.chain]), key


def _signed(
    issuer: x509.Certificate, signing: PrivateKey, namespace: str, name: str, ends: datetime
) -> tuple[x509.Certificate, bytes]:
    own = new_key()
    uri = x509.UniformResourceIdentifier(f"spiffe://cluster.local/ns/{namespace}/sa/{name}")
    built = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer.subject)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(ends - timedelta(hours=1))
        .not_valid_after(ends)
        .add_extension(x509.SubjectAlternativeName([uri]), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False)
        .sign(signing, hashes.SHA256())
    )
    return built, key_pem(own)


@contextmanager
def another_authority() -> Iterator[Authority]:
    """One with the mesh's trust domain and names, and a key of its own."""
    with tempfile.TemporaryDirectory() as folder:
        yield open_authority(Path(folder) / "ca", "cluster.local", datetime.now(UTC))


def client(
    pair: Pair | None,
    alpn: tuple[str, ...] = HTTP_ALPN,
    newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
) -> ssl.SSLContext:
    """A client with this certificate, or none, that believes every server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(list(alpn))
    context.maximum_version = newest
    if newest < ssl.TLSVersion.TLSv1_2:
        context.minimum_version = newest
        context.set_ciphers("ALL:@SECLEVEL=0")
    if pair is not None:
        with tempfile.TemporaryDirectory() as folder:
            certificate, key = Path(folder) / "cert.pem", Path(folder) / "key.pem"
            certificate.write_bytes(pair[0])
            key.write_bytes(pair[1])
            context.load_cert_chain(certificate, key)
    return context
