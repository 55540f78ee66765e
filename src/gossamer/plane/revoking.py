"""Revokes and takes back, on disk before in force.

Invariant: what is published is on disk, and what is on disk refuses: a file that cannot be read stops the start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from gossamer.ca.authority import Authority
from gossamer.ca.bundle import anchors_of
from gossamer.ca.certificates import chain_pem
from gossamer.ca.files import dump_document, load_document, write_private
from gossamer.ca.issued import IssuedLog
from gossamer.ca.ledger import Ledger
from gossamer.ca.revocation import (
    Kind,
    Revocation,
    Revocations,
    build_list,
    dump_revocations,
    load_revocations,
    revoke,
    undo,
)
from gossamer.ca.sessions import Sessions
from gossamer.core.errors import StateError
from gossamer.core.latest import Latest
from gossamer.plane.registry_service import RegistryService

SCHEMA: Final = 1
FILE: Final = "revoked.json"
PASSES: Final = timedelta(seconds=1)
"""How long after a list went out connections are ended: whoever is on it does not come in again."""


class Revoking:
    """The revocations of one mesh."""

    def __init__(self, state: Path, ledger: Ledger, clock: Callable[[], datetime]) -> None:
        self.issued = IssuedLog(state / "issued")
        self._path = state / FILE
        self._ledger = ledger
        self._clock = clock
        self.latest = Latest(_load(self._path))
        self._revised, self._since = self.latest.value.revised, clock() - PASSES
        self._lists: dict[tuple[str, Revocations], bytes] = {}

    def revoke(self, kind: Kind, name: str) -> Revocation:
        """Revoke, and return what it takes with it. IdentityError if there is nobody of that name."""
        now = self._clock()
        if kind is Kind.HOST:
            self._ledger.revoke_host(name)
        found = revoke(self.latest.value, kind, name, self.issued.valid(now), now)
        self._save(found)
        return found.entries[-1]

    def undo(self, kind: Kind, name: str) -> None:
        """Take it back. IdentityError if it is not revoked."""
        found = undo(self.latest.value, kind, name)
        if kind is Kind.HOST:
            self._ledger.restore_host(name)
        self._save(found)

    @property
    def revised(self) -> str:
        """What names the last revocation that took certificates with it, once its lists have had time to arrive."""
        if self._clock() >= self._since + PASSES:
            self._revised = self.latest.value.revised
        return self._revised

    def refuses_workload(self, namespace: str, name: str) -> str:
        """Why a workload of this name is refused; empty if it is not."""
        return self.latest.value.refuses_workload(namespace, name)

    def forget_ended(self) -> None:
        """Leave out certificates that have ended."""
        current = self.latest.value.current(self._clock())
        if current != self.latest.value:
            self._save(current)

    def verify_pem(self, parties: Iterable[Authority]) -> bytes:
        """All that sign or have signed as roots, and their lists, as PEM; empty if no certificate is revoked."""
        revocations = self.latest.value
        if not any(entry.serials for entry in revocations.entries):
            return b""
        keys = {(party.signer_key_id, revocations): party for party in parties}
        now = self._clock()
        self._lists = {
            key: self._lists.get(key)
            or chain_pem(anchors_of(party, now)) + build_list(party.issuer, revocations, now, int(now.timestamp()))
            for key, party in keys.items()
        }
        return b"".join(pem for _, pem in sorted((name, pem) for (name, _), pem in self._lists.items()))

    def _save(self, revocations: Revocations) -> None:
        write_private(self._path, dump_document(SCHEMA, dump_revocations(revocations)))
        if revocations.revised != self.latest.value.revised:
            self._since = self._clock()
        self.latest.publish(revocations)


def send_away(revocations: Revocations, gone: set[str], sessions: Sessions, registry: RegistryService) -> None:
    """End the calls and registrations of what was revoked; `gone` are the hosts that are. Hosts of workloads that were,
    connect again and are told."""
    snapshot = registry.snapshot
    revoked = {key for key in snapshot if revocations.refuses_workload(*key)}
    hosts = {snapshot[key].host for key in revoked}
    registry.evict(key for key, entry in snapshot.items() if key in revoked or entry.host in gone)
    sessions.end(
        lambda peer: (
            revocations.refuses(peer.host, peer.serial)
            or ("the host is revoked" if peer.host.host in gone else "")
            or ("a workload of the host is revoked: connect again" if peer.host.host in hosts else "")
        )
    )


def _load(path: Path) -> Revocations:
    content = load_document(path, SCHEMA)
    if content is None:
        return Revocations()
    try:
        return load_revocations(content)
    except (KeyError, TypeError, ValueError) as error:
        raise StateError(f"{path} is damaged ({error}); restore it: without it, nobody would be revoked") from error
