"""`gossamer ca`: which join tokens there are, what became of each, and that one is taken back."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gossamer.ca.folder import open_authority
from gossamer.ca.issue import create_token
from gossamer.ca.ledger import Ledger
from gossamer.ca.tokens import JoinToken, TokenError
from gossamer.cli.main import run

NOW = datetime.now(UTC)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "joined")


def made(folder: Path, ledger: Ledger, host: str, age: timedelta = timedelta()) -> JoinToken:
    authority = open_authority(folder / "ca", "cluster.local", NOW)
    return JoinToken.parse(create_token(authority, ledger, host=host, grants=["shop/*"], now=NOW - age))


def test_tokens_and_what_became_of_them(tmp_path: Path, ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    used, spare, old = made(tmp_path, ledger, "vm-1"), made(tmp_path, ledger, "vm-2"), made(tmp_path, ledger, "vm-3", timedelta(hours=2))  # fmt: skip  # noqa: E501
    ledger.join(used.digest, "1" * 64, NOW, "192.0.2.7")
    assert run(["ca", "withdraw", spare.digest[:12], f"--state={tmp_path}"]) == 0
    assert "the join token" in capsys.readouterr().err
    assert run(["ca", "tokens", f"--state={tmp_path}", "-o", "json"]) == 0
    said = capsys.readouterr().out
    rows = {row["host"]: row for row in json.loads(said)}
    assert {host: row["state"] for host, row in rows.items()} == {"vm-1": "joined", "vm-2": "withdrawn", "vm-3": "expired"}  # fmt: skip  # noqa: E501
    assert (rows["vm-1"]["address"], rows["vm-1"]["id"]) == ("192.0.2.7", used.digest[:12])
    assert rows["vm-1"]["used"] == NOW.isoformat(timespec="seconds")
    for token in (used, spare, old):
        assert token.reveal().split(".")[1] not in said
    assert run(["ca", "tokens", f"--state={tmp_path}"]) == 0
    assert "192.0.2.7" in capsys.readouterr().out
    assert run(["ca", "hosts", f"--state={tmp_path}"]) == 0
    assert f"token {used.digest[:12]}" in capsys.readouterr().out


def test_a_withdrawn_token_lets_nobody_in(tmp_path: Path, ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    token = made(tmp_path, ledger, "vm-1")
    assert run(["ca", "withdraw", token.digest[:12], f"--state={tmp_path}"]) == 0
    with pytest.raises(TokenError, match="was withdrawn"):
        ledger.join(token.digest, "1" * 64, NOW)
    used = made(tmp_path, ledger, "vm-2")
    ledger.join(used.digest, "1" * 64, NOW)
    for id, said in (
        (used.digest[:12], "has joined by this token already"),
        ("zz", "no join token begins"),
        ("", "no"),
    ):
        assert run(["ca", "withdraw", id, f"--state={tmp_path}"]) == 1
        assert said in capsys.readouterr().err
