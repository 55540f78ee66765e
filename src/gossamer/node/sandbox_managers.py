"""Who would start a program outside for whoever asks: they are out of a confined program's sight.

It has the rights of its user over files, so a session's systemd or message bus, a container engine or a terminal
multiplexer would listen to it, and start for it what no sidecar captures. Invariant: this list is of well-known places;
what else runs as the same user and takes orders by a socket is for that user to keep apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

PLACES: Final = (
    "/run/dbus",
    "/run/systemd/private",
    "/run/docker.sock",
    "/run/docker",
    "/run/containerd",
    "/run/crio",
    "/run/podman",
    "/run/libvirt",
    "/run/lxd.socket",
    "/run/snapd.socket",
    "/run/screen",
)
SESSION: Final = ("bus", "systemd", "docker.sock", "docker", "containerd", "podman", "libvirt", "buildkit", "tmux-*")
"""Below `/run/user/UID`."""


def manager_places() -> Iterator[Path]:
    """Those that are there, folders and sockets, links resolved."""
    found = [Path(place) for place in PLACES]
    found += [path for name in SESSION for path in Path("/run/user").glob(f"*/{name}")]
    found += Path("/tmp").glob("tmux-*")  # noqa: S108 - where tmux has its sockets
    for path in found:
        if path.exists():
            yield path.resolve()
