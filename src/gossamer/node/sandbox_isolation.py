"""What a warden is told at its start, and how it steps into namespaces of its own."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from gossamer.node import sandbox_linux as linux
from gossamer.node.sandbox_networks import Networks
from gossamer.node.sandbox_protocol import MEMORY, NETWORKS


@dataclass(frozen=True, slots=True, kw_only=True)
class WardenSettings:
    """As `sandbox.open_sandbox` writes them; `control` is the descriptor by which the first agent speaks."""

    runtime: Path
    isolation: str
    lifeline: str
    hidden: tuple[Path, ...]
    control: int
    outer_uid: int
    outer_gid: int

    @property
    def memory(self) -> Path:
        return self.runtime / MEMORY

    @property
    def isolated(self) -> bool:
        return self.isolation != "none"


def load_settings(text: str) -> WardenSettings:
    """Settings as `sandbox.open_sandbox` writes them, in JSON."""
    document = json.loads(text)
    return WardenSettings(
        runtime=Path(document["runtime"]).resolve(),
        isolation=document["isolation"],
        lifeline=document["lifeline"],
        hidden=tuple(Path(path).resolve() for path in document["hidden"]),
        control=document["control"],
        outer_uid=os.geteuid(),
        outer_gid=os.getegid(),
    )


def isolate(settings: WardenSettings) -> None:
    """Enter the warden's own namespaces. OSError where this host does not allow it."""
    flags = linux.CLONE_NEWNS | linux.CLONE_NEWPID
    if settings.isolation == "user":
        linux.unshare(flags | linux.CLONE_NEWUSER)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {settings.outer_uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {settings.outer_gid} 1")
    else:
        linux.unshare(flags)
    linux.mount("none", "/", None, linux.MS_SLAVE | linux.MS_REC)
    Networks(settings.runtime / NETWORKS).prepare()
    settings.memory.mkdir(mode=0o700, exist_ok=True)
    linux.mount("gossamer", settings.memory, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=700,size=16m")


def detach(settings: WardenSettings) -> None:
    """Stand apart from the agent's terminal, for a warden that outlives it."""
    os.setsid()
    null = os.open("/dev/null", os.O_RDWR)
    log = os.open(settings.runtime / "warden.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.dup2(log, 2)
