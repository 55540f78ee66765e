"""`gossamer up`: the mesh of one file on this machine, like a compose file; stays in front until it is stopped."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from gossamer.cli.lifecycle import run_until_stopped
from gossamer.cli.local_mesh import LocalMesh, MeshOptions
from gossamer.cli.logs import log_events
from gossamer.cli.mesh_file import OpenedMesh, open_mesh
from gossamer.cli.render import print_diagnostics, texts_of
from gossamer.cli.up_view import show
from gossamer.core.errors import UsageError
from gossamer.sources.state import state_folder

READY_S = 60.0


def command(
    file: Annotated[Path, typer.Option("--file", "-f", help="The mesh's file.")] = Path("gossamer.yaml"),
    state: Annotated[
        Path | None,
        typer.Option(help="Where keys, logs and last configuration are kept; by default one for each file."),
    ] = None,
    capture: Annotated[str, typer.Option(help="How traffic reaches sidecars: auto, transparent, explicit.")] = "auto",
    listen: Annotated[str, typer.Option(help="HOST:PORT of the control plane.")] = "127.0.0.1:0",
    join_listen: Annotated[str, typer.Option(help="HOST:PORT where further hosts join.")] = "127.0.0.1:0",
    lifetime: Annotated[str, typer.Option(help="How long a workload's certificate is valid.")] = "24h",
) -> None:
    """Run control plane, gateways and workloads of one file on this machine; Ctrl-C stops all of it."""
    opened, diagnostics = open_mesh(file)
    if opened is None or diagnostics:
        print_diagnostics(diagnostics, texts_of(diagnostics), file=sys.stderr)
    if opened is None:
        raise typer.Exit(1)
    mesh = local_mesh(
        opened,
        MeshOptions(
            file=file.absolute(),
            state=state or default_state(file),
            capture=capture,
            listen=listen,
            join_listen=join_listen,
            lifetime=lifetime,
        ),
    )
    log_events(logging.ERROR if sys.stderr.isatty() else logging.INFO)
    raise typer.Exit(run_until_stopped(lambda stop: _serve(mesh, opened, stop)))


async def _serve(mesh: LocalMesh, opened: OpenedMesh, stop: asyncio.Event) -> int:
    async with mesh.running(), show(mesh, opened):
        await stop.wait()
    return 0


def local_mesh(opened: OpenedMesh, options: MeshOptions) -> LocalMesh:
    """The mesh of an opened file, not started yet. UsageError when the capture asked for is none."""
    if options.capture not in ("auto", "transparent", "explicit"):
        raise UsageError(f"--capture {options.capture} is none of auto, transparent, explicit")
    return LocalMesh(options, opened)


def default_state(file: Path) -> Path:
    """A state folder of the file's own, so that two meshes run side by side."""
    digest = hashlib.sha256(str(file.absolute()).encode()).hexdigest()[:8]
    return state_folder() / "up" / f"{file.absolute().parent.name}-{digest}"
