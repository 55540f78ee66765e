"""Asks a running mesh for the facts: its control plane, the agent on this host and its Envoys, and the files.

Invariant: nothing is changed; who does not answer leaves its facts empty.
"""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from gossamer.cli.parts import STATUS, answers
from gossamer.cli.running import RunningMesh, open_running
from gossamer.cli.security.facts import Connections, Facts, members_of
from gossamer.core.errors import GossamerError
from gossamer.rpc.local import AGENT_SOCKET, PLANE_SOCKET, call

_CAPTURED: Final = 15006
_FOR_APPLICATIONS: Final = "spiffe.sock"
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def gather_facts(state: Path | None) -> Facts:
    """The facts of the mesh that runs on this host. Errors as of `open_running`."""
    running = open_running(state)
    plane = call(running.folder / PLANE_SOCKET, "GET", STATUS).json()
    agents = [status for _, status in answers([running.folder], AGENT_SOCKET, STATUS)]
    workloads = [row for status in agents for row in status["workloads"]]
    loose, sockets = own_files(running.folder, running.state)
    return Facts(
        members=members_of(running.cast),
        config=running.inputs.loaded.config,
        settings=running.cast.fleet.mesh.settings,
        index=running.inputs.loaded.index,
        profile=running.profile,
        lifetime=timedelta(seconds=running.lifetime_s),
        plugged=running.plugged,
        plane=plane,
        workloads=workloads,
        now=datetime.now(UTC),
        connections=dict(_connections(running, workloads)),
        loose=loose,
        sockets=sockets,
    )


def _connections(running: RunningMesh, workloads: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, Connections]]:
    """What the sidecars of this host have counted."""
    for row in workloads:
        if row["type"] != "sidecar":
            continue
        with contextlib.suppress(GossamerError):
            name = f"{row['namespace']}/{row['name']}"
            stats = call(running.folder / AGENT_SOCKET, "GET", f"/v1/workloads/{name}/stats?pattern=listener").json()
            yield name, counted_connections(stats, row["mesh_address"], row["mesh_ports"])


def counted_connections(stats: Mapping[str, Any], address: str, ports: Mapping[str, int]) -> Connections:
    """What the inbound listeners of one Envoy have counted."""
    inbound = {f"{address}_{port}" for port in ports.values()}
    inbound |= {f"{any_}_{_CAPTURED}" for any_ in ("0.0.0.0", "[__]")}  # noqa: S104 - names, not bound
    found = {"downstream_cx_total": 0, "ssl.handshake": 0, "ssl.connection_error": 0, "no_filter_chain_match": 0}
    for listener in inbound:
        for counter in found:
            found[counter] += int(stats.get(f"listener.{listener}.{counter}", 0))
    return Connections(
        accepted=found["downstream_cx_total"] - found["ssl.connection_error"],
        mutual=found["ssl.handshake"],
        refused=found["no_filter_chain_match"],
    )


def own_files(runtime: Path, state: Path) -> tuple[tuple[str, ...], int]:
    """What others than its user may use of a mesh's sockets, folders and keys; and how many sockets there are. A socket
    from which applications fetch their own identity is meant for them."""
    sockets = [path for path in sorted(runtime.rglob("*.sock")) if path.name != _FOR_APPLICATIONS]
    keys = sorted(state.rglob("*.pem"))
    return tuple(_loose((runtime, state, *sockets, *keys))), len(sockets)


def _loose(paths: Iterable[Path]) -> Iterator[str]:
    for path in paths:
        with contextlib.suppress(OSError):
            mode = path.lstat().st_mode
            if mode & _OTHERS and not path.is_symlink():
                yield f"{path} is open to others (mode {stat.S_IMODE(mode):o})"
