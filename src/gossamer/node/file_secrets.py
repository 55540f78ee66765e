"""Certificates and roots that a DestinationRule or a Gateway names as files: read on the host where their Envoy runs.

The names are the compiler's: `file-root:FILE` (`file-root:system` for the roots that the host trusts) and
`file-cert:CERTIFICATE~KEY`. What a file holds goes to this host's Envoy alone, and only if it is what its name says.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

from envoy.config.core.v3.base_pb2 import DataSource
from envoy.extensions.transport_sockets.tls.v3.common_pb2 import CertificateValidationContext, TlsCertificate
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret

from gossamer.ca.certificates import load_chain
from gossamer.core.errors import IdentityError

ROOT: Final = "file-root:"
CERTIFICATE: Final = "file-cert:"
_SYSTEM: Final = "system"
_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


def is_file_secret(name: str) -> bool:
    return name.startswith((ROOT, CERTIFICATE))


def load_file_secret(name: str) -> Secret:
    """The secret of this name, from its files. IdentityError, naming the file, if it cannot be had."""
    if name.startswith(ROOT):
        path = name.removeprefix(ROOT)
        roots = _read(_system_bundle() if path == _SYSTEM else Path(path))
        load_chain(roots, path)
        return Secret(
            name=name, validation_context=CertificateValidationContext(trusted_ca=DataSource(inline_bytes=roots))
        )
    certificate, _, key = name.removeprefix(CERTIFICATE).partition("~")
    chain, key_pem = _read(Path(certificate)), _read(Path(key))
    load_chain(chain, certificate)
    if b"PRIVATE KEY" not in key_pem:
        raise IdentityError(f"{key} holds no private key (PEM)")
    pair = TlsCertificate(
        certificate_chain=DataSource(inline_bytes=chain), private_key=DataSource(inline_bytes=key_pem)
    )
    return Secret(name=name, tls_certificate=pair)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise IdentityError(f"cannot read {path}: {error.strerror}") from error


def _system_bundle() -> Path:
    """The file of roots that this host trusts."""
    named = ssl.get_default_verify_paths().cafile
    found = next((path for path in (named, *_BUNDLES) if path and Path(path).is_file()), None)
    if found is None:
        raise IdentityError("this host has no bundle of trusted roots; install its ca-certificates")
    return Path(found)
