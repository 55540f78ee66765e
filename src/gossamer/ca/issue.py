"""What an operator does with the authority from the command line: tokens, and certificates into a folder."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509

from gossamer.ca.authority import Authority, Lifetimes, workload_names
from gossamer.ca.certificates import check_public_key, key_pem, new_key
from gossamer.ca.files import write_private
from gossamer.ca.issued import IssuedLog
from gossamer.ca.ledger import Ledger
from gossamer.ca.spiffe import WorkloadId
from gossamer.ca.tokens import DEFAULT_LIFETIME, SECRET_BYTES, Grant, JoinToken, TokenRecord
from gossamer.core.errors import StateError

KEY: Final = "key.pem"
CERTIFICATE: Final = "cert.pem"
ROOTS: Final = "root.pem"


def issue(
    authority: Authority,
    workload: WorkloadId,
    folder: Path,
    *,
    now: datetime,
    lifetime: timedelta | None = None,
    log: IssuedLog | None = None,
) -> None:
    """Write a new key (`key.pem`), its certificate chain (`cert.pem`) and the roots (`root.pem`), all of mode 0600."""
    key = new_key()
    chain = authority.sign(
        check_public_key(key.public_key(), KEY),
        workload_names(workload),
        now=now,
        lifetime=lifetime or Lifetimes().workload,
        serial=x509.random_serial_number(),
    )
    if log is not None:
        name = f"{workload.spiffe_id.namespace}/{workload.name}"
        log.add(chain, workload=name, host="", signer=authority.signer_key_id, now=now)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(f"cannot make the folder {folder}: {error.strerror}") from error
    for name, content in ((KEY, key_pem(key)), (CERTIFICATE, chain), (ROOTS, authority.roots_pem)):
        write_private(folder / name, content)


def create_token(
    authority: Authority,
    ledger: Ledger,
    *,
    host: str,
    grants: Iterable[str],
    now: datetime,
    lifetime: timedelta = DEFAULT_LIFETIME,
) -> str:
    """A new join token for a host, as text to hand over. IdentityError on bad names."""
    token = JoinToken(secret=secrets.token_bytes(SECRET_BYTES), root_fingerprint=authority.root_fingerprint)
    record = TokenRecord(
        digest=token.digest,
        host=host,
        grants=tuple(Grant.parse(grant) for grant in grants),
        created=now,
        expires=now + lifetime,
    )
    ledger.add_token(record)
    return token.reveal()
