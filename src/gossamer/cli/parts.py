"""The processes of the meshes on this host, as each tells of itself over its socket.

Invariant: a process that is away is left out; what is shown of a proxy is the same in every command.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from gossamer.core.errors import UnavailableError
from gossamer.rpc.local import AGENT_SOCKET, PLANE_SOCKET, call
from gossamer.sources.state import runtime_folder, runtime_folders

STATUS: Final = "/v1/status"


def folders(state: Path | None) -> list[Path]:
    """The runtime folders of all meshes of this user, or the one of a state folder."""
    return [runtime_folder(state)] if state else runtime_folders()


def answers(folders: Iterable[Path], socket: str, path: str) -> list[tuple[Path, Any]]:
    """What those who are there say, each with its folder."""
    found = []
    for folder in folders:
        if (folder / socket).exists():
            with contextlib.suppress(UnavailableError):
                found.append((folder, call(folder / socket, "GET", path).json()))
    return found


def proxies_of(folders: Iterable[Path]) -> list[dict[str, Any]]:
    """One row for each proxy that a control plane or an agent on this host knows."""
    known = tuple(folders)
    planes, agents = answers(known, PLANE_SOCKET, STATUS), answers(known, AGENT_SOCKET, STATUS)
    if not planes and not agents:
        raise UnavailableError("no mesh runs on this host; start one with `gossamer up` or `gossamer demo`")
    rows: dict[tuple[Path | None, str], dict[str, Any]] = {}
    for folder, status in planes:
        states = {proxy["name"]: proxy for proxy in status["proxies"]}
        for workload in status["workloads"]:
            name = f"{workload['namespace']}/{workload['name']}"
            rows[folder, name] = _row(name, workload["type"]) | {
                "host": workload["host"],
                "health": workload["health"],
                "capture": workload["capture"],
                "bypassable": workload["bypassable"] and workload["type"] == "sidecar",
                "configuration": states.get(name, {}).get("state", "NOT CONNECTED"),
                "rejections": _rejections(states.get(name, {})),
            }
        for name, proxy in states.items():
            told = {"configuration": proxy["state"], "rejections": _rejections(proxy)}
            rows.setdefault((folder, name), _row(name, "sidecar") | told)
    for folder, status in agents:
        for workload in status["workloads"]:
            name = f"{workload['namespace']}/{workload['name']}"
            row = rows.setdefault((folder, name), _row(name, workload["type"]))
            row["host"] = row["host"] or status["host"]
            row["bypassable"] = status["bypassable"] and workload["type"] == "sidecar"
            row |= {
                key: workload[key] for key in ("envoy", "envoy_version", "application", "problem", "certificate_ends")
            }
    return [rows[key] for key in sorted(rows, key=lambda key: (str(key[0]), key[1]))]


def _row(name: str, type_: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": type_,
        "configuration": "",
        "envoy": "",
        "envoy_version": "",
        "application": "",
        "problem": "",
        "host": "",
        "health": "",
        "capture": "",
        "bypassable": False,
        "certificate_ends": "",
        "rejections": [],
    }


def _rejections(proxy: dict[str, Any]) -> list[dict[str, Any]]:
    return [rejection for part in proxy.get("types", ()) for rejection in part["rejections"]]
