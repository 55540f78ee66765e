"""Certificates as people have them: an authority of one's own, and leaves for DNS names."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric import rsa as rsa_keys
from cryptography.x509.oid import NameOID

_PublicKey = ec.EllipticCurvePublicKey | rsa_keys.RSAPublicKey


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as PEM."""

    certificate: str
    key: str

    def secret(self, name: str, namespace: str, authority: str = "") -> str:
        """A Secret of type kubernetes.io/tls that holds them, and a CA by which clients are verified."""
        keys = {"tls.crt": self.certificate, "tls.key": self.key} | ({"ca.crt": authority} if authority else {})
        text = "".join(f"  {key}: |\n{_indented(value)}" for key, value in keys.items())
        return (
            f"apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {namespace}}}\n"
            f"type: kubernetes.io/tls\nstringData:\n{text}"
        )

    def write(self, folder: Path, name: str) -> Path:
        path = folder / (f"{name}.pem" if name else "pem")
        path.write_text(self.key + self.certificate)
        return path


def _new_rsa() -> rsa_keys.RSAPrivateKey:
    return rsa_keys.generate_private_key(65537, 2048)


def _indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())


class Issuer:
    """An authority."""

    def __init__(self, name: str = "somebody") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        built = self._builder(self._name, self._key.public_key())
        self._certificate = built.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(
            self._key, hashes.SHA256()
        )
        self.roots = self._certificate.public_bytes(serialization.Encoding.PEM).decode()

    def _builder(self, subject: x509.Name, key: _PublicKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(authority, critical=False)
        )

    def issue(self, *names: str, rsa: bool = False) -> Pair:
        """A certificate for these DNS names."""
        key = _new_rsa() if rsa else ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        listed = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        signed = (
            self._builder(subject, key.public_key())
            .add_extension(listed, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return Pair(certificate=signed.public_bytes(serialization.Encoding.PEM).decode(), key=private.decode())

    def revoked(self, *pairs: Pair) -> str:
        """The list of these as revoked."""
        since = datetime(2020, 1, 1, tzinfo=UTC)
        listed = x509.CertificateRevocationListBuilder().issuer_name(self._name).last_update(since)
        listed = listed.next_update(datetime.now(UTC).replace(microsecond=0) + timedelta(days=1))
        for pair in pairs:
            serial = x509.load_pem_x509_certificate(pair.certificate.encode()).serial_number
            one = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(since).build()
            listed = listed.add_revoked_certificate(one)
        return listed.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    def client(self, folder: Path, shown: Pair | None = None, alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
        """The context of a client that trusts this authority, and shows a certificate if it has one."""
        context = ssl.create_default_context(cadata=self.roots)
        if shown is not None:
            context.load_cert_chain(shown.write(folder, "client"))
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context

    def server(self, folder: Path, *names: str) -> ssl.SSLContext:
        """The context of a server with a certificate for these names."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.issue(*names).write(folder, "server"))
        return context
