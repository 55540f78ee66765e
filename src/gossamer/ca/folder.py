"""A CA folder, in the layout in which Istio's users plug in their own: `ca-cert.pem`, `ca-key.pem`, `root-cert.pem`,
`cert-chain.pem`. Our own root is kept in the same layout, so there is one way to load.

A folder that we create appears whole or not at all.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509

from gossamer.ca.authority import Authority, Material, build_authority
from gossamer.ca.certificates import build_root, chain_pem, key_pem, load_chain, load_key, new_key
from gossamer.ca.files import private_folder, sync_folder, write_private
from gossamer.ca.spiffe import check_trust_domain
from gossamer.core.errors import IdentityError, StateError

CERTIFICATE: Final = "ca-cert.pem"
KEY: Final = "ca-key.pem"
ROOTS: Final = "root-cert.pem"
CHAIN: Final = "cert-chain.pem"


def load_authority(folder: Path, trust_domain: str, now: datetime) -> Authority:
    """The authority of a CA folder. IdentityError, naming folder and file, if it is incomplete or does not fit.

    `root-cert.pem` may hold several roots (all trusted); `cert-chain.pem` may hold the signing certificate and the
    root beside the intermediates, in any order, and may be missing when there are none.
    """
    try:
        certificate = load_chain(_read(folder / CERTIFICATE), CERTIFICATE)[0]
        roots = load_chain(_read(folder / ROOTS), ROOTS)
        above = _read(folder / CHAIN) if (folder / CHAIN).exists() else b""
        material = Material(
            key=load_key(_read(folder / KEY), KEY),
            certificate=certificate,
            chain=load_chain(above, CHAIN) if above.strip() else (),
            roots=tuple(dict.fromkeys(roots)),
        )
        return build_authority(trust_domain, material, now)
    except IdentityError as error:
        raise IdentityError(f"CA folder {folder}: {error}") from error


def create_authority(folder: Path, trust_domain: str, now: datetime) -> Authority:
    """Make a new root, write the folder (0700, files 0600) and load it; if another was quicker, load that one."""
    check_trust_domain(trust_domain)
    private_folder(folder.parent)
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        _write_root(scratch, trust_domain, now)
        scratch.rename(folder)
        sync_folder(folder.parent)
    except OSError as error:
        if not (folder / KEY).exists():
            raise StateError(f"cannot make the CA folder {folder}: {error.strerror}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return load_authority(folder, trust_domain, now)


def open_authority(folder: Path, trust_domain: str, now: datetime) -> Authority:
    """The authority of our own CA folder, which is made if it is not there."""
    if (folder / KEY).exists():
        return load_authority(folder, trust_domain, now)
    return create_authority(folder, trust_domain, now)


def write_authority(folder: Path, authority: Authority) -> None:
    """Make the folder hold this authority, file by file: what reads meanwhile may find parts that do not fit.

    StateError if it cannot be written. Files that are right already are not touched.
    """
    private_folder(folder)
    contents = {
        KEY: key_pem(authority.issuer.key),
        CERTIFICATE: chain_pem([authority.issuer.certificate]),
        ROOTS: authority.roots_pem,
        CHAIN: chain_pem((*authority.chain, authority.root)),
    }
    for name, content in contents.items():
        path = folder / name
        if not path.exists() or path.read_bytes() != content:
            write_private(path, content)


def _write_root(folder: Path, trust_domain: str, now: datetime) -> None:
    key = new_key()
    root = chain_pem([build_root(key, trust_domain, now, x509.random_serial_number())])
    for name, content in ((KEY, key_pem(key)), (CERTIFICATE, root), (ROOTS, root), (CHAIN, root)):
        write_private(folder / name, content)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise IdentityError(f"cannot read {path.name}: {os.strerror(error.errno or 0)}") from error
