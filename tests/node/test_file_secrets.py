from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from gossamer.ca.folder import create_authority
from gossamer.core.errors import IdentityError
from gossamer.node.file_secrets import load_file_secret
from gossamer.node.sds import SecretSet
from tests.compile.certificates import Issuer


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
        load_file_secret(f"file-cert:{tmp_path}/nowhere~{secret}", [tmp_path])
    roots = tmp_path / "ca" / "root-cert.pem"
    create_authority(roots.parent, "cluster.local", datetime.now(UTC))
    with pytest.raises(IdentityError, match="revoked"):
        load_file_secret(f"file-root:{roots}~{secret}")


def test_a_key_is_read_only_where_its_host_lends_it(tmp_path: Path) -> None:
    lent, others = tmp_path / "lent", tmp_path / "others"
    pair = Issuer().issue("a.com")
    for folder in (lent, others):
        folder.mkdir()
        (folder / "crt").write_text(pair.certificate)
        (folder / "key").write_text(pair.key)
    (lent / "link").symlink_to(others / "key")
    found = load_file_secret(f"file-cert:{lent}/crt~{lent}/key", [lent])
    assert found.tls_certificate.private_key.inline_bytes.decode() == pair.key
    for key in (others / "key", lent / ".." / "others" / "key", lent / "link"):
        with pytest.raises(IdentityError, match="in no folder"):
            load_file_secret(f"file-cert:{lent}/crt~{key}", [lent])
    with pytest.raises(IdentityError, match="in no folder"):
        load_file_secret(f"file-cert:{lent}/crt~{lent}/key")
    secrets = SecretSet([lent])
    secrets.want([f"file-cert:{lent}/crt~{others}/key", f"file-cert:{lent}/crt~{lent}/key"])
    assert list(secrets.latest.value) == [f"file-cert:{lent}/crt~{lent}/key"]


def test_roots_with_a_list_of_what_they_revoked(tmp_path: Path) -> None:
    issuer = Issuer()
    (tmp_path / "ca").write_text(issuer.roots)
    revoked = issuer.revoked(issuer.issue("lost.test"))
    (tmp_path / "crl").write_text(revoked)
    context = load_file_secret(f"file-root:{tmp_path}/ca~{tmp_path}/crl").validation_context
    assert context.trusted_ca.inline_bytes.decode() == issuer.roots
    assert context.crl.inline_bytes.decode() == revoked
