"""Which endpoints a caller is to prefer by where they are: locality load balancing and zone-aware routing.

Istio's rules: `distribute` sets the shares of localities; else endpoints are put into priorities, the nearest first
(by `failoverPriority`, then region, zone, subzone and `failover`), if something tells who is well: outlier detection or
active health checks. A DestinationRule's setting replaces the mesh's as a whole. Invariant: priorities begin at 0 and
leave none out, as Envoy demands.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from gossamer.api.destination_rule import Distribute, Failover, LocalityLoadBalancerSetting, TrafficPolicy
from gossamer.api.destination_rule import ZoneAwareLoadBalancerSetting as ZoneAware
from gossamer.core.frozen import Value
from gossamer.model.place import CLUSTER, NETWORK, NODE, REGION, SUBZONE, ZONE, Asked, Place, parts_of, zone_of
from gossamer.model.service import Distribution, Endpoint, Health
from gossamer.model.settings import MeshSettings

_MIN_CLUSTER_SIZE: Final = 6
_SCALE: Final = 100
"""Of weights of localities: how finely the share of a pattern is divided among the localities that it takes in."""
_REGION_LEVEL: Final = 2
"""How far another zone of the caller's region is; a region that a failover leads to is one farther."""
_SPECIAL: Final = frozenset({REGION, ZONE, SUBZONE, NETWORK, CLUSTER})
"""Labels whose values are a place's own fields."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Nearness(Value):
    """What makes an endpoint the nearer one. `ranked` puts endpoints into priorities; `zone_minimum`, if not 0, is the
    number of endpoints in the caller's region from which zones share the load as Envoy's zone-aware routing does."""

    distribute: tuple[Distribute, ...] = ()
    failover: tuple[Failover, ...] = ()
    failover_priority: tuple[str, ...] = ()
    ranked: bool = False
    zone_minimum: int = 0

    @property
    def weighted(self) -> bool:
        """Whether localities of one priority have weights of their own."""
        return bool(self.distribute or self.zone_minimum)

    @property
    def asked(self) -> Asked:
        """What it asks of the caller's place."""
        names = frozenset(name for name in self.failover_priority if "=" not in name) - _SPECIAL
        return Asked(place=True, labels=names, peers=bool(self.zone_minimum))


def nearness_of(policy: TrafficPolicy, settings: MeshSettings, *, checked: bool) -> Nearness | None:
    """What holds under a policy; None where it does not matter who is near. `checked`: there are active health
    checks."""
    balancer = policy.load_balancer
    locality = balancer.locality_lb_setting if balancer else None
    zones = balancer.zone_aware_lb_setting if balancer else None
    if locality is None and zones is None:
        locality, zones = settings.locality, settings.zone_aware
        if zones is not None and zones.enabled:
            locality = None
    if locality is None and zones is not None:
        return _zone_aware(zones, settings)
    detects = checked or (policy.outlier_detection or settings.default_outlier_detection) is not None
    return _by_locality(locality or LocalityLoadBalancerSetting(), settings, detects=detects)


def preferred(distribution: Distribution) -> Nearness | None:
    """What a service's own word on traffic distribution makes of nearness: same node, then all others alike; or the
    caller's subzone, zone, region before what is farther."""
    match distribution:
        case Distribution.SAME_NODE:
            return Nearness(failover_priority=(NODE,), ranked=True)
        case Distribution.SAME_ZONE:
            return Nearness(ranked=True)
        case Distribution.ANY:
            return None


def _zone_aware(zones: ZoneAware, settings: MeshSettings) -> Nearness | None:
    enabled = zones.enabled
    if enabled is None:
        enabled = bool(settings.zone_aware and settings.zone_aware.enabled)
    if not enabled:
        return None
    return Nearness(
        failover=zones.failover,
        failover_priority=zones.failover_priority,
        ranked=True,
        zone_minimum=zones.min_cluster_size or _MIN_CLUSTER_SIZE,
    )


def _by_locality(locality: LocalityLoadBalancerSetting, settings: MeshSettings, *, detects: bool) -> Nearness | None:
    enabled = locality.enabled
    if enabled is None:
        enabled = settings.locality is None or settings.locality.enabled is not False
    if not enabled:
        return None
    if locality.distribute:
        return Nearness(distribute=locality.distribute)
    if not detects:
        return None
    return Nearness(failover=locality.failover, failover_priority=locality.failover_priority, ranked=True)


@dataclass(slots=True, kw_only=True, eq=False)
class Group:
    """Endpoints of one locality and priority. `weight`: the locality's among those of its priority; None for what its
    endpoints weigh, 0 for no traffic as long as others of the priority have some."""

    locality: str
    priority: int = 0
    weight: int | None = None
    members: list[Endpoint] = field(default_factory=list)

    @property
    def own_weight(self) -> int:
        """The sum of what its endpoints weigh."""
        return sum(max(1, member.weight) for member in self.members)


def arranged(members: Iterable[Endpoint], nearness: Nearness | None, place: Place) -> list[Group]:
    """The endpoints as a caller at `place` is to see them, by priority and locality."""
    if nearness is None:
        return _grouped((0, member) for member in members)
    if nearness.distribute:
        return _distributed(_grouped((0, member) for member in members), nearness.distribute, place)
    found = list(members)
    ranks = [_rank(member, nearness, place) for member in found]
    order = {rank: priority for priority, rank in enumerate(sorted(set(ranks)))}
    groups = _grouped((order[rank], member) for rank, member in zip(ranks, found, strict=True))
    return _zoned(groups, nearness.zone_minimum, place) if nearness.zone_minimum else groups


def _grouped(ranked: Iterable[tuple[int, Endpoint]]) -> list[Group]:
    groups: dict[tuple[int, str], Group] = {}
    for priority, member in ranked:
        key = (priority, member.locality)
        if key not in groups:
            groups[key] = Group(locality=member.locality, priority=priority)
        groups[key].members.append(member)
    return [groups[key] for key in sorted(groups)]


def _distributed(groups: list[Group], rules: tuple[Distribute, ...], place: Place) -> list[Group]:
    """The shares of the first rule for the caller's locality; localities that it does not name get nothing. Without
    such a rule nothing changes."""
    rule = next((rule for rule in rules if _covers(rule.from_, place.locality)), None)
    if rule is None:
        return groups
    left, chosen = list(groups), []
    for pattern, weight in sorted(rule.to.items(), key=lambda item: (-len(item[0]), item[0])):
        taken = [group for group in left if weight and _covers(pattern, group.locality)]
        left = [group for group in left if group not in taken]
        whole = sum(group.own_weight for group in taken)
        for group in taken:
            group.weight = max(1, round(_SCALE * weight * group.own_weight / whole))
        chosen += taken
    return [group for group in groups if group in chosen]


def _covers(pattern: str, locality: str) -> bool:
    """Whether `region/zone/*` and the like take in a locality: `*` is anything, and so is what is left out."""
    wanted, found = pattern.split("/"), parts_of(locality)
    return all(part in ("*", given) for part, given in zip(wanted, found, strict=False))


def _rank(member: Endpoint, nearness: Nearness, place: Place) -> tuple[int, int]:
    """How near an endpoint is, the nearest the least: by labels first, then by locality. `failoverPriority` alone
    leaves localities out of it."""
    by_label = len(nearness.failover_priority) - _labels_matched(member, nearness.failover_priority, place)
    if nearness.failover_priority and not nearness.failover and not nearness.zone_minimum:
        return (by_label, 0)
    level = _distance(member.locality, nearness.failover, place.locality)
    if nearness.zone_minimum:  # zones of a region share: by their weights, not by priority
        level = max(level, _REGION_LEVEL)
    return (by_label, level)


def _distance(locality: str, failover: Sequence[Failover], place: str) -> int:
    here, there = parts_of(place), parts_of(locality)
    if not here[0]:
        return 0
    if here[0] != there[0]:
        ways = [way.to for way in failover if way.from_ == here[0]]
        return _REGION_LEVEL + (1 if not ways or there[0] in ways else 2)
    if here[1] != there[1]:
        return _REGION_LEVEL
    return 0 if here[2] == there[2] else 1


def _labels_matched(member: Endpoint, names: Sequence[str], place: Place) -> int:
    """How many of the labels match, up to the first that does not. `name=value` asks the endpoint alone, `name` that
    caller and endpoint have the same."""
    for count, name in enumerate(names):
        key, written, value = name.partition("=")
        wanted = value if written else _value(key, place)
        if not wanted or _value(key, member) != wanted:
            return count
    return len(names)


def _value(key: str, of: Endpoint | Place) -> str:
    if key in (REGION, ZONE, SUBZONE):
        return parts_of(of.locality)[(REGION, ZONE, SUBZONE).index(key)]
    if key == NETWORK:
        return of.network
    if key == NODE and isinstance(of, Endpoint):
        return of.labels.get(key) or of.node
    return of.cluster if key == CLUSTER else of.labels.get(key, "")


def _zoned(groups: list[Group], minimum: int, place: Place) -> list[Group]:
    """Envoy's zone-aware routing, for the nearest priority: the caller's zone takes its own callers' load as far as its
    part of the endpoints reaches, and zones with more endpoints than callers take the rest."""
    first = [group for group in groups if group.priority == 0]
    counts: dict[str, int] = {}
    for group in first:
        well = sum(member.health is Health.HEALTHY for member in group.members)
        counts[zone_of(group.locality)] = counts.get(zone_of(group.locality), 0) + well
    endpoints, callers = sum(counts.values()), sum(place.peers.values())
    here = zone_of(place.locality)
    if endpoints < minimum or not callers or not counts.get(here) or not place.peers.get(here):
        return groups
    shares = {zone: count / endpoints for zone, count in counts.items()}
    demand = {zone: count / callers for zone, count in place.peers.items()}
    local = min(1.0, shares[here] / demand[here])
    room = {zone: max(0.0, share - demand.get(zone, 0.0)) for zone, share in shares.items() if zone != here}
    total = sum(room.values())
    parts = {zone: (1 - local) * part / total if total else 0.0 for zone, part in room.items()} | {here: local}
    for group in first:
        in_zone = sum(other.own_weight for other in first if zone_of(other.locality) == zone_of(group.locality))
        group.weight = round(_SCALE * _SCALE * parts[zone_of(group.locality)] * group.own_weight / in_zone)
    return groups
