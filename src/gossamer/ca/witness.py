"""What hosts say that they and their Envoys serve, as last heard. It is gone with the control plane: the next one is
told anew by everybody who connects.

Invariant: a host speaks for itself and, of workloads, for those whose names belong to it; who asks names the owner.
"""

from __future__ import annotations

from collections.abc import Callable

from gossamer.ca.rotation import Standing
from gossamer.rpc import gossamer_pb2 as pb

Key = tuple[str, str]
_NOTHING = Standing()


class Witness:
    """Confirmations by host. `heard` is called with each."""

    def __init__(self) -> None:
        self.heard: Callable[[], None] = lambda: None
        self._hosts: dict[str, Standing] = {}
        self._workloads: dict[str, dict[Key, Standing]] = {}

    def confirm(self, host: str, request: pb.ConfirmTrustRequest) -> None:
        """Take what a host says; it replaces what it said before."""
        self._hosts[host] = Standing(trust=request.version, signer=request.signer_key_id)
        self._workloads[host] = {
            (one.workload.namespace, one.workload.name): Standing(trust=one.version, signer=one.signer_key_id)
            for one in request.workloads
        }
        self.heard()

    def host(self, name: str) -> Standing:
        """What a host has confirmed of itself; an empty standing if it was not heard of."""
        return self._hosts.get(name, _NOTHING)

    def workload(self, host: str, key: Key) -> Standing:
        """What a host has confirmed of a workload of its own."""
        return self._workloads.get(host, {}).get(key, _NOTHING)
