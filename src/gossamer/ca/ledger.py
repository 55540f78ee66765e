"""What the authority remembers on disk: tokens given out, tokens used, hosts and their grants.

One file each, so that commands and control planes share the folder without a lock: a token is used by creating a file
that must not exist, which one of all comers does, once and durably. Every file carries the version of its schema.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from gossamer.ca.attestation import Attested, attested_host
from gossamer.ca.files import create_private, load_document, private_folder, write_private
from gossamer.ca.records import SCHEMA, dump_host, dump_token, dump_use, host_of, token_of, use_of
from gossamer.ca.spiffe import check_host
from gossamer.ca.tokens import (
    HostRecord,
    TokenRecord,
    TokenUse,
    check_again,
    check_token,
    check_use,
    withdrawn,
)
from gossamer.core.errors import IdentityError, StateError

KEPT: Final = timedelta(days=7)
"""How long after its end a token is remembered, to tell 'expired' and 'used' from 'unknown'."""


class Ledger:
    """The folder's tokens and hosts. Reads what is there now: other processes may write to it."""

    def __init__(self, folder: Path) -> None:
        self._tokens = private_folder(folder / "tokens")
        self._hosts = private_folder(folder / "hosts")
        self._shown = private_folder(folder / "shown")
        """Tokens of other issuers that were shown, until they end."""

    def add_token(self, record: TokenRecord) -> None:
        """Remember a new token; StateError if it cannot be written."""
        if not create_private(self._tokens / f"{record.digest}.json", dump_token(record)):
            raise StateError("a join token with the same secret exists; its randomness is broken")

    def tokens(self) -> list[tuple[TokenRecord, TokenUse | None]]:
        """All tokens that are remembered and what became of them, the oldest first."""
        found = [self._token(path.stem) for path in self._tokens.glob("*.json")]
        known = sorted((record for record in found if record), key=lambda record: record.created)
        return [(record, self._use(record.digest)) for record in known]

    def withdraw_token(self, id: str) -> TokenRecord:
        """Let nobody join by the token whose digest begins so; returns it. IdentityError if there is none, or several,
        or its host has joined."""
        found = [(record, use) for record, use in self.tokens() if id and record.digest.startswith(id)]
        record = withdrawn(found, id)
        write_private(self._tokens / f"{record.digest}.json", dump_token(record))
        return record

    def join(self, digest: str, key: str, now: datetime, address: str = "") -> HostRecord:
        """Use a token for a key, and remember the host with what it was granted. TokenError if the token is refused."""
        token = self.check_token(digest, now)
        use = TokenUse(key=key, when=now, address=address, host=token.host)
        first = create_private(self._tokens / f"{digest}.used", dump_use(use))
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

    def join_attested(self, attested: Attested, key: str, now: datetime, address: str = "") -> HostRecord:
        """Remember a host that somebody vouches for. TokenError if its token brought in another key already,
        IdentityError if the host was revoked."""
        host = attested.host_of(key)
        self._show(attested, TokenUse(key=key, when=now, address=address, host=host, expires=attested.expires))
        joined = attested_host(attested, self.host(host), host, key, now)
        self.save_host(joined)
        return joined

    def renew_attested(self, record: HostRecord, attested: Attested, key: str, now: datetime) -> HostRecord:
        """What is known of a host that is vouched for again, which `key` speaks for now. IdentityError if it is another
        that is vouched for."""
        other = attested.instance and attested.host_of(key) != record.host
        if other or (attested.attestor, attested.subject) != (record.attestor, record.subject):
            raise IdentityError(
                f"host {record.host} was attested as {record.subject} by {record.attestor}, and is not "
                f"{attested.subject} of {attested.attestor}"
            )
        use = TokenUse(key=key, when=now, host=record.host, expires=attested.expires)
        self._show(attested, use, proved=True)
        return replace(record, grants=attested.grants, token=attested.digest, lifetime=attested.lifetime)

    def _show(self, attested: Attested, use: TokenUse, *, proved: bool = False) -> None:
        """Tie a token to the host that shows it first."""
        path = self._shown / f"{attested.digest}.json"
        if create_private(path, dump_use(use)):
            self._forget_shown(use.when)
            return
        content = load_document(path, SCHEMA)
        if content is not None and not attested.reuse:
            check_again(use_of(content, path), use, proved=proved)

    def _forget_shown(self, now: datetime) -> None:
        for path in self._shown.glob("*.json"):
            content = load_document(path, SCHEMA)
            expires = None if content is None else use_of(content, path).expires
            if expires is not None and expires < now:
                path.unlink(missing_ok=True)

    def check_token(self, digest: str, now: datetime) -> TokenRecord:
        """The record of a token that is known and not expired, used or not; TokenError otherwise."""
        return check_token(self._token(digest), now)

    def host(self, name: str) -> HostRecord | None:
        """What is kept of a host, or None."""
        content = load_document(self._hosts / f"{check_host(name)}.json", SCHEMA)
        return None if content is None else host_of(content, self._hosts / name)

    def hosts(self) -> Iterator[HostRecord]:
        """All hosts, by name."""
        for path in sorted(self._hosts.glob("*.json")):
            record = self.host(path.stem)
            if record is not None:
                yield record

    def save_host(self, record: HostRecord) -> None:
        write_private(self._hosts / f"{record.host}.json", dump_host(record))

    def revoke_host(self, name: str) -> None:
        """Let the host ask for nothing more; what it holds ends with its lifetime. IdentityError if there is none."""
        record = self.host(name)
        if record is None:
            raise IdentityError(f"no host {name!r} has joined this mesh")
        self.save_host(replace(record, revoked=True))

    def restore_host(self, name: str) -> None:
        """Take back that a host was revoked. IdentityError if there is none."""
        record = self.host(name)
        if record is None:
            raise IdentityError(f"no host {name!r} has joined this mesh")
        self.save_host(replace(record, revoked=False))

    def forget_tokens(self, now: datetime) -> None:
        """Remove tokens that ended long ago (`KEPT`)."""
        for record, _ in self.tokens():
            if record.expires + KEPT < now:
                (self._tokens / f"{record.digest}.json").unlink(missing_ok=True)
                (self._tokens / f"{record.digest}.used").unlink(missing_ok=True)

    def _token(self, digest: str) -> TokenRecord | None:
        content = load_document(self._tokens / f"{digest}.json", SCHEMA)
        return None if content is None else token_of(content, self._tokens / digest)

    def _use(self, digest: str) -> TokenUse | None:
        path = self._tokens / f"{digest}.used"
        content = load_document(path, SCHEMA)
        return None if content is None else use_of(content, path)
