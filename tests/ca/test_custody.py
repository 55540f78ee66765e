"""What signs, on disk: killed at any moment, it goes on where it was. A plugged-in CA comes after what there was."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gossamer.ca.authority import Authority
from gossamer.ca.custody import Custody, new_party, open_custody
from gossamer.ca.folder import create_authority, load_authority
from gossamer.ca.rotation import PATIENCE, Phase, Rotation, abort, advance, begin
from gossamer.core.errors import StateError

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def _open(state: Path, plugged: Path | None = None, *, own: bool = False) -> Custody:
    custody = open_custody(state, plugged, "cluster.local", NOW, own=own)
    custody.settle()
    return custody


class Killed(BaseException):
    """The end of a process, as far as what it had on disk goes."""


def _kill_at(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Let the process end when it makes something durable for the nth time."""
    left = [count]

    def fsync(_: int) -> None:  # the disk itself is not needed for it
        if left[0] == 0:
            raise Killed
        left[0] -= 1

    monkeypatch.setattr(os, "fsync", fsync)


def _steps(custody: Custody) -> Iterator[tuple[Rotation, Authority | None]]:
    """One rotation there, then half of one and back."""
    for back in (False, True):
        new = new_party("cluster.local", NOW)
        yield begin(custody.rotation, new.signer_key_id, NOW, patience=PATIENCE), new
        yield advance(custody.rotation, {}, "", NOW), None
        if back:
            yield abort(custody.rotation, NOW), None
        yield advance(custody.rotation, {}, "", NOW), None


def _killed_at(custody: Custody, count: int, monkeypatch: pytest.MonkeyPatch) -> list[Rotation]:
    """Take the steps until the kill; returns the state before it and the one that was to be, or the last alone."""
    around = [custody.rotation]
    with monkeypatch.context() as patch:
        _kill_at(patch, count)
        try:
            for rotation, new in _steps(custody):
                around.append(rotation)
                custody.commit(rotation, new)
                around = [rotation]
        except Killed:
            assert len(around) == 2
    return around


def test_killed_at_any_moment_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for count in range(0, 1000, 3):
        state = tmp_path / str(count)
        state.mkdir()
        around = _killed_at(_open(state), count, monkeypatch)
        again = _open(state)
        assert again.rotation in around or (count == 0 and again.rotation.phase is Phase.STEADY)
        authority, folder = again.authority(NOW), load_authority(state / "ca", "cluster.local", NOW)
        assert (folder.signer_key_id, folder.roots) == (authority.signer_key_id, authority.roots)
        if len(around) == 1:
            assert count > 20
            return
    raise AssertionError("it never ends")


def test_everything_of_it_is_private_and_nothing_of_the_old_key_is_left(tmp_path: Path) -> None:
    custody = _open(tmp_path)
    old = custody.signer.issuer.key.private_numbers()
    new = new_party("cluster.local", NOW)
    custody.commit(begin(custody.rotation, new.signer_key_id, NOW, patience=timedelta(hours=1)), new)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*") if path.is_file()} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*") if path.is_dir()} == {0o700}
    custody.commit(advance(custody.rotation, {}, "", NOW))
    bridge, root = custody.authority(NOW).bridge
    bridge.verify_directly_issued_by(root)
    custody.commit(advance(custody.rotation, {}, "", NOW))
    left = [load_authority(path.parent, "cluster.local", NOW) for path in tmp_path.rglob("ca-key.pem")]
    assert left
    assert all(authority.issuer.key.private_numbers() != old for authority in left)


def test_a_newer_state_is_refused_and_a_damaged_one_said(tmp_path: Path) -> None:
    (tmp_path / "rotation").mkdir()
    for text, words in (('{"schema": 99, "content": {}}', "newer"), ('{"schema": 1, "content": {}}', "damaged")):
        (tmp_path / "rotation" / "state.json").write_text(text)
        with pytest.raises(StateError, match=words):
            open_custody(tmp_path, None, "cluster.local", NOW)


def test_a_plugged_in_ca_follows_the_meshs_own(tmp_path: Path) -> None:
    """The mesh goes on with what it had, also when the folder changed while nobody ran: a rotation is to come."""
    plugged = tmp_path / "plugged"
    theirs = create_authority(plugged, "cluster.local", NOW)
    own = _open(tmp_path / "state").signer
    custody = _open(tmp_path / "state", plugged, own=True)
    assert custody.signer.signer_key_id == own.signer_key_id
    assert _open(tmp_path / "other", plugged).signer.signer_key_id == theirs.signer_key_id
    for path in plugged.iterdir():
        path.unlink()
    plugged.rmdir()
    create_authority(plugged, "cluster.local", NOW)
    assert _open(tmp_path / "other", plugged).signer.signer_key_id == theirs.signer_key_id
