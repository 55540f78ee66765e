"""Who counts in a rotation, and what each has confirmed: every host that may connect, every workload with a live lease.

Invariant: a workload of a host is believed of that host alone.
"""

from __future__ import annotations

from datetime import datetime

from gossamer.ca.authority import Lifetimes
from gossamer.ca.issued import Issued, latest
from gossamer.ca.ledger import Ledger
from gossamer.ca.rotation import Standing
from gossamer.ca.witness import Witness
from gossamer.sources.registry import Condition, Registry


def view_standings(
    ledger: Ledger, registry: Registry, witness: Witness, now: datetime, lifetimes: Lifetimes
) -> dict[str, Standing]:
    """By name: `host NAME` for those that joined, were not revoked and whose certificate has not ended, and
    `NAMESPACE/NAME` for workloads."""
    found = {
        f"host {record.host}": witness.host(record.host)
        for record in ledger.hosts()
        if not record.revoked and record.renewed + (record.lifetime or lifetimes.host) > now
    }
    for key, entry in registry.snapshot.items():
        if entry.condition is not Condition.LOST:
            found["/".join(key)] = witness.workload(entry.host, key)
    return found


def by_hand(issued: list[Issued], trust: str) -> dict[str, Standing]:
    """Certificates of `gossamer ca issue` that have not ended: nobody but who made them can replace them, and they
    trust what they were given, as far as anybody knows."""
    return {
        f"{one.name} (gossamer ca issue)": Standing(trust=trust, signer=one.signer)
        for one in latest(issued)
        if not one.host
    }
