"""The warden's network namespaces: files in a folder that only its own mount namespace fills.

Invariant: a namespace lives by that file and by the processes in it; when the warden's mount namespace goes, so does
the file, and nothing has to be cleaned up.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Final

from gossamer.node import sandbox_linux as linux
from gossamer.node.sandbox_spawn import close_all_but, fork, resolver_configuration

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,200}")


class Networks:
    """By name. `names` are those that are complete."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.names: set[str] = set()

    def prepare(self) -> None:
        """Mount the folder; called once, in the warden's own mount namespace."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        linux.mount("gossamer", self._folder, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=700,size=1m")
        # children have mount namespaces of their own: what is let go of here must not live on in theirs
        linux.mount("none", self._folder, None, linux.MS_SHARED)

    def path(self, name: str) -> Path:
        return self._folder / name

    def resolver(self, name: str) -> Path:
        """The resolv.conf for programs in this namespace."""
        return self._folder / f"{name}.resolv_conf"

    def preload(self) -> None:
        """Import what building needs (a third of a second), so that each child that builds finds it there."""
        import gossamer.node.capture.namespace  # noqa: F401, PLC0415

    def begin(self, document: dict[str, Any]) -> int:
        """Start to build a namespace. Returns a descriptor: empty when it ends, or the reason of a failure."""
        self.preload()
        name = document["name"]
        if not _NAME.fullmatch(name):
            raise OSError(f"{name!r} is no name for a network: letters, digits, dots and hyphens")
        self.path(name).touch(mode=0o600)
        self.resolver(name).write_text(resolver_configuration(tuple(document["search"])))
        self.resolver(name).chmod(0o444)
        reader, writer = os.pipe2(os.O_CLOEXEC)
        fork(lambda: self._build(document, writer))
        os.close(writer)
        return reader

    def _build(self, document: dict[str, Any], report: int) -> None:
        from gossamer.node.capture.namespace import build_network  # noqa: PLC0415

        close_all_but(report)
        try:
            linux.unshare(linux.CLONE_NEWNET)
            build_network(document)
            linux.mount("/proc/self/ns/net", self.path(document["name"]), None, linux.MS_BIND)
        except Exception as error:
            os.write(report, f"no network namespace for {document['name']}: {error}".encode())
        os._exit(0)

    def remove(self, name: str) -> None:
        """Forget a namespace; it ends with the last process in it."""
        if name in self.names:
            linux.unmount(self.path(name))
        self.names.discard(name)
        self.path(name).unlink(missing_ok=True)
        self.resolver(name).unlink(missing_ok=True)
