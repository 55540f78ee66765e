"""`gossamer endpoints`: who answers for a service, and why an endpoint gets traffic or none."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from gossamer.cli.parts import folders
from gossamer.cli.proxy import OutputOption, StateOption
from gossamer.cli.render import Output, print_data, print_table
from gossamer.cli.words import rounded
from gossamer.core.errors import GossamerError, UnavailableError
from gossamer.rpc.local import PLANE_SOCKET, call

_COLUMNS = ("ENDPOINT", "PORT", "WORKLOAD", "LOCALITY", "STATE", "WHY", "AGE")


def command(
    service: Annotated[str, typer.Argument(help="NAME, NAME.NAMESPACE or a full hostname.")],
    caller: Annotated[
        str, typer.Option("--from", help="As this workload sees it: NAMESPACE/NAME, or the name alone.")
    ] = "",
    state: StateOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Say of each endpoint of a service whether it is in load balancing, why, and for how long."""
    rows = _ask(service, caller, state)
    if output is not Output.TABLE:
        print_data(rows, output)
        return
    print_table(_COLUMNS, [_cells(row) for row in rows])
    if not rows:
        typer.echo(f"{service} has no endpoints.")


def _ask(service: str, caller: str, state: Any) -> list[dict[str, Any]]:
    """What the first control plane of this host says that has the service."""
    query = urlencode({"service": service, "from": caller})
    refusal: GossamerError | None = None
    for folder in folders(state):
        try:
            rows: list[dict[str, Any]] = call(folder / PLANE_SOCKET, "GET", f"/v1/endpoints?{query}").json()
        except UnavailableError:
            continue
        except GossamerError as error:
            refusal = error
            continue
        return rows
    raise refusal or UnavailableError("no control plane answers on this host; is the mesh running?")


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        row["address"],
        str(row["port"]),
        row.get("workload", ""),
        row.get("locality", ""),
        row["state"],
        "; ".join(row["why"]),
        rounded(row["age_s"]),
    )
