"""`gossamer ca status`: roots, rotation, certificates and revocations, for a person or as data."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer

from gossamer.ca.describe import describe_authority
from gossamer.ca.ledger import Ledger
from gossamer.cli.ca_authority import ask_plane, read_custody
from gossamer.cli.render import Output, print_data, print_table
from gossamer.core.errors import UnavailableError
from gossamer.plane.revoking import Revoking
from gossamer.sources.state import state_folder

_MEANING = {
    "steady": "none under way",
    "distributing": "the new root goes out beside the old one, which signs",
    "signing": "certificates of the root that goes are being replaced",
}


def print_status(state: Path | None, output: Output) -> None:
    """Say how the authority is; from its files while no control plane runs."""
    try:
        status = dict(ask_plane(state, "GET", "/v1/ca"))
        status["running"] = True
    except UnavailableError:
        status = _offline(state_folder(state))
    if output is not Output.TABLE:
        print_data(status, output)
        return
    for line in _lines(status):
        typer.echo(line)
    roots = [(root["role"], root["fingerprint"][:32], root["ends"], root["subject"]) for root in status["roots"]]
    print_table(("ROOT", "SHA-256 (FIRST HALF)", "ENDS", "SUBJECT"), roots)
    if status["federated"]:
        rows = [(row["trust_domain"], str(row["roots"]), row["source"], row["problem"]) for row in status["federated"]]
        print_table(("FOREIGN TRUST DOMAIN", "ROOTS", "FROM", "PROBLEM"), rows)
    if status["revoked"]:
        revoked = [(row["kind"], row["name"], row["since"], str(row["certificates"])) for row in status["revoked"]]
        print_table(("REVOKED", "NAME", "SINCE", "CERTIFICATES"), revoked)


def _offline(state: Path) -> dict[str, Any]:
    now = datetime.now(UTC)
    revoking = Revoking(state, Ledger(state / "joined"), lambda: now)
    status = describe_authority(read_custody(state), revoking.latest.value, revoking.issued.valid(now), now)
    return status | {"problem": "", "federated": [], "running": False}


def _lines(status: dict[str, Any]) -> Iterator[str]:
    rotation, certificates = status["rotation"], status["certificates"]
    yield f"trust domain   {status['trust_domain']}"
    yield f"CA             {status['plugged_in'] or 'our own'}, its certificate ends {status['signer']['ends']}"
    nearest = certificates["nearest"]
    ending = f"; next to end: {nearest['name']}, {nearest['ends']}" if nearest else ""
    yield f"certificates   {certificates['valid']} valid, of {certificates['holders']} holders{ending}"
    back = ", going back" if rotation["reverted"] and rotation["phase"] != "steady" else ""
    yield f"rotation       {rotation['phase']}{back} since {rotation['since']}: {_MEANING[rotation['phase']]}"
    if rotation["awaited"]:
        yield f"awaited        {', '.join(rotation['awaited'])}; refused from {rotation['deadline']}"
    if rotation["refused"]:
        yield f"refused        {', '.join(rotation['refused'])}"
    if status["problem"]:
        yield f"problem        {status['problem']}"
    if not status["running"]:
        yield "control plane  does not run on this host: this is from its files"
