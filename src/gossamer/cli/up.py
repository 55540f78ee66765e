"""`gossamer up`: the mesh of one file on this machine, like a compose file; stays in front until it is stopped.

Control plane and agent are started first, as spares: they load their modules while we load ours and read the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gossamer.cli.child import Spare
from gossamer.cli.durations import LifetimeOption


def command(
    file: Annotated[Path, typer.Option("--file", "-f", help="The mesh's file.")] = Path("gossamer.yaml"),
    state: Annotated[
        Path | None,
        typer.Option(help="Where keys, logs and last configuration are kept; by default one for each file."),
    ] = None,
    capture: Annotated[str, typer.Option(help="How traffic reaches sidecars: auto, transparent, explicit.")] = "auto",
    listen: Annotated[str, typer.Option(help="HOST:PORT of the control plane.")] = "127.0.0.1:0",
    join_listen: Annotated[str, typer.Option(help="HOST:PORT where further hosts join.")] = "127.0.0.1:0",
    lifetime: LifetimeOption = "",
) -> None:
    """Run control plane, gateways and workloads of one file on this machine; Ctrl-C stops all of it."""
    spares = {name: Spare(name) for name in ("control-plane", "agent")} if file.is_file() else {}
    try:
        from gossamer.cli.up_mesh import Asked, run_mesh  # noqa: PLC0415 - takes as long as the spares take

        asked = Asked(
            file=file, state=state, capture=capture, listen=listen, join_listen=join_listen, lifetime=lifetime
        )
        raise typer.Exit(run_mesh(asked, spares))
    finally:
        for spare in spares.values():
            spare.dismiss()
