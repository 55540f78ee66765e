"""`gossamer ca revoke`: a workload, a host or one certificate, at once where a control plane runs."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from gossamer.ca.ledger import Ledger
from gossamer.ca.revocation import Kind
from gossamer.ca.spiffe import check_host, workload_id
from gossamer.cli.ca_authority import ask_plane
from gossamer.core.errors import UnavailableError, UsageError
from gossamer.plane.revoking import Revoking
from gossamer.sources.state import lock, state_folder


def choose(workload: str, host: str, serial: str) -> tuple[Kind, str]:
    """What is to be revoked, by exactly one of the three. UsageError otherwise."""
    if sum(map(bool, (workload, host, serial))) != 1:
        raise UsageError("name one: NAMESPACE/NAME of a workload, --host NAME, or --serial HEX")
    if host:
        return Kind.HOST, check_host(host)
    if serial:
        digits = serial.replace(":", "").lower().removeprefix("0x").lstrip("0")
        if not digits or not all(digit in "0123456789abcdef" for digit in digits):
            raise UsageError(
                f"{serial!r} is not a serial number: hexadecimal digits, as `openssl x509 -serial` has them"
            )
        return Kind.SERIAL, digits
    namespace, slash, name = workload.partition("/")
    if not slash:
        raise UsageError(f"{workload!r} is not NAMESPACE/NAME (a host is named by --host)")
    workload_id(trust_domain="x", namespace=namespace, service_account="default", name=name)
    return Kind.WORKLOAD, workload


def revoke(state: Path | None, kind: Kind, name: str, *, undo: bool) -> str:
    """Do it; returns what was done, for a person."""
    try:
        body = {"kind": kind.value, "name": name, "undo": undo}
        count = ask_plane(state, "POST", "/v1/ca/revocations", body)["certificates"]
        when = "its certificates are refused now"
    except UnavailableError:
        count = _offline(state_folder(state), kind, name, undo=undo)
        when = "in force when the control plane runs"
    if undo:
        return f"{kind} {name} is revoked no longer"
    return f"{kind} {name} is revoked, with {count} certificate{'' if count == 1 else 's'}: {when}"


def _offline(state: Path, kind: Kind, name: str, *, undo: bool) -> int:
    with lock(state, "control plane"):
        revoking = Revoking(state, Ledger(state / "joined"), lambda: datetime.now(UTC))
        if undo:
            revoking.undo(kind, name)
            return 0
        return len(revoking.revoke(kind, name).serials)
