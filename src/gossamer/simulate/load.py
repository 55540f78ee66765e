"""How a cluster's load spreads over its endpoints.

Invariant: the shares add up to one unless there is nobody to take them. Priorities and panic follow Envoy's documents
("Priority levels", "Panic threshold"); zone-aware routing, which depends on the caller's peers, is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.health_check_pb2 import HealthStatus
from envoy.config.endpoint.v3.endpoint_components_pb2 import LbEndpoint, LocalityLbEndpoints
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment

from gossamer.simulate.decode import short_type

_PANIC_BELOW: Final = 50.0
_OVERPROVISIONING: Final = 140
_HEALTHY: Final = frozenset({HealthStatus.UNKNOWN, HealthStatus.HEALTHY})


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """An endpoint and the locality that it is in."""

    group: LocalityLbEndpoints
    endpoint: LbEndpoint

    @property
    def healthy(self) -> bool:
        return self.endpoint.health_status in _HEALTHY

    @property
    def usable(self) -> bool:
        return self.healthy or self.endpoint.health_status == HealthStatus.DEGRADED

    @property
    def weight(self) -> int:
        given = self.endpoint.HasField("load_balancing_weight")
        return self.endpoint.load_balancing_weight.value if given else 1


Shares = list[tuple[Candidate, float]]


def spread(candidates: list[Candidate], cluster: Cluster, policy: ClusterLoadAssignment.Policy) -> Shares:
    """The endpoints that get something, with their parts of the load."""
    given = policy.overprovisioning_factor
    factor = (given.value if policy.HasField("overprovisioning_factor") else _OVERPROVISIONING) / 100
    levels: dict[int, list[Candidate]] = {}
    for candidate in candidates:
        levels.setdefault(candidate.group.priority, []).append(candidate)
    availability = {level: _availability(members, factor) for level, members in levels.items()}
    panics = sum(availability.values()) < 1
    shares: Shares = []
    for level, load in sorted(_loads(availability, levels).items()):
        members = _takers(levels[level], cluster, panics=panics)
        shares += [(candidate, share * load) for candidate, share in _within(members, cluster, factor)]
    total = sum(share for _, share in shares)
    return [(candidate, round(share / total, 6)) for candidate, share in shares if share] if total else []


def _availability(members: list[Candidate], factor: float) -> float:
    """How much of the load these can take, from 0 to 1."""
    if not members:
        return 0.0
    return min(1.0, factor * sum(candidate.usable for candidate in members) / len(members))


def _loads(availability: dict[int, float], levels: dict[int, list[Candidate]]) -> dict[int, float]:
    """The part of the load that goes to each priority: each takes what it can of what those before it left."""
    total = min(1.0, sum(availability.values()))
    if not total:  # nobody is healthy: panic everywhere, by number of endpoints
        everyone = sum(len(members) for members in levels.values())
        return {level: len(members) / everyone for level, members in levels.items()} if everyone else {}
    left, loads = 1.0, {}
    for level in sorted(availability):
        loads[level] = min(left, availability[level] / total)
        left -= loads[level]
    return loads


def _takers(members: list[Candidate], cluster: Cluster, *, panics: bool) -> list[Candidate]:
    """The healthy ones (the degraded ones if there are none), or all in a panic, which is where all priorities
    together cannot take the load and too few of this one are well."""
    common = cluster.common_lb_config
    threshold = common.healthy_panic_threshold.value if common.HasField("healthy_panic_threshold") else _PANIC_BELOW
    healthy = [candidate for candidate in members if candidate.healthy]
    usable = [candidate for candidate in members if candidate.usable]
    if panics and members and 100 * len(usable) / len(members) < threshold:
        return members
    return healthy or usable


def _within(members: list[Candidate], cluster: Cluster, factor: float) -> Shares:
    """Each one's share of its priority's load."""
    if not _weighs_localities(cluster):
        total = sum(candidate.weight for candidate in members)
        return [(candidate, candidate.weight / total) for candidate in members] if total else []
    groups: dict[int, list[Candidate]] = {}
    for candidate in members:
        groups.setdefault(id(candidate.group), []).append(candidate)
    weights = {
        key: found[0].group.load_balancing_weight.value
        * min(1.0, factor * len(found) / max(1, len(found[0].group.lb_endpoints)))
        for key, found in groups.items()
    }
    everything = sum(weights.values())
    if not everything:  # the localities with weights have nobody left: Envoy takes whoever is well
        total = sum(candidate.weight for candidate in members)
        return [(candidate, candidate.weight / total) for candidate in members] if total else []
    shares: Shares = []
    for key, found in groups.items():
        total = sum(candidate.weight for candidate in found)
        if total:
            shares += [(c, weights[key] / everything * c.weight / total) for c in found]
    return shares


def _weighs_localities(cluster: Cluster) -> bool:
    """Whether localities have weights of their own: by the cluster's settings, or by its load-balancing policy's."""
    if cluster.common_lb_config.HasField("locality_weighted_lb_config"):
        return True
    policies = cluster.load_balancing_policy.policies[:1]
    return any(short_type(policy.typed_extension_config.typed_config) == "WrrLocality" for policy in policies)
