"""What the Envoys of this host serve by now, and whether the control plane is to be told.

Invariant: a workload is in it by what its Envoy itself says that it has, never by what it was sent.
"""

from __future__ import annotations

import asyncio

from gossamer.ca.spiffe import WorkloadId
from gossamer.rpc import gossamer_pb2 as pb


class Confirmed:
    """By workload: the version of the trust, and the key that signed the certificate, that its Envoy serves."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        """Set while there is something to say."""
        self._served: dict[WorkloadId, tuple[str, str]] = {}

    def serves(self, workload: WorkloadId, version: str, signer_key_id: str) -> None:
        """A workload's Envoy serves these."""
        if self._served.get(workload) != (version, signer_key_id):
            self._served[workload] = (version, signer_key_id)
            self.say()

    def forget(self, workload: WorkloadId) -> None:
        if self._served.pop(workload, None) is not None:
            self.say()

    def say(self) -> None:
        """Let the control plane be told, also what it was told before."""
        self.changed.set()

    def request(self, version: str, signer_key_id: str) -> pb.ConfirmTrustRequest:
        """All of it, with what the host itself has."""
        served = [
            pb.ConfirmedTrust(
                workload=pb.WorkloadKey(namespace=workload.spiffe_id.namespace, name=workload.name),
                version=of_workload,
                signer_key_id=signer,
            )
            for workload, (of_workload, signer) in sorted(self._served.items())
        ]
        return pb.ConfirmTrustRequest(version=version, signer_key_id=signer_key_id, workloads=served)
