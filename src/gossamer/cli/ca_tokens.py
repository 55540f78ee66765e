"""`gossamer ca tokens` and `gossamer ca withdraw`: the join tokens that were given out, and what became of them.

Invariant: nothing that is shown lets anybody join.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from gossamer.ca.ledger import Ledger
from gossamer.ca.tokens import TokenRecord, TokenUse
from gossamer.cli.render import Output, print_data, print_table
from gossamer.sources.state import state_folder

StateOption = Annotated[Path | None, typer.Option(help="The control plane's state folder.")]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="table, json or yaml.")]


def tokens(state: StateOption = None, output: OutputOption = Output.TABLE) -> None:
    """List the join tokens of the last days: for which host, what they grant, and who used them when."""
    now = datetime.now(UTC)
    ledger = Ledger(state_folder(state) / "joined")
    rows = [_row(record, use, now) for record, use in ledger.tokens()]
    if output is not Output.TABLE:
        print_data(rows, output)
        return
    cells = [
        (
            str(row["id"]),
            str(row["host"]),
            ", ".join(row["grants"]),
            str(row["expires"]),
            str(row["state"]),
            str(row["used"]),
            str(row["address"]),
        )
        for row in rows
    ]
    print_table(("ID", "HOST", "MAY RUN", "EXPIRES", "STATE", "USED", "FROM"), cells)


def withdraw(
    id: Annotated[str, typer.Argument(help="The token's id, as `gossamer ca tokens` shows it.")],
    state: StateOption = None,
) -> None:
    """Let nobody join by a token that has not been used yet."""
    record = Ledger(state_folder(state) / "joined").withdraw_token(id)
    typer.echo(f"the join token {record.id} for host {record.host} is withdrawn", err=True)


def _row(record: TokenRecord, use: TokenUse | None, now: datetime) -> dict[str, str | list[str]]:
    state = "joined" if use else "withdrawn" if record.withdrawn else "expired" if record.expires <= now else "unused"
    return {
        "id": record.id,
        "host": record.host,
        "grants": [str(grant) for grant in record.grants],
        "expires": record.expires.isoformat(timespec="seconds"),
        "state": state,
        "used": use.when.isoformat(timespec="seconds") if use else "",
        "address": use.address if use else "",
    }
