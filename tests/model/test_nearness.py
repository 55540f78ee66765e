"""Which endpoints are the nearer ones: Istio's documented orders and shares."""

from __future__ import annotations

import pytest

from gossamer.api.destination_rule import (
    Distribute,
    Failover,
    LoadBalancerSettings,
    LocalityLoadBalancerSetting,
    OutlierDetection,
    TrafficPolicy,
    ZoneAwareLoadBalancerSetting,
)
from gossamer.core.frozen import EMPTY, FrozenMap
from gossamer.model.nearness import Nearness, arranged, nearness_of
from gossamer.model.place import NOWHERE, Place, locality_of
from gossamer.model.service import Endpoint, Health
from gossamer.model.settings import MeshSettings

HERE = Place(locality="r1/z1/s1")
MESH = MeshSettings()


def endpoint(locality: str, *, weight: int = 0, health: Health = Health.HEALTHY, **labels: str) -> Endpoint:
    return Endpoint(
        address="10.0.0.1", port=1, locality=locality, weight=weight, health=health, labels=FrozenMap(labels)
    )


def priorities(nearness: Nearness | None, place: Place, *localities: str) -> list[tuple[str, int]]:
    groups = arranged([endpoint(locality) for locality in localities], nearness, place)
    return [(group.locality, group.priority) for group in groups]


RANKED = Nearness(ranked=True)


def test_the_documented_order_of_failover() -> None:
    """Istio's "Locality failover" task: same place, zone, region; then the region named; then the others."""
    nearness = Nearness(ranked=True, failover=(Failover(from_="r1", to="r2"),))
    found = priorities(nearness, HERE, "r3/z4", "r2/z3", "r1/z2", "r1/z1/s2", "r1/z1/s1")
    assert found == [("r1/z1/s1", 0), ("r1/z1/s2", 1), ("r1/z2", 2), ("r2/z3", 3), ("r3/z4", 4)]


def test_priorities_leave_none_out_and_other_regions_are_alike_unless_one_is_named() -> None:
    assert priorities(RANKED, HERE, "r1/z2", "r2/z", "r3/z") == [("r1/z2", 0), ("r2/z", 1), ("r3/z", 1)]
    elsewhere = Nearness(ranked=True, failover=(Failover(from_="r9", to="r2"),))
    assert priorities(elsewhere, HERE, "r2/z", "r3/z") == [("r2/z", 0), ("r3/z", 0)]


def test_a_caller_that_is_nowhere_prefers_nobody() -> None:
    assert priorities(RANKED, NOWHERE, "r1/z1", "r2/z2") == [("r1/z1", 0), ("r2/z2", 0)]


def test_failover_priority_compares_labels_in_their_order() -> None:
    nearness = Nearness(ranked=True, failover_priority=("topology.istio.io/network", "region", "tier=gold"))
    place = Place(network="n1", labels=FrozenMap({"region": "eu"}))
    members = [
        Endpoint(address="a", port=1, network="n1", labels=FrozenMap({"region": "eu", "tier": "gold"})),
        Endpoint(address="b", port=1, network="n1", labels=FrozenMap({"region": "eu", "tier": "tin"})),
        Endpoint(address="c", port=1, network="n1", labels=FrozenMap({"region": "us", "tier": "gold"})),
        Endpoint(address="d", port=1, network="n2", labels=FrozenMap({"region": "eu", "tier": "gold"})),
    ]
    groups = arranged(members, nearness, place)
    assert [(group.priority, group.members[0].address) for group in groups] == [(0, "a"), (1, "b"), (2, "c"), (3, "d")]


def test_a_label_that_neither_has_is_no_match() -> None:
    nearness = Nearness(ranked=True, failover_priority=("zone", "rack"))
    members = [Endpoint(address=a, port=1, labels=FrozenMap(labels)) for a, labels in (("a", {"zone": "z"}), ("b", {}))]
    groups = arranged(members, nearness, Place(labels=FrozenMap({"zone": "z"})))
    assert [(group.priority, group.members[0].address) for group in groups] == [(0, "a"), (1, "b")]


def test_shares_of_localities() -> None:
    rule = Distribute(from_="r1/z1/*", to=FrozenMap({"r1/z1/*": 80, "r2/*": 20}))
    members = [endpoint("r1/z1/a"), endpoint("r1/z1/b", weight=3), endpoint("r2/x"), endpoint("r3/y")]
    groups = arranged(members, Nearness(distribute=(rule,)), HERE)
    assert [(group.locality, group.weight) for group in groups] == [
        *(("r1/z1/a", 2000), ("r1/z1/b", 6000), ("r2/x", 2000)),
    ]
    elsewhere = arranged(members, Nearness(distribute=(rule,)), Place(locality="r9/z"))
    assert [(group.locality, group.weight) for group in elsewhere] == [
        *(("r1/z1/a", None), ("r1/z1/b", None), ("r2/x", None), ("r3/y", None)),
    ]


@pytest.mark.parametrize(
    ("endpoints", "peers", "expected"),
    [
        # as many endpoints as callers, zone by zone: everyone stays at home
        ({"r/a": 3, "r/b": 3}, {"r/a": 1, "r/b": 1}, {"r/a": 1.0, "r/b": 0.0}),
        # half of the callers, a quarter of the endpoints here: half of what they send stays
        ({"r/a": 2, "r/b": 6}, {"r/a": 4, "r/b": 4}, {"r/a": 0.5, "r/b": 0.5}),
        # what is left goes where there are more endpoints than callers
        ({"r/a": 2, "r/b": 2, "r/c": 4}, {"r/a": 2, "r/b": 1, "r/c": 1}, {"r/a": 0.5, "r/b": 0.0, "r/c": 0.5}),
        # too few endpoints: nothing changes
        ({"r/a": 2, "r/b": 3}, {"r/a": 1, "r/b": 1}, None),
    ],
)
def test_zones_share_as_envoys_zone_aware_routing_does(
    endpoints: dict[str, int], peers: dict[str, int], expected: dict[str, float] | None
) -> None:
    members = [endpoint(zone) for zone, count in endpoints.items() for _ in range(count)]
    place = Place(locality="r/a", peers=FrozenMap(peers))
    groups = arranged(members, Nearness(ranked=True, zone_minimum=6), place)
    weights = {group.locality: group.weight for group in groups}
    if expected is None:
        assert set(weights.values()) == {None}
    else:
        assert weights == {zone: round(10_000 * share) for zone, share in expected.items()}


def test_zone_aware_routing_keeps_other_regions_for_when_this_one_fails() -> None:
    nearness = Nearness(ranked=True, zone_minimum=2, failover=(Failover(from_="r", to="s"),))
    groups = arranged([endpoint("t/x"), endpoint("s/x"), endpoint("r/b"), endpoint("r/a")], nearness, NOWHERE)
    assert {group.priority for group in groups} == {0}
    groups = arranged(
        [endpoint("t/x"), endpoint("s/x"), endpoint("r/b"), endpoint("r/a")], nearness, Place(locality="r/a")
    )
    assert [(group.locality, group.priority) for group in groups] == [("r/a", 0), ("r/b", 0), ("s/x", 1), ("t/x", 2)]


LOCALITY = LocalityLoadBalancerSetting
DETECTS = OutlierDetection()


def chosen(
    locality: LocalityLoadBalancerSetting | None = None,
    *,
    detection: OutlierDetection | None = DETECTS,
    zones: ZoneAwareLoadBalancerSetting | None = None,
    mesh: MeshSettings = MESH,
    checked: bool = False,
) -> Nearness | None:
    balancer = LoadBalancerSettings(locality_lb_setting=locality, zone_aware_lb_setting=zones)
    return nearness_of(TrafficPolicy(load_balancer=balancer, outlier_detection=detection), mesh, checked=checked)


def test_failover_needs_something_that_tells_who_is_well() -> None:
    assert chosen() == RANKED, "enabled by default"
    assert chosen(detection=None) is None
    assert chosen(detection=None, checked=True) == RANKED
    assert chosen(detection=None, mesh=MeshSettings(default_outlier_detection=DETECTS)) == RANKED
    share = Distribute(from_="*", to=FrozenMap({"*": 100}))
    assert chosen(LOCALITY(distribute=(share,)), detection=None) == Nearness(distribute=(share,))


def test_a_rules_setting_replaces_the_meshs() -> None:
    mesh = MeshSettings(locality=LOCALITY(failover_priority=("a",), enabled=False))
    assert chosen(mesh=mesh) is None
    assert chosen(LOCALITY(failover_priority=("b",)), mesh=mesh) is None, "what it leaves out is the mesh's to say"
    assert chosen(LOCALITY(enabled=True), mesh=mesh) == RANKED
    assert chosen(LOCALITY(enabled=False)) is None
    ours = MeshSettings(locality=LOCALITY(failover_priority=("a",)))
    assert chosen(mesh=ours) == Nearness(ranked=True, failover_priority=("a",))
    assert chosen(LOCALITY(failover=(Failover(from_="x", to="y"),)), mesh=ours) == Nearness(
        ranked=True, failover=(Failover(from_="x", to="y"),)
    )


def test_zone_aware_routing_is_off_unless_asked_for_and_stands_instead_of_localities() -> None:
    on, off = ZoneAwareLoadBalancerSetting(enabled=True), ZoneAwareLoadBalancerSetting()
    assert chosen(zones=off) is None
    assert chosen(zones=on, detection=None) == Nearness(ranked=True, zone_minimum=6)
    mesh = MeshSettings(zone_aware=ZoneAwareLoadBalancerSetting(enabled=True, min_cluster_size=3))
    assert chosen(mesh=mesh) == Nearness(ranked=True, zone_minimum=3)
    assert chosen(LOCALITY(), mesh=mesh) == RANKED


def test_labels_say_where_a_workload_is() -> None:
    assert locality_of({"istio-locality": "r1.z1.s1"}) == "r1/z1/s1"
    kubernetes = {"topology.kubernetes.io/region": "r", "topology.kubernetes.io/zone": "z"}
    assert locality_of(kubernetes) == "r/z"
    assert locality_of(kubernetes | {"topology.istio.io/subzone": "s"}) == "r/z/s"
    assert locality_of(EMPTY) == ""
