"""`gossamer ca` on a mesh whose control plane does not run: what it shows, what it takes, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gossamer.ca.revocation import Kind
from gossamer.cli.ca import app
from gossamer.cli.ca_revoke import choose
from gossamer.core.errors import GossamerError, UsageError


def _ca(state: Path, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, f"--state={state}"])


def _status(state: Path) -> dict[str, object]:
    return dict(json.loads(_ca(state, "status", "-o", "json").stdout))


def test_status_revoke_and_undo_from_files(tmp_path: Path) -> None:
    out = f"--out={tmp_path / 'out'}"
    _ca(tmp_path, "issue", "--namespace=default", "--service-account=web", "--workload=web-1", out)
    status = _status(tmp_path)
    certificates, rotation = status["certificates"], status["rotation"]
    assert isinstance(certificates, dict)
    assert isinstance(rotation, dict)
    assert (certificates["valid"], certificates["nearest"]["name"]) == (1, "default/web-1")
    assert (rotation["phase"], status["running"]) == ("steady", False)
    assert "with 1 certificate: in force when the control plane runs" in _ca(tmp_path, "revoke", "default/web-1").output
    table = _ca(tmp_path, "status").output
    assert "workload" in table
    assert "default/web-1" in table
    assert _status(tmp_path)["revoked"]
    assert "no longer" in _ca(tmp_path, "revoke", "default/web-1", "--undo").output
    assert not _status(tmp_path)["revoked"]


def test_a_rotation_needs_a_control_plane(tmp_path: Path) -> None:
    for action in ("start", "continue", "abort"):
        result = _ca(tmp_path, "rotate", action)
        assert isinstance(result.exception, GossamerError)
        assert "no control plane runs" in str(result.exception)


@pytest.mark.parametrize(
    ("workload", "host", "serial", "chosen"),
    [
        ("default/web-1", "", "", (Kind.WORKLOAD, "default/web-1")),
        ("", "vm-1", "", (Kind.HOST, "vm-1")),
        ("", "", "00:AB:12", (Kind.SERIAL, "ab12")),
        ("", "", "0xAB12", (Kind.SERIAL, "ab12")),
    ],
)
def test_what_is_chosen(workload: str, host: str, serial: str, chosen: tuple[Kind, str]) -> None:
    assert choose(workload, host, serial) == chosen


@pytest.mark.parametrize(
    ("workload", "host", "serial"),
    [("", "", ""), ("default/web", "h", ""), ("web", "", ""), ("", "", "xyz"), ("Default/web", "", ""), ("", "H", "")],
)
def test_what_is_no_choice(workload: str, host: str, serial: str) -> None:
    with pytest.raises(GossamerError):
        choose(workload, host, serial)
    assert issubclass(UsageError, GossamerError)
