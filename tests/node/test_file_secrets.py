from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from gossamer.ca.folder import create_authority
from gossamer.core.errors import IdentityError
from gossamer.node.file_secrets import load_file_secret
from gossamer.node.sds import SecretSet


def test_files_are_read_when_asked_for_and_again_when_they_change(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    create_authority(tmp_path / "one", "cluster.local", now)
    create_authority(tmp_path / "two", "cluster.local", now)
    roots = tmp_path / "roots.pem"
    roots.write_bytes((tmp_path / "one" / "root-cert.pem").read_bytes())
    secrets, name = SecretSet(), f"file-root:{roots}"
    secrets.want([name, "default"])
    first = secrets.latest.value[name]
    secrets.refresh_files()
    assert secrets.latest.value[name] == first
    roots.write_bytes((tmp_path / "two" / "root-cert.pem").read_bytes())
    secrets.refresh_files()
    second = secrets.latest.value[name]
    assert second.version != first.version
    roots.write_text("half a file")
    secrets.refresh_files()
    assert secrets.latest.value[name] == second, "what it last held stays in force"


def test_a_file_that_is_not_what_its_name_says_goes_nowhere(tmp_path: Path) -> None:
    secret = tmp_path / "shadow"
    secret.write_text("root:x:0:0")
    with pytest.raises(IdentityError):
        load_file_secret(f"file-root:{secret}")
    with pytest.raises(IdentityError, match="nowhere"):
        load_file_secret(f"file-cert:{tmp_path}/nowhere~{secret}")
