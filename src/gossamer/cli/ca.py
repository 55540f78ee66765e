"""`gossamer ca`: the root, certificates into a folder, and join tokens, from the state folder of a control plane."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from gossamer.ca.authority import Authority
from gossamer.ca.folder import load_authority, open_authority
from gossamer.ca.issue import create_token, issue
from gossamer.ca.ledger import Ledger
from gossamer.ca.spiffe import workload_id
from gossamer.ca.tokens import TOKEN_ID
from gossamer.cli.ca_tokens import OutputOption, StateOption, tokens, withdraw
from gossamer.cli.durations import load_duration
from gossamer.cli.render import Output, print_data, print_table
from gossamer.sources.state import load_document, state_folder

app = typer.Typer(no_args_is_help=True)
app.command()(tokens)
app.command()(withdraw)
CaOption = Annotated[Path | None, typer.Option(help="The plugged-in CA folder, where one is used.")]
TrustDomainOption = Annotated[str, typer.Option(help="The trust domain, before a control plane has run there.")]


def _open(state: Path | None, ca: Path | None, trust_domain: str) -> Authority:
    """The authority of a mesh: what its control plane uses, where one has run; else its own, made if there is none."""
    now = datetime.now(UTC)
    folder = state_folder(state)
    known = load_document(folder / "mesh.json", 1)
    mesh = known[1] if known else {}
    trust_domain = trust_domain or mesh.get("trust_domain", "cluster.local")
    ca = ca or (Path(mesh["ca"]) if mesh.get("ca") else None)
    if ca is not None:
        return load_authority(ca, trust_domain, now)
    return open_authority(folder / "ca", trust_domain, now)


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
    issue(authority, identity, out, now=datetime.now(UTC), lifetime=load_duration(lifetime))
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
    host: Annotated[str, typer.Argument(help="The host's name, as `gossamer ca hosts` shows it.")],
    state: StateOption = None,
) -> None:
    """Let a host register and ask for nothing more. Certificates that it has end with their lifetime."""
    Ledger(state_folder(state) / "joined").revoke_host(host)
    typer.echo(f"{host} is revoked", err=True)
