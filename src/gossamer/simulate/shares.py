"""How one caller's load on a cluster spreads over its endpoints now.

Invariant: what Envoy finds out by itself (outlier detection, active checks) counts as far as it is told here.
"""

from __future__ import annotations

from dataclasses import dataclass

from envoy.config.core.v3.health_check_pb2 import HealthStatus

from gossamer.core.resources import Resources
from gossamer.simulate.decode import address_of
from gossamer.simulate.index import Decoder
from gossamer.simulate.load import Candidate, spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """An endpoint's part of the load, from 0 to 1, and its priority (0 is the first)."""

    priority: int
    share: float


def shares_of(
    resources: Resources, cluster: str, left_out: frozenset[tuple[str, int]] = frozenset()
) -> dict[tuple[str, int], Share]:
    """The share of every endpoint of a cluster by address and port; empty where Envoy finds endpoints by itself.
    `left_out` are those that the caller's Envoy has ejected."""
    config = Decoder(resources).cluster(cluster)
    assignment = config.assignment if config is not None else None
    if config is None or assignment is None:
        return {}
    candidates = [Candidate(group, endpoint) for group in assignment.endpoints for endpoint in group.lb_endpoints]
    for candidate in candidates:
        place = address_of(candidate.endpoint.endpoint.address)
        if (place.ip, place.port) in left_out:
            candidate.endpoint.health_status = HealthStatus.UNHEALTHY
    taken = {id(candidate): share for candidate, share in spread(candidates, config.message, assignment.policy)}
    found = {}
    for candidate in candidates:
        place = address_of(candidate.endpoint.endpoint.address)
        share = Share(priority=candidate.group.priority, share=taken.get(id(candidate), 0.0))
        found[(place.ip, place.port)] = share
    return found
