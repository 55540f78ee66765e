"""The names of the mesh's services for an application that nobody redirects: a hosts file of its own.

Invariant: the file stays the same one (an inode): it is mounted over /etc/hosts by what it is and not by its name, so
what is written to it is what a running application finds.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from gossamer.node.sandbox_spawn import HOSTS


def build_hosts(own: str, names: Mapping[str, Iterable[str]]) -> str:
    """The text of a hosts file: the host's `own`, whose names come first, then `names` by their address."""
    lines = own.splitlines()
    for address, known in names.items():
        lines += [f"{address} {name}" for name in known]
    return "\n".join(lines) + "\n"


def write_hosts(path: Path, names: Mapping[str, Iterable[str]]) -> None:
    """Bring the file up to date: what this host's /etc/hosts says, and `names`."""
    own = ""
    with contextlib.suppress(FileNotFoundError):
        own = HOSTS.read_text(encoding="utf-8", errors="surrogateescape")
    content = build_hosts(own, names).encode(errors="surrogateescape")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o644)
    with path.open("r+b") as file:
        if file.read() != content:
            file.seek(0)
            file.write(content)
            file.truncate()
