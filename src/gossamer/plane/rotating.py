"""Carries a rotation through: looks at who has confirmed what, and lets the state follow, on disk before in force.

Invariant: what `authority` and `beside` publish is what custody has on disk. A plugged-in folder is a wish: what it
holds comes into force by a rotation like any other, its root distributed before anything is signed under it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from gossamer.ca.authority import Authority
from gossamer.ca.bundle import Beside, trust_version
from gossamer.ca.custody import Custody, new_party
from gossamer.ca.folder import CERTIFICATE, CHAIN, KEY, ROOTS, load_authority
from gossamer.ca.rotation import (
    PATIENCE,
    Phase,
    Rotation,
    Standing,
    abort,
    advance,
    awaited,
    begin,
    refuse,
)
from gossamer.core.errors import IdentityError, StateError
from gossamer.core.latest import Latest

_LOG = logging.getLogger(__name__)
LOOK_S: Final = 1.0
TOGETHER_S: Final = 0.05
"""How long one confirmation waits for others: a look reads what was issued, and asks of everybody."""


@dataclass(slots=True, kw_only=True)
class Rotating:
    """The rotations of one control plane. `standings` says what everybody who counts has confirmed; `compose` what is
    trusted and revoked beside the parties."""

    custody: Custody
    authority: Latest[Authority]
    beside: Latest[Beside]
    clock: Callable[[], datetime]
    standings: Callable[[], Mapping[str, Standing]]
    compose: Callable[[Custody], Beside]
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    problem: str = ""
    """Why the plugged-in folder's content is not in force; empty if nothing is wrong with it."""
    _seen: tuple[bytes, ...] = ()
    _wish: Authority | None = None

    @property
    def trust(self) -> str:
        """The version of what is trusted now."""
        return trust_version(self.authority.value, self.beside.value)

    async def follow(self) -> None:
        """Look whenever somebody confirms something, and every second, until cancelled."""
        while True:
            self.woken.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self.woken.wait()
            await asyncio.sleep(TOGETHER_S)
            if self.custody.plugged is not None:
                await self._read(self.custody.plugged)
            self.look()

    def look(self) -> None:
        """Let the state follow what is confirmed, as far as it goes."""
        while True:
            rotation = self.custody.rotation
            if rotation.phase is Phase.STEADY:
                return
            try:
                following = advance(rotation, self.standings(), self.trust, self.clock())
                if following is rotation:
                    return
                self._commit(following)
            except StateError as error:
                self._say(str(error))
                return

    def publish(self) -> None:
        """Tell hosts what is trusted now; for when something beside the parties has changed."""
        self.beside.publish(self.compose(self.custody))
        self.authority.publish(self.custody.authority(self.clock()))

    def start(self, patience: timedelta | None) -> None:
        """Begin to replace the signer: by a new root of our own, or by what the plugged-in folder holds. IdentityError
        if there is nothing to replace it by, or a rotation is under way."""
        other = self._wish
        if self.custody.plugged is None:
            other = new_party(self.custody.signer.trust_domain, self.clock())
        elif other is None or other.signer_key_id == self.custody.rotation.signer:
            raise IdentityError(
                f"{self.custody.plugged} holds what signs already: put the files of the new CA there, and the rotation "
                "begins by itself"
            )
        self._begin(other, patience)

    def abort(self) -> None:
        """Go back to the former signer. IdentityError if there is no rotation to abort."""
        self._commit(abort(self.custody.rotation, self.clock()))
        self.look()

    def go_on(self) -> tuple[str, ...]:
        """Wait no longer for those who are awaited; returns who they are. IdentityError if nobody is awaited."""
        rotation, now = self.custody.rotation, self.clock()
        standings = self.standings()
        missing = awaited(rotation, standings, self.trust)
        if not missing:
            raise IdentityError("nobody is awaited")
        following = advance(refuse(rotation, missing), _without(standings, missing), self.trust, now)
        self._commit(following)
        self.look()
        return missing

    def awaited(self) -> tuple[str, ...]:
        """Who has yet to do what this phase waits for."""
        return awaited(self.custody.rotation, self.standings(), self.trust)

    def _begin(self, other: Authority, patience: timedelta | None) -> None:
        signer = self.custody.signer
        begun = begin(
            self.custody.rotation,
            other.signer_key_id,
            self.clock(),
            patience=PATIENCE if patience is None else patience,
            trusted=other.root == signer.root,
        )
        self._commit(begun, other)
        self.look()

    def _commit(self, rotation: Rotation, new: Authority | None = None) -> None:
        before = self.custody.rotation
        self.custody.commit(rotation, new)
        self.publish()
        refused = sorted(set(rotation.refused) - set(before.refused))
        _LOG.info(
            "ca-rotation",
            extra={"phase": rotation.phase.value, "signer": rotation.signer, "other": rotation.other},
        )
        if refused:
            _LOG.warning("ca-rotation-refuses", extra={"absent": refused})

    async def _read(self, folder: Path) -> None:
        """Look at the plugged-in folder; what is half written is looked at again."""
        found = await asyncio.to_thread(_contents, folder)
        if found != self._seen:
            try:
                self._wish = await asyncio.to_thread(
                    load_authority, folder, self.custody.signer.trust_domain, self.clock()
                )
            except IdentityError as error:
                self._say(str(error))
                return
            self._seen = found
        if self._wish is not None:
            try:
                self._say(self._take(self._wish))
            except StateError as error:
                self._say(str(error))

    def _take(self, wish: Authority) -> str:
        """Let the folder's content come into force; returns why it does not."""
        rotation, name = self.custody.rotation, wish.signer_key_id
        if name == rotation.signer:
            if rotation.phase is Phase.DISTRIBUTING:
                self.abort()
            return self._renew(wish)
        if name == rotation.declined:
            return ""
        if rotation.phase is Phase.STEADY:
            self._begin(wish, None)
        elif name != rotation.other:
            return f"CA folder {self.custody.plugged}: what it holds waits for the end of the rotation under way"
        elif rotation.phase is Phase.SIGNING:
            self.abort()
        return ""

    def _renew(self, wish: Authority) -> str:
        """The same key, with another certificate or other roots beside its own."""
        signer = self.custody.signer
        if (wish.issuer.certificate, wish.chain, wish.roots) == (signer.issuer.certificate, signer.chain, signer.roots):
            return ""
        if wish.root not in self.authority.value.roots:
            return (
                f"CA folder {self.custody.plugged}: {ROOTS} holds another root for the same key, so that certificates "
                "of the old one could not be told from new ones: make a new signing key, too"
            )
        self.custody.adopt(wish)
        self.publish()
        _LOG.info("ca-folder-changed", extra={"signer": wish.signer_key_id, "roots": len(wish.roots)})
        return ""

    def _say(self, problem: str) -> None:
        if problem and problem != self.problem:
            _LOG.error("ca-folder-refused", extra={"reason": problem})
        self.problem = problem


def _without(standings: Mapping[str, Standing], names: tuple[str, ...]) -> dict[str, Standing]:
    return {name: standing for name, standing in standings.items() if name not in names}


def _contents(folder: Path) -> tuple[bytes, ...]:
    return tuple(_content(folder / name) for name in (CERTIFICATE, KEY, ROOTS, CHAIN))


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
