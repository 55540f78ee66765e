"""The state machine of a rotation: each step by a table, and its two promises under any order of events."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossamer.ca.rotation import (
    Phase,
    Rotation,
    Standing,
    abort,
    advance,
    awaited,
    begin,
    dump_rotation,
    load_rotation,
    refuse,
)
from gossamer.core.errors import IdentityError

NOW = datetime(2030, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
STEADY = Rotation(signer="old", since=NOW, started=NOW)
BEGUN = begin(STEADY, "new", NOW, patience=HOUR)
BOTH = "old and new"
OLD, TOLD, RENEWED = (
    Standing(trust="old", signer="old"),
    Standing(trust=BOTH, signer="old"),
    Standing(trust=BOTH, signer="new"),
)


def test_a_rotation_waits_for_everybody_at_each_step() -> None:
    """Trusted by all before it signs; replaced everywhere before the old one goes."""
    steps = (
        ({"a": OLD, "b": TOLD}, Phase.DISTRIBUTING, "old", ("a",)),
        ({"a": TOLD, "b": TOLD}, Phase.SIGNING, "new", ("a", "b")),
        ({"a": RENEWED, "b": TOLD}, Phase.SIGNING, "new", ("b",)),
        ({"a": RENEWED, "b": Standing()}, Phase.SIGNING, "new", ("b",)),
        ({"a": RENEWED, "b": RENEWED}, Phase.STEADY, "new", ()),
    )
    rotation = BEGUN
    for standings, phase, signer, missing in steps:
        rotation = advance(rotation, standings, BOTH, NOW)
        assert (rotation.phase, rotation.signer) == (phase, signer)
        assert awaited(rotation, standings, BOTH) == missing
    assert rotation.parties == ("new",)
    assert rotation.refused == ()


def test_absentees_are_named_and_after_the_patience_refused() -> None:
    standings = {"host far": Standing(), "near": TOLD}
    assert advance(BEGUN, standings, BOTH, NOW + HOUR - timedelta(seconds=1)) is BEGUN
    signing = advance(BEGUN, standings, BOTH, NOW + HOUR)
    assert (signing.phase, signing.refused) == (Phase.SIGNING, ("host far",))
    assert awaited(signing, standings, BOTH) == ("near",), "who was refused is not waited for again"
    assert awaited(signing, {"host far": TOLD, "near": RENEWED}, BOTH) == ("host far",), "unless it is back"
    assert advance(signing, {"host far": Standing(), "near": RENEWED}, BOTH, NOW + HOUR).phase is Phase.STEADY


def test_the_way_back() -> None:
    """At once before the new party signed, afterwards step by step; and back again."""
    back = abort(BEGUN, NOW)
    assert (back.phase, back.signer, back.parties, back.declined) == (Phase.STEADY, "old", ("old",), "new")
    signing = advance(BEGUN, {}, BOTH, NOW)
    back = abort(signing, NOW)
    assert (back.phase, back.signer, back.other, back.reverted) == (Phase.SIGNING, "old", "new", True)
    assert advance(back, {"a": RENEWED}, BOTH, NOW) is back, "its certificate is of the party that goes"
    assert advance(back, {"a": TOLD}, BOTH, NOW).parties == ("old",)
    assert abort(back, NOW).parties == signing.parties
    with pytest.raises(IdentityError, match="no rotation is under way"):
        abort(STEADY, NOW)


def test_what_cannot_begin() -> None:
    with pytest.raises(IdentityError, match="under way"):
        begin(BEGUN, "third", NOW, patience=HOUR)
    with pytest.raises(IdentityError, match="new key"):
        begin(STEADY, "old", NOW, patience=HOUR)
    assert begin(STEADY, "new", NOW, patience=HOUR, trusted=True).phase is Phase.SIGNING, "its root is the old one's"


@dataclass
class Member:
    """Somebody with a proxy: what it trusts, and who signed its certificate. Both lag behind what it was told."""

    trusts: frozenset[str] = frozenset({"p0"})
    signer: str = "p0"

    @property
    def standing(self) -> Standing:
        return Standing(trust="+".join(sorted(self.trusts)), signer=self.signer)


@dataclass
class Mesh:
    """The machine with its members; every move of it passes through what is kept on disk."""

    members: list[Member] = field(default_factory=lambda: [Member() for _ in range(3)])
    rotation: Rotation = field(default_factory=lambda: Rotation(signer="p0", since=NOW, started=NOW))
    now: datetime = NOW
    made: int = 0

    @property
    def trust(self) -> frozenset[str]:
        return frozenset(self.rotation.parties)

    def standings(self) -> dict[str, Standing]:
        return {str(number): member.standing for number, member in enumerate(self.members)}

    def keep(self, rotation: Rotation) -> None:
        self.rotation = load_rotation(dump_rotation(rotation))

    def move(self, event: str, who: int) -> None:
        self.now += timedelta(minutes=1)
        member = self.members[who]
        match event:
            case "told":
                member.trusts = self.trust
            case "renewed":
                member.signer = self.rotation.signer
            case "start" if self.rotation.phase is Phase.STEADY:
                self.made += 1
                self.keep(begin(self.rotation, f"p{self.made}", self.now, patience=HOUR))
            case "abort" if self.rotation.phase is not Phase.STEADY:
                self.keep(abort(self.rotation, self.now))
            case "joined":  # a new one gets the newest of both
                self.members[who] = Member(trusts=self.trust, signer=self.rotation.signer)
        self.keep(advance(self.rotation, self.standings(), "+".join(sorted(self.trust)), self.now))

    def count(self) -> list[Member]:
        return [member for number, member in enumerate(self.members) if str(number) not in self.rotation.refused]


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(("told", "told", "renewed", "renewed", "start", "abort", "joined", "nothing")),
        st.integers(0, 2),
    ),
    max_size=80,
)


@given(EVENTS)
def test_whoever_counts_is_trusted_by_whoever_counts(events: list[tuple[str, int]]) -> None:
    """Also when the control plane is killed between any two events, and whatever is aborted in between."""
    mesh = Mesh()
    for event, who in events:
        mesh.move(event, who)
        for one in mesh.count():
            assert one.signer in mesh.trust, "the control plane lets it in"
            for other in mesh.count():
                assert one.signer in other.trusts


@given(EVENTS)
def test_it_ends_when_everybody_answers(events: list[tuple[str, int]]) -> None:
    mesh = Mesh()
    for event, who in events:
        mesh.move(event, who)
    for _ in range(3):
        for event in ("told", "renewed"):
            for who in range(3):
                mesh.move(event, who)
    assert mesh.rotation.phase is Phase.STEADY


def test_refusing_by_hand() -> None:
    assert refuse(BEGUN, ("b", "a")).refused == ("a", "b")
    assert refuse(BEGUN, ()) is BEGUN
