"""Where `gossamer ca` finds a mesh's authority: its control plane while one runs, else the files that it left."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from gossamer.ca.custody import Custody, open_custody
from gossamer.core.errors import UnavailableError
from gossamer.rpc.local import PLANE_SOCKET, call
from gossamer.sources.state import load_document, runtime_folder, state_folder

StateOption = Annotated[Path | None, typer.Option(help="The control plane's state folder.")]
CaOption = Annotated[Path | None, typer.Option(help="The plugged-in CA folder, where one is used.")]
TrustDomainOption = Annotated[str, typer.Option(help="The trust domain, before a control plane has run there.")]


def read_custody(state: Path, ca: Path | None = None, trust_domain: str = "") -> Custody:
    """What the mesh of a state folder signs with: as its control plane left it, else its own CA, made if there is
    none."""
    known = load_document(state / "mesh.json", 1)
    mesh = known[1] if known else {}
    ca = ca or (Path(mesh["ca"]) if mesh.get("ca") else None)
    return open_custody(state, ca, trust_domain or mesh.get("trust_domain", "cluster.local"), datetime.now(UTC))


def ask_plane(state: Path | None, method: str, path: str, body: Any = None) -> Any:
    """What the control plane answers. UnavailableError if none runs, GossamerError if it refuses."""
    socket = runtime_folder(state_folder(state)) / PLANE_SOCKET
    if not socket.exists():
        raise UnavailableError(
            f"no control plane runs on this host for {state_folder(state)}: start it, or give --state"
        )
    return call(socket, method, path, body=body).json()
