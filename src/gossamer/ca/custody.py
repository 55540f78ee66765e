"""Which party signs, on disk: the state of a rotation and the material of its parties, and what follows of both.

Invariant: what is on disk names every party that it needs before it needs it, so that a control plane that was killed
at any moment goes on where it was. All of it is 0600, keys of a plugged-in folder included: such a folder may have
other content by the time we start again.

    rotation/state.json            the state, under a schema version
    rotation/parties/ID/           a party, in the layout of a CA folder
    ca/                            our own CA: always the party that signs now, with all roots that are trusted
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509

from gossamer.ca.authority import Authority, Material, build_authority
from gossamer.ca.certificates import build_bridge, build_root, fingerprint, new_key
from gossamer.ca.files import dump_document, load_document, private_folder, write_private
from gossamer.ca.folder import KEY, load_authority, open_authority, write_authority
from gossamer.ca.rotation import Rotation, dump_rotation, load_rotation
from gossamer.core.errors import StateError

SCHEMA: Final = 1


class Custody:
    """The parties of one mesh. `rotation` is the state on disk; `commit` replaces it."""

    def __init__(self, state: Path, plugged: Path | None, rotation: Rotation, parties: dict[str, Authority]) -> None:
        self.plugged = plugged
        self.rotation = rotation
        self.parties = parties
        self._state = state
        self._bridges: dict[tuple[str, str], x509.Certificate] = {}

    @property
    def signer(self) -> Authority:
        """The party that signs, with its own roots alone."""
        return self.parties[self.rotation.signer]

    @property
    def other(self) -> Authority | None:
        return self.parties.get(self.rotation.other)

    def authority(self, now: datetime) -> Authority:
        """What signs now, trusting what the mesh trusts now."""
        other = self.other
        if other is None:
            return self.signer
        return replace(self.signer, roots=_together(self.signer, other), bridge=self._bridge(other, now))

    def commit(self, rotation: Rotation, new: Authority | None = None) -> None:
        """Make this the state, durably; `new` is the party that it names for the first time. StateError if it cannot be
        written: then the state is as before."""
        private_folder(_record(self._state).parent)
        if new is not None:
            for party in (self.signer, new):
                self._keep(party)
            self.parties[new.signer_key_id] = new
        write_private(_record(self._state), dump_document(SCHEMA, dump_rotation(rotation)))
        self.rotation = rotation
        self.parties = {name: party for name, party in self.parties.items() if name in rotation.parties}
        self.settle()

    def adopt(self, signer: Authority) -> None:
        """Take what is new of the party that signs: other roots, another certificate of its key."""
        private_folder(_record(self._state).parent)
        self._keep(signer)
        self.parties[self.rotation.signer] = signer
        if not _record(self._state).exists():
            write_private(_record(self._state), dump_document(SCHEMA, dump_rotation(self.rotation)))

    def settle(self) -> None:
        """Bring the folders into line with the state; repeated, it changes nothing."""
        if self.plugged is not None and not _record(self._state).exists():
            self.adopt(self.signer)
        if self.plugged is None:
            other = self.other
            trusted = self.signer if other is None else replace(self.signer, roots=_together(self.signer, other))
            write_authority(self._state / "ca", trusted)
        for folder in _parties(self._state).glob("*"):
            if folder.name not in self.rotation.parties:
                shutil.rmtree(folder, ignore_errors=True)

    def _keep(self, party: Authority) -> None:
        private_folder(_parties(self._state))
        write_authority(_parties(self._state) / party.signer_key_id, party)

    def _bridge(self, other: Authority, now: datetime) -> tuple[x509.Certificate, ...]:
        root = self.signer.root
        if root == other.root or root in other.roots:
            return ()
        names = (fingerprint(root), other.signer_key_id)
        if names not in self._bridges:
            self._bridges[names] = build_bridge(other.issuer, root, now, x509.random_serial_number())
        return (self._bridges[names], *other.chain, other.root)


def open_custody(state: Path, plugged: Path | None, trust_domain: str, now: datetime, *, own: bool = False) -> Custody:
    """What a mesh signs with: as it was left, else its plugged-in folder's content, else its own CA, made if there is
    none. `own` says that the mesh ran with its own until now. Errors are those of `load_authority`, and StateError.
    """
    content = load_document(_record(state), SCHEMA)
    if content is None:
        folder = state / "ca"
        if plugged is not None and not (own and (folder / KEY).exists()):
            authority = load_authority(plugged, trust_domain, now)
        else:
            authority = open_authority(folder, trust_domain, now)
        name = authority.signer_key_id
        return Custody(state, plugged, Rotation(signer=name, since=now, started=now), {name: authority})
    try:
        rotation = load_rotation(content)
    except (KeyError, TypeError, ValueError) as error:
        raise StateError(f"{_record(state)} is damaged ({error}); move it away to sign with the CA folder") from error
    parties = {name: load_authority(_parties(state) / name, trust_domain, now) for name in rotation.parties}
    return Custody(state, plugged, rotation, parties)


def new_party(trust_domain: str, now: datetime) -> Authority:
    """A new root of our own, which no state names yet."""
    key = new_key()
    root = build_root(key, trust_domain, now, x509.random_serial_number())
    return build_authority(trust_domain, Material(key=key, certificate=root, chain=(), roots=(root,)), now)


def _together(one: Authority, two: Authority) -> tuple[x509.Certificate, ...]:
    """All roots of both, in an order that does not depend on who signs."""
    roots = dict.fromkeys((*one.roots, *two.roots))
    return tuple(sorted(roots, key=lambda root: (root.not_valid_before_utc, fingerprint(root))))


def _record(state: Path) -> Path:
    return state / "rotation" / "state.json"


def _parties(state: Path) -> Path:
    return state / "rotation" / "parties"
