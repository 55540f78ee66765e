"""What the agent and its warden must agree on. Imports nothing, so that the warden starts fast."""

from __future__ import annotations

from typing import Final

PROTOCOL: Final = 1
"""Raised when the requests change: an agent does not adopt a warden that speaks another."""
SOCKET: Final = "warden.sock"
NETWORKS: Final = "netns"
"""Folder of the workloads' network namespaces; filled only in the warden's own mount namespace."""
MEMORY: Final = "shm"
"""Folder that Envoys have for /dev/shm, where those that follow each other share a lock: no application sees it."""
