"""A step of a migration in a file, and what the mesh makes of it.

Invariant: no file is changed but one that is new, or that holds such a step and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import typer

from gossamer.cli.authz_migrate import STRICT, marker
from gossamer.cli.authz_seen import Peer, SeenMesh, moment
from gossamer.core.errors import GossamerError
from gossamer.sources.seen import Verdict

_PAUSE_S: Final = 0.5


def write_step(path: Path, text: str, namespace: str, peer: Peer | None) -> None:
    """Write the step. GossamerError where it would change what somebody else wrote, or contradict it."""
    if peer is not None and Path(peer.file).resolve() != path.resolve():
        mode = text.rpartition("mode: ")[2].strip("}\n")
        raise GossamerError(
            f"PeerAuthentication {peer.namespace}/{peer.name} speaks for {namespace} already and stands in "
            f"{peer.file}:{peer.line}; write mode: {mode} there"
        )
    try:
        before = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
        return
    if before.partition("\n")[0] != marker(namespace) or before.count("\n") != text.count("\n"):
        raise GossamerError(f"{path} holds more than a step of {namespace}; name a file that is not there yet")
    path.write_text(text, encoding="utf-8")


def follow_step(ask: Callable[[], SeenMesh], namespace: str, mode: str, began: float, until: float) -> None:
    """Look until the mesh has taken the step and then for the rest of the time; typer.Exit(1) if it did not, or if
    somebody was refused."""
    taken = False
    refused: list[str] = []
    while True:
        mesh = ask()
        members = [
            one
            for one in mesh.workloads
            if not one.gateway and one.running and namespace in (one.namespace, mesh.root_namespace)
        ]
        taken = any(peer.mode == mode for peer in mesh.peers if peer.namespace == namespace and not peer.selector)
        refused = [
            f"{row.who} to {member.key} port {row.port}, last {moment(row.last)}"
            for member in members
            for row in member.rows
            if row.verdict == Verdict.REFUSED and row.last >= began
        ]
        if time.monotonic() >= until or refused or (taken and mode != STRICT):
            break
        time.sleep(_PAUSE_S)
    if not taken:
        raise GossamerError("the control plane has not read it; is the file in a folder of its configuration?")
    if mode != STRICT:
        typer.echo(f"{namespace} takes plaintext again.")
        return
    for line in refused:
        typer.echo(f"refused: {line}", err=True)
    if refused:
        typer.echo(f"Back: gossamer authz migrate {namespace} --back --write FILE", err=True)
        raise typer.Exit(1)
    typer.echo(f"{namespace} is {mode}, and nobody was refused so far.")
