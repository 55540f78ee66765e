"""What the authority remembers on disk: tokens given out, tokens used, hosts and their grants.

One file each, so that commands and control planes share the folder without a lock: a token is used by creating a file
that must not exist, which one of all comers does, once and durably. Every file carries the version of its schema.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from gossamer.ca.files import create_private, dump_document, load_document, private_folder, write_private
from gossamer.ca.spiffe import check_host
from gossamer.ca.tokens import Grant, HostRecord, TokenRecord, TokenUse, check_token, check_use
from gossamer.core.errors import IdentityError, StateError

SCHEMA: Final = 1
KEPT: Final = timedelta(days=7)
"""How long after its end a token is remembered, to tell 'expired' and 'used' from 'unknown'."""


class Ledger:
    """The folder's tokens and hosts. Reads what is there now: other processes may write to it."""

    def __init__(self, folder: Path) -> None:
        self._tokens = private_folder(folder / "tokens")
        self._hosts = private_folder(folder / "hosts")

    def add_token(self, record: TokenRecord) -> None:
        """Remember a new token; StateError if it cannot be written."""
        if not create_private(self._tokens / f"{record.digest}.json", _dump_token(record)):
            raise StateError("a join token with the same secret exists; its randomness is broken")

    def tokens(self) -> list[tuple[TokenRecord, TokenUse | None]]:
        """All tokens that are remembered and what became of them, the oldest first."""
        found = [self._token(path.stem) for path in self._tokens.glob("*.json")]
        known = sorted((record for record in found if record), key=lambda record: record.created)
        return [(record, self._use(record.digest)) for record in known]

    def join(self, digest: str, key: str, now: datetime) -> HostRecord:
        """Use a token for a key, and remember the host with what it was granted. TokenError if the token is refused."""
        token = self.check_token(digest, now)
        use = TokenUse(key=key, when=now)
        first = create_private(self._tokens / f"{digest}.used", _dump(key=key, when=now.isoformat()))
        host = self.host(token.host)
        if not first:
            use = self._use(digest) or use
            check_use(token, use, key, host)
            if host is not None and host.token == digest:
                return host
        joined = HostRecord(
            host=token.host, grants=token.grants, keys=(key,), token=digest, joined=use.when, renewed=now
        )
        self.save_host(joined)
        return joined

    def check_token(self, digest: str, now: datetime) -> TokenRecord:
        """The record of a token that is known and not expired, used or not; TokenError otherwise."""
        return check_token(self._token(digest), now)

    def host(self, name: str) -> HostRecord | None:
        """What is kept of a host, or None."""
        content = load_document(self._hosts / f"{check_host(name)}.json", SCHEMA)
        return None if content is None else _host_of(content, self._hosts / name)

    def hosts(self) -> Iterator[HostRecord]:
        """All hosts, by name."""
        for path in sorted(self._hosts.glob("*.json")):
            record = self.host(path.stem)
            if record is not None:
                yield record

    def save_host(self, record: HostRecord) -> None:
        write_private(self._hosts / f"{record.host}.json", _dump_host(record))

    def revoke_host(self, name: str) -> None:
        """Let the host ask for nothing more; what it holds ends with its lifetime. IdentityError if there is none."""
        record = self.host(name)
        if record is None:
            raise IdentityError(f"no host {name!r} has joined this mesh")
        self.save_host(replace(record, revoked=True))

    def forget_tokens(self, now: datetime) -> None:
        """Remove tokens that ended long ago (`KEPT`)."""
        for record, _ in self.tokens():
            if record.expires + KEPT < now:
                (self._tokens / f"{record.digest}.json").unlink(missing_ok=True)
                (self._tokens / f"{record.digest}.used").unlink(missing_ok=True)

    def _token(self, digest: str) -> TokenRecord | None:
        content = load_document(self._tokens / f"{digest}.json", SCHEMA)
        return None if content is None else _token_of(content, self._tokens / digest)

    def _use(self, digest: str) -> TokenUse | None:
        path = self._tokens / f"{digest}.used"
        content = load_document(path, SCHEMA)
        if content is None:
            return None
        try:
            return TokenUse(key=str(content["key"]), when=datetime.fromisoformat(content["when"]))
        except (KeyError, TypeError, ValueError) as error:
            raise _damaged(path, error) from error


def _dump(**content: Any) -> bytes:
    return dump_document(SCHEMA, content)


def _damaged(path: Path, error: object) -> StateError:
    return StateError(f"{path} is damaged ({error}); move it away, and give its host a new join token")


def _dump_token(record: TokenRecord) -> bytes:
    return _dump(
        digest=record.digest,
        host=record.host,
        grants=[str(grant) for grant in record.grants],
        created=record.created.isoformat(),
        expires=record.expires.isoformat(),
    )


def _token_of(content: dict[str, Any], path: Path) -> TokenRecord:
    try:
        return TokenRecord(
            digest=content["digest"],
            host=content["host"],
            grants=tuple(Grant.parse(grant) for grant in content["grants"]),
            created=datetime.fromisoformat(content["created"]),
            expires=datetime.fromisoformat(content["expires"]),
        )
    except (KeyError, TypeError, ValueError, IdentityError) as error:
        raise _damaged(path, error) from error


def _dump_host(record: HostRecord) -> bytes:
    return _dump(
        host=record.host,
        grants=[str(grant) for grant in record.grants],
        keys=list(record.keys),
        token=record.token,
        joined=record.joined.isoformat(),
        renewed=record.renewed.isoformat(),
        revoked=record.revoked,
    )


def _host_of(content: dict[str, Any], path: Path) -> HostRecord:
    try:
        return HostRecord(
            host=content["host"],
            grants=tuple(Grant.parse(grant) for grant in content["grants"]),
            keys=tuple(content["keys"]),
            token=content["token"],
            joined=datetime.fromisoformat(content["joined"]),
            renewed=datetime.fromisoformat(content["renewed"]),
            revoked=bool(content["revoked"]),
        )
    except (KeyError, TypeError, ValueError, IdentityError) as error:
        raise _damaged(path, error) from error
