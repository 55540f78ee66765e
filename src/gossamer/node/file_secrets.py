"""Certificates and roots that a DestinationRule or a Gateway names as files: read on the host where their Envoy runs.

The names are the compiler's: `file-root:FILE` (`file-root:system` for the roots that the host trusts), with `~CRL`
behind it for a list of what they revoked, and `file-cert:CERTIFICATE~KEY`.

Invariant: what a file holds goes to this host's Envoy alone, and only if it is what its name says. A key is read only
in the folders that the host lends to this workload: whoever writes configuration cannot have a proxy use another's.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
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


def load_file_secret(name: str, lent: Iterable[Path] = ()) -> Secret:
    """The secret of this name, from its files. IdentityError, naming the file, if it cannot be had. `lent` are the
    folders whose keys this workload may use."""
    if name.startswith(ROOT):
        return Secret(name=name, validation_context=_roots(name.removeprefix(ROOT)))
    certificate, _, key = name.removeprefix(CERTIFICATE).partition("~")
    _check_lent(Path(key), lent)
    chain, key_pem = _read(Path(certificate)), _read(Path(key))
    load_chain(chain, certificate)
    if b"PRIVATE KEY" not in key_pem:
        raise IdentityError(f"{key} holds no private key (PEM)")
    pair = TlsCertificate(
        certificate_chain=DataSource(inline_bytes=chain), private_key=DataSource(inline_bytes=key_pem)
    )
    return Secret(name=name, tls_certificate=pair)


def _roots(files: str) -> CertificateValidationContext:
    path, _, revoked = files.partition("~")
    roots = _read(_system_bundle() if path == _SYSTEM else Path(path))
    load_chain(roots, path)
    context = CertificateValidationContext(trusted_ca=DataSource(inline_bytes=roots))
    if revoked:
        listed = _read(Path(revoked))
        if b"-----BEGIN X509 CRL-----" not in listed:
            raise IdentityError(f"{revoked} holds no list of revoked certificates (PEM)")
        context.crl.CopyFrom(DataSource(inline_bytes=listed))
    return context


def _check_lent(key: Path, lent: Iterable[Path]) -> None:
    real = key.resolve()
    if not any(real.is_relative_to(folder.resolve()) for folder in lent):
        raise IdentityError(
            f"{key} is in no folder whose keys this workload may use: name its folder in the workload's `credentials`"
        )


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
