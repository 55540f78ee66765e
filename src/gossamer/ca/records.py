"""How the ledger's values are written as JSON, and read.

Invariant: what is read is what was written, or StateError names the file. What an older Gossamer would understand to
somebody's harm (a host that is believed for a time alone, a token that was withdrawn) it refuses: schema 2.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from gossamer.ca.files import dump_document
from gossamer.ca.tokens import Grant, HostRecord, TokenRecord, TokenUse
from gossamer.core.errors import IdentityError, StateError

SCHEMA: Final = 2
_JOINED: Final = 1
_LATER: Final = 2
_WRONG: Final = (KeyError, TypeError, ValueError, IdentityError)


def damaged(path: Path, error: object) -> StateError:
    """What a file that cannot be understood means."""
    return StateError(f"{path} is damaged ({error}); move it away, and give its host a new join token")


def dump_token(record: TokenRecord) -> bytes:
    content = {
        "digest": record.digest,
        "host": record.host,
        "grants": [str(grant) for grant in record.grants],
        "created": record.created.isoformat(),
        "expires": record.expires.isoformat(),
        **({"withdrawn": True} if record.withdrawn else {}),
    }
    return dump_document(_LATER if record.withdrawn else _JOINED, content)


def token_of(content: dict[str, Any], path: Path) -> TokenRecord:
    try:
        return TokenRecord(
            digest=content["digest"],
            host=content["host"],
            grants=tuple(Grant.parse(grant) for grant in content["grants"]),
            created=datetime.fromisoformat(content["created"]),
            expires=datetime.fromisoformat(content["expires"]),
            withdrawn=bool(content.get("withdrawn", False)),
        )
    except _WRONG as error:
        raise damaged(path, error) from error


def dump_use(use: TokenUse) -> bytes:
    content = {"key": use.key, "when": use.when.isoformat(), "address": use.address, "host": use.host}
    return dump_document(_JOINED, content | ({"expires": use.expires.isoformat()} if use.expires else {}))


def use_of(content: dict[str, Any], path: Path) -> TokenUse:
    try:
        return TokenUse(
            key=str(content["key"]),
            when=datetime.fromisoformat(content["when"]),
            address=str(content.get("address", "")),
            host=str(content.get("host", "")),
            expires=datetime.fromisoformat(content["expires"]) if "expires" in content else None,
        )
    except _WRONG as error:
        raise damaged(path, error) from error


def dump_host(record: HostRecord) -> bytes:
    content: dict[str, Any] = {
        "host": record.host,
        "grants": [str(grant) for grant in record.grants],
        "keys": list(record.keys),
        "token": record.token,
        "joined": record.joined.isoformat(),
        "renewed": record.renewed.isoformat(),
        "revoked": record.revoked,
    }
    if record.attestor:
        content |= {"attestor": record.attestor, "subject": record.subject}
    if record.lifetime is not None:
        content |= {"lifetime_s": record.lifetime.total_seconds()}
    return dump_document(_LATER if record.attestor else _JOINED, content)


def host_of(content: dict[str, Any], path: Path) -> HostRecord:
    try:
        return HostRecord(
            host=content["host"],
            grants=tuple(Grant.parse(grant) for grant in content["grants"]),
            keys=tuple(content["keys"]),
            token=content["token"],
            joined=datetime.fromisoformat(content["joined"]),
            renewed=datetime.fromisoformat(content["renewed"]),
            revoked=bool(content["revoked"]),
            attestor=str(content.get("attestor", "")),
            subject=str(content.get("subject", "")),
            lifetime=timedelta(seconds=content["lifetime_s"]) if "lifetime_s" in content else None,
        )
    except _WRONG as error:
        raise damaged(path, error) from error
