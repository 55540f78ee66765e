"""Who is refused after a revocation, by name, by certificate and by Envoy's list; and what is remembered of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from gossamer.ca.folder import create_authority
from gossamer.ca.issue import issue
from gossamer.ca.issued import Issued, IssuedLog, latest
from gossamer.ca.revocation import (
    LARGEST,
    Kind,
    Revocations,
    build_list,
    dump_revocations,
    load_revocations,
    revoke,
    undo,
)
from gossamer.ca.spiffe import HostId, WorkloadId, workload_id
from gossamer.core.errors import IdentityError

NOW = datetime(2030, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)


def _one(serial: int, workload: str = "", host: str = "h", ends: datetime = LATER) -> Issued:
    return Issued(serial=serial, workload=workload, host=host, signer="key", not_after=ends)


def _workload(name: str) -> WorkloadId:
    return workload_id(trust_domain="cluster.local", namespace="default", service_account="web", name=name)


HOST = HostId(trust_domain="cluster.local", host="h")
ISSUED = [_one(1, "default/web"), _one(2, "default/web"), _one(3, "default/api"), _one(4), _one(5, "x/y", host="other")]


@pytest.mark.parametrize(
    ("kind", "name", "serials", "refused"),
    [
        (Kind.WORKLOAD, "default/web", {1, 2}, {"web": True, "api": False}),
        (Kind.HOST, "h", {1, 2, 3, 4}, {"web": False, "api": False}),
        (Kind.SERIAL, "3", {3}, {"web": False, "api": False}),
        (Kind.WORKLOAD, "default/never-issued", set(), {"never-issued": True}),
    ],
)
def test_what_a_revocation_takes_with_it(kind: Kind, name: str, serials: set[int], refused: dict[str, bool]) -> None:
    """A name gets nothing new; a host that joins again is another one, and so is a certificate that is renewed."""
    found = revoke(Revocations(), kind, name, ISSUED, NOW)
    assert {serial for serial, _ in found.entries[0].serials} == serials
    for workload, expected in refused.items():
        assert bool(found.refuses_workload("default", workload)) is expected
        assert bool(found.refuses(_workload(workload), 99)) is expected
    for serial in range(1, 6):
        assert bool(found.refuses(HOST, serial)) is (serial in serials)
    assert load_revocations(dump_revocations(found)) == found
    assert undo(found, kind, name) == Revocations(revised=found.revised)
    assert bool(found.revised) is bool(serials)


def test_what_cannot_be_revoked_or_taken_back() -> None:
    with pytest.raises(IdentityError, match="no certificate of serial number ff"):
        revoke(Revocations(), Kind.SERIAL, "ff", ISSUED, NOW)
    with pytest.raises(IdentityError, match="host h is not revoked"):
        undo(Revocations(), Kind.HOST, "h")
    with pytest.raises(IdentityError, match="replace the root instead"):
        revoke(Revocations(), Kind.HOST, "h", [_one(number) for number in range(LARGEST + 1)], NOW)


def test_lists_shrink_as_certificates_end() -> None:
    """The name of a workload stays revoked; what was said of one certificate ends with it."""
    found = revoke(Revocations(), Kind.WORKLOAD, "default/web", ISSUED, NOW)
    found = revoke(found, Kind.SERIAL, "4", ISSUED, NOW)
    after = found.current(LATER)
    assert [(entry.kind, entry.serials) for entry in after.entries] == [(Kind.WORKLOAD, ())]


def test_a_list_is_signed_by_its_issuer_and_does_not_end_soon(tmp_path: Path) -> None:
    authority = create_authority(tmp_path / "ca", "cluster.local", NOW)
    found = revoke(Revocations(), Kind.WORKLOAD, "default/web", ISSUED, NOW)
    made = x509.load_pem_x509_crl(build_list(authority.issuer, found, NOW, 7))
    public = authority.root.public_key()
    assert made.is_signature_valid(public)  # type: ignore[arg-type]
    assert {entry.serial_number for entry in made} == {1, 2}
    assert made.next_update_utc is not None
    assert made.next_update_utc - NOW > timedelta(days=3000), "one that has ended would refuse everybody"


def test_what_was_issued_is_remembered_until_it_ends(tmp_path: Path) -> None:
    """By whoever signs in that folder, whatever a crash left at the end of the file."""
    authority = create_authority(tmp_path / "ca", "cluster.local", NOW)
    one, other = IssuedLog(tmp_path / "issued"), IssuedLog(tmp_path / "issued")
    for log, name, hours in ((one, "web", 1), (other, "api", 2), (one, "web", 3)):
        issue(authority, _workload(name), tmp_path / "out", now=NOW, lifetime=timedelta(hours=hours), log=log)
    with (tmp_path / "issued" / "issued.jsonl").open("a") as file:
        file.write('["12", "defau')
    assert [found.name for found in one.valid(NOW)] == ["default/web", "default/api", "default/web"]
    assert [found.name for found in latest(other.valid(NOW + timedelta(hours=2)))] == ["default/web"]
    issue(authority, _workload("last"), tmp_path / "out", now=NOW, lifetime=timedelta(hours=9), log=other)
    assert [found.name for found in one.valid(NOW + timedelta(hours=3))] == ["default/last"]
    assert (tmp_path / "issued" / "issued.jsonl").stat().st_mode & 0o777 == 0o600
