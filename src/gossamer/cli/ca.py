"""`gossamer ca`: the root, certificates into a folder, and join tokens, from the state folder of a control plane."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from gossamer.ca.authority import Authority
from gossamer.ca.folder import load_authority, open_authority
from gossamer.ca.issue import create_token, issue
from gossamer.ca.ledger import Ledger
from gossamer.ca.spiffe import workload_id
from gossamer.sources.state import state_folder


def open_folder(state: Path | None, ca: Path | None, trust_domain: str) -> Authority:
    """The authority of a plugged-in CA folder, else the one in the state folder (made if there is none)."""
    now = datetime.now(UTC)
    if ca is not None:
        return load_authority(ca, trust_domain, now)
    return open_authority(state_folder(state) / "ca", trust_domain, now)


def root(authority: Authority) -> str:
    """The roots that the mesh trusts, PEM."""
    return authority.roots_pem.decode()


def issue_into(
    authority: Authority, folder: Path, *, namespace: str, service_account: str, workload: str, lifetime: timedelta
) -> None:
    """Write key.pem, cert.pem and root.pem of one workload into the folder."""
    identity = workload_id(
        trust_domain=authority.trust_domain, namespace=namespace, service_account=service_account, name=workload
    )
    issue(authority, identity, folder, now=datetime.now(UTC), lifetime=lifetime)


def token(authority: Authority, state: Path | None, *, host: str, grants: list[str], lifetime: timedelta) -> str:
    """A new one-time join token for a host."""
    ledger = Ledger(state_folder(state) / "joined")
    return create_token(authority, ledger, host=host, grants=grants, now=datetime.now(UTC), lifetime=lifetime)
