"""`gossamer ca rotate`: replace the key that signs, without a certificate that somebody does not trust."""

from __future__ import annotations

from typing import Annotated

import typer

from gossamer.cli.ca_authority import StateOption, ask_plane
from gossamer.cli.durations import load_duration

app = typer.Typer(no_args_is_help=True)
_PATH = "/v1/ca/rotation"


@app.command()
def start(
    patience: Annotated[
        str,
        typer.Option(help="How long each step waits for hosts and proxies that do not answer, before refusing them."),
    ] = "24h",
    state: StateOption = None,
) -> None:
    """Begin to replace the root: distribute a new one, sign with it once all trust it, then retire the old one.

    It goes on by itself, and through restarts; `gossamer ca status` shows where it is. With a plugged-in CA a rotation
    begins by itself when the folder's files are replaced.
    """
    body = {"action": "start", "patience_s": load_duration(patience).total_seconds()}
    phase = ask_plane(state, "POST", _PATH, body)["phase"]
    typer.echo(f"the rotation has begun ({phase}); gossamer ca status shows how it goes", err=True)


@app.command("continue")
def go_on(state: StateOption = None) -> None:
    """Wait no longer for those that are awaited: once the old root is retired they must join again."""
    said = ask_plane(state, "POST", _PATH, {"action": "continue"})
    typer.echo(f"refused: {', '.join(said['refused'])}; now {said['phase']}", err=True)


@app.command()
def abort(state: StateOption = None) -> None:
    """Go back to the old root, which works until it is retired. What the new one signed is replaced first."""
    phase = ask_plane(state, "POST", _PATH, {"action": "abort"})["phase"]
    typer.echo(
        "the old root signs again" + (", certificates are being replaced" if phase == "signing" else ""), err=True
    )
