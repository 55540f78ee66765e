"""The warden's rules on the host's own network, for processes captured by their user.

Invariant: the rules last as long as the warden: the kernel drops each table with the socket that made it.
"""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path
from typing import Any


class HostRules:
    """By the name of a capture. `runtime` keeps the tables of two meshes apart."""

    def __init__(self, runtime: Path) -> None:
        self._prefix = "gossamer-" + hashlib.sha256(str(runtime).encode()).hexdigest()[:8]
        self._held: dict[str, tuple[dict[str, Any], socket.socket]] = {}

    @property
    def names(self) -> list[str]:
        return sorted(self._held)

    def hold(self, document: dict[str, Any]) -> None:
        """Load the rules of a capture in place of those that it had. OSError if the kernel refuses them."""
        # here, since it is slow to import and rarely needed
        from gossamer.node.capture.nftables import hold_table  # noqa: PLC0415
        from gossamer.node.capture.rules import host_chains  # noqa: PLC0415

        name = document["name"]
        if name in self._held and self._held[name][0] == document:
            return
        if 0 in document["uids"]:
            raise OSError("root cannot be captured: Envoy itself runs as root")
        self.release(name)
        chains = host_chains(
            tuple(document["uids"]),
            tuple(document["ports"]),
            document["outbound_port"],
            document["inbound_port"],
            document["dns_port"],
        )
        self._held[name] = (document, hold_table(f"{self._prefix}-{name}", chains))

    def release(self, name: str) -> None:
        """Drop the rules of a capture; nothing if there are none."""
        held = self._held.pop(name, None)
        if held is not None:
            held[1].close()
