"""What `gossamer up` does once its modules are loaded: reads the file, runs its mesh, shows it."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from gossamer.cli.child import Spare
from gossamer.cli.lifecycle import run_until_stopped
from gossamer.cli.local_mesh import LocalMesh, MeshOptions
from gossamer.cli.logs import log_events
from gossamer.cli.mesh_file import OpenedMesh, open_mesh
from gossamer.cli.render import print_diagnostics, texts_of
from gossamer.cli.up_view import show
from gossamer.core.errors import UsageError
from gossamer.sources.state import state_folder

READY_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the command line asks for."""

    file: Path
    state: Path | None
    capture: str
    listen: str
    join_listen: str
    lifetime: str


def run_mesh(asked: Asked, spares: Mapping[str, Spare]) -> int:
    """Run the mesh until it is stopped; returns the exit code, 1 when its file is no mesh's."""
    opened, diagnostics = open_mesh(asked.file)
    if opened is None or diagnostics:
        print_diagnostics(diagnostics, texts_of(diagnostics), file=sys.stderr)
    if opened is None or not _is_well(opened.attestors):
        return 1
    options = MeshOptions(
        file=asked.file.absolute(),
        state=asked.state or default_state(asked.file),
        capture=asked.capture,
        listen=asked.listen,
        join_listen=asked.join_listen,
        lifetime=asked.lifetime,
    )
    mesh = local_mesh(opened, options, spares)
    log_events(logging.ERROR if sys.stderr.isatty() else logging.INFO)
    return run_until_stopped(lambda stop: _serve(mesh, opened, stop))


def _is_well(attestors: Path | None) -> bool:
    """Whether the file of attestors, if there is one, can be used; what is wrong with it is shown."""
    if attestors is None:
        return True
    from gossamer.api.attestors import load_attestors  # noqa: PLC0415 - most meshes have none

    try:
        text = attestors.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the attestors in {attestors}: {error}") from error
    found, diagnostics = load_attestors(text, str(attestors))
    print_diagnostics(diagnostics, texts_of(diagnostics), file=sys.stderr)
    return found is not None


async def _serve(mesh: LocalMesh, opened: OpenedMesh, stop: asyncio.Event) -> int:
    async with mesh.running(), show(mesh, opened):
        await stop.wait()
    return 0


def local_mesh(opened: OpenedMesh, options: MeshOptions, spares: Mapping[str, Spare] | None = None) -> LocalMesh:
    """The mesh of an opened file, not started yet. UsageError when the capture asked for is none."""
    if options.capture not in ("auto", "transparent", "explicit"):
        raise UsageError(f"--capture {options.capture} is none of auto, transparent, explicit")
    return LocalMesh(replace(options, capture=opened.way(options.capture)), opened, spares or {})


def default_state(file: Path) -> Path:
    """A state folder of the file's own, so that two meshes run side by side."""
    digest = hashlib.sha256(str(file.absolute()).encode()).hexdigest()[:8]
    return state_folder() / "up" / f"{file.absolute().parent.name}-{digest}"
