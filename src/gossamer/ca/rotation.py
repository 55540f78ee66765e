"""Replacing what signs, as a state machine without I/O: time and what the mesh has confirmed are arguments.

Invariant: nobody signs under a root that somebody who still counts does not trust, and no root goes while somebody who
still counts is known by it. Who does not answer is named, and counts no longer once the patience is over.

A *party* is a signing certificate with its key, its chain and its roots, named by the identifier of its key. The mesh
trusts the roots of `signer` and, while there is one, of `other`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from gossamer.core.errors import IdentityError

PATIENCE: Final = timedelta(hours=24)
"""How long each phase waits for those that do not answer, unless told otherwise."""


class Phase(StrEnum):
    """Where a rotation stands."""

    STEADY = "steady"
    """One party signs, its roots are trusted."""
    DISTRIBUTING = "distributing"
    """`signer` signs as before; the roots of `other`, which is to come, go out beside its own."""
    SIGNING = "signing"
    """`signer` signs, and is trusted by all; certificates of `other`, which is to go, are being replaced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a host or a workload has confirmed: the trust that it serves, and the party that signed its certificate."""

    trust: str = ""
    signer: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """The state. `since` is when its phase began, `started` when the rotation did."""

    signer: str
    other: str = ""
    phase: Phase = Phase.STEADY
    since: datetime
    started: datetime
    patience: timedelta = PATIENCE
    reverted: bool = False
    refused: tuple[str, ...] = ()
    """Who was waited for in vain, in this rotation or the last."""
    declined: str = ""
    """The party of an aborted rotation: it is not begun again by itself."""

    @property
    def parties(self) -> tuple[str, ...]:
        return (self.signer, self.other) if self.other else (self.signer,)

    @property
    def deadline(self) -> datetime:
        return self.since + self.patience


def begin(rotation: Rotation, other: str, now: datetime, *, patience: timedelta, trusted: bool = False) -> Rotation:
    """Begin to replace the signer by `other`; `trusted` says that the root of that is one that everybody trusts.

    IdentityError if a rotation is under way, or there is nothing to replace.
    """
    if rotation.phase is not Phase.STEADY:
        raise IdentityError(
            f"a rotation is under way since {rotation.started:%Y-%m-%d %H:%M:%S} UTC: wait for its end, or abort it"
        )
    if other == rotation.signer:
        raise IdentityError("the new CA has the key of the old one: a rotation needs a new key")
    begun = Rotation(signer=rotation.signer, other=other, since=now, started=now, patience=patience)
    return _sign(begun, now) if trusted else replace(begun, phase=Phase.DISTRIBUTING)


def abort(rotation: Rotation, now: datetime) -> Rotation:
    """Go back, which a rotation can until the old party is retired. IdentityError if none is under way.

    Once the new party has signed, the way back is as long as the way there: its certificates are replaced first.
    """
    match rotation.phase:
        case Phase.STEADY:
            raise IdentityError("no rotation is under way: there is nothing to abort")
        case Phase.DISTRIBUTING:
            return replace(rotation, phase=Phase.STEADY, other="", since=now, reverted=True, declined=rotation.other)
        case Phase.SIGNING:
            turned = _sign(replace(rotation, reverted=not rotation.reverted), now)
            return replace(turned, declined=rotation.signer if turned.reverted else "")


def awaited(rotation: Rotation, standings: Mapping[str, Standing], trust: str) -> tuple[str, ...]:
    """Who has not done what this phase waits for: serve the trust of this version and, in SIGNING, replace what the
    other party signed. Who was refused before counts again as soon as it serves the trust."""
    if rotation.phase is Phase.STEADY:
        return ()

    def lacks(name: str, standing: Standing) -> bool:
        if standing.trust != trust:
            return name not in rotation.refused
        return rotation.phase is Phase.SIGNING and standing.signer != rotation.signer

    return tuple(sorted(name for name, standing in standings.items() if lacks(name, standing)))


def advance(rotation: Rotation, standings: Mapping[str, Standing], trust: str, now: datetime) -> Rotation:
    """The state after a look at everybody; the same object if nothing follows."""
    missing = awaited(rotation, standings, trust)
    if rotation.phase is Phase.STEADY or (missing and now < rotation.deadline):
        return rotation
    rotation = refuse(rotation, missing)
    if rotation.phase is Phase.DISTRIBUTING:
        return _sign(rotation, now)
    return replace(rotation, phase=Phase.STEADY, other="", since=now)


def refuse(rotation: Rotation, names: tuple[str, ...]) -> Rotation:
    """Wait no longer for these."""
    return replace(rotation, refused=tuple(sorted({*rotation.refused, *names}))) if names else rotation


def _sign(rotation: Rotation, now: datetime) -> Rotation:
    return replace(rotation, phase=Phase.SIGNING, signer=rotation.other, other=rotation.signer, since=now)


def dump_rotation(rotation: Rotation) -> dict[str, Any]:
    """The state as JSON values."""
    return {
        "signer": rotation.signer,
        "other": rotation.other,
        "phase": rotation.phase.value,
        "since": rotation.since.isoformat(),
        "started": rotation.started.isoformat(),
        "patience_s": rotation.patience.total_seconds(),
        "reverted": rotation.reverted,
        "refused": list(rotation.refused),
        "declined": rotation.declined,
    }


def load_rotation(content: Mapping[str, Any]) -> Rotation:
    """The state that `dump_rotation` wrote; KeyError, TypeError or ValueError for anything else."""
    return Rotation(
        signer=str(content["signer"]),
        other=str(content["other"]),
        phase=Phase(content["phase"]),
        since=datetime.fromisoformat(content["since"]),
        started=datetime.fromisoformat(content["started"]),
        patience=timedelta(seconds=float(content["patience_s"])),
        reverted=bool(content["reverted"]),
        refused=tuple(str(name) for name in content["refused"]),
        declined=str(content["declined"]),
    )
