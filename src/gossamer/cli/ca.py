"""`gossamer ca`: the root, certificates into a folder, and join tokens, from the state folder of a control plane."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from gossamer.ca.authority import Authority
from gossamer.ca.issue import create_token, issue
from gossamer.ca.issued import IssuedLog
from gossamer.ca.ledger import Ledger
from gossamer.ca.spiffe import workload_id
from gossamer.ca.tokens import TOKEN_ID
from gossamer.cli import ca_rotate
from gossamer.cli.ca_authority import CaOption, StateOption, TrustDomainOption, read_custody
from gossamer.cli.ca_revoke import choose
from gossamer.cli.ca_revoke import revoke as revoke_it
from gossamer.cli.ca_status import print_status
from gossamer.cli.ca_tokens import OutputOption, tokens, withdraw
from gossamer.cli.durations import load_duration
from gossamer.cli.render import Output, print_data, print_table
from gossamer.sources.state import state_folder

app = typer.Typer(no_args_is_help=True)
app.command()(tokens)
app.command()(withdraw)
app.add_typer(ca_rotate.app, name="rotate", help="Replace the root: start, continue, abort.")


def _open(state: Path | None, ca: Path | None, trust_domain: str) -> Authority:
    """The authority of a mesh: what its control plane uses, where one has run; else its own, made if there is none."""
    return read_custody(state_folder(state), ca, trust_domain).authority(datetime.now(UTC))


@app.command()
def root(state: StateOption = None, ca: CaOption = None, trust_domain: TrustDomainOption = "") -> None:
    """Print the roots that the mesh trusts (PEM), and the fingerprint of the one that join tokens pin."""
    authority = _open(state, ca, trust_domain)
    typer.echo(authority.roots_pem.decode(), nl=False)
    typer.echo(f"SHA-256 {authority.root_fingerprint}", err=True)


@app.command("issue")
def issue_command(
    namespace: Annotated[str, typer.Option(help="The workload's namespace.")],
    service_account: Annotated[str, typer.Option(help="The workload's service account.")],
    workload: Annotated[str, typer.Option(help="The workload's name.")],
    out: Annotated[Path, typer.Option(help="The folder that gets key.pem, cert.pem and root.pem.")],
    lifetime: Annotated[str, typer.Option(help="How long it is valid.")] = "24h",
    state: StateOption = None,
    ca: CaOption = None,
    trust_domain: TrustDomainOption = "",
) -> None:
    """Make a key and a certificate for a workload that no agent looks after."""
    authority = _open(state, ca, trust_domain)
    identity = workload_id(
        trust_domain=authority.trust_domain, namespace=namespace, service_account=service_account, name=workload
    )
    log = IssuedLog(state_folder(state) / "issued")
    issue(authority, identity, out, now=datetime.now(UTC), lifetime=load_duration(lifetime), log=log)
    typer.echo(f"{identity} in {out}", err=True)


@app.command()
def token(
    host: Annotated[str, typer.Option(help="The name that the host gets.")],
    grant: Annotated[
        list[str], typer.Option(help="NAMESPACE/SERVICE-ACCOUNT that the host may run (* for any). May be repeated.")
    ],
    lifetime: Annotated[str, typer.Option(help="How long the token may be used, once.")] = "1h",
    state: StateOption = None,
    ca: CaOption = None,
    trust_domain: TrustDomainOption = "",
) -> None:
    """Print a one-time join token for a host."""
    authority = _open(state, ca, trust_domain)
    made = create_token(
        authority,
        Ledger(state_folder(state) / "joined"),
        host=host,
        grants=grant,
        now=datetime.now(UTC),
        lifetime=load_duration(lifetime),
    )
    typer.echo(made)


@app.command()
def hosts(state: StateOption = None, output: OutputOption = Output.TABLE) -> None:
    """List the hosts that have joined, and what each may run."""
    records = tuple(Ledger(state_folder(state) / "joined").hosts())
    if output is Output.TABLE:
        cells = [
            (
                record.host,
                ", ".join(str(grant) for grant in record.grants),
                record.joined.isoformat(timespec="seconds"),
                record.renewed.isoformat(timespec="seconds"),
                "revoked" if record.revoked else "joined",
                f"{record.attestor}: {record.subject}" if record.attestor else f"token {record.token[:TOKEN_ID]}",
            )
            for record in records
        ]
        print_table(("HOST", "MAY RUN", "JOINED", "RENEWED", "STATE", "BY"), cells)
        return
    rows = [
        {
            "host": record.host,
            "grants": [str(grant) for grant in record.grants],
            "joined": record.joined.isoformat(timespec="seconds"),
            "renewed": record.renewed.isoformat(timespec="seconds"),
            "revoked": record.revoked,
            "attestor": record.attestor,
            "subject": record.subject,
            "token": "" if record.attestor else record.token[:TOKEN_ID],
        }
        for record in records
    ]
    print_data(rows, output)


@app.command()
def revoke(
    workload: Annotated[str, typer.Argument(help="NAMESPACE/NAME of a workload.")] = "",
    host: Annotated[str, typer.Option(help="A host's name, as `gossamer ca hosts` shows it.")] = "",
    serial: Annotated[str, typer.Option(help="The serial number of one certificate.")] = "",
    undo: Annotated[bool, typer.Option("--undo", help="Take it back.")] = False,
    state: StateOption = None,
) -> None:
    """Refuse a workload, a host or one certificate: by the control plane and, from their next connection on, by all
    proxies. A workload gets no new certificate; a host may join again with a new token."""
    kind, name = choose(workload, host, serial)
    typer.echo(revoke_it(state, kind, name, undo=undo), err=True)


@app.command()
def status(state: StateOption = None, output: OutputOption = Output.TABLE) -> None:
    """Show roots, rotation, certificates and what is revoked."""
    print_status(state, output)
