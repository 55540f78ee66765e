"""DestinationRules: which one speaks, how several become one, what holds on a port and a subset."""

from __future__ import annotations

from gossamer.core.memo import Memo
from gossamer.model.destinations import DestinationPolicy, destination_for
from gossamer.model.routing import Client
from tests.compile.compiled import build, istio, service

HOST = "reviews.default.svc.cluster.local"


def rule(
    name: str, balancer: str, *, namespace: str = "default", host: str = HOST, more: str = "", at: str = ""
) -> str:
    spec = f"  host: '{host}'\n  trafficPolicy: {{loadBalancer: {{simple: {balancer}}}}}\n{more}"
    created = f', creationTimestamp: "{at}"' if at else ""
    return istio("DestinationRule", name, spec, namespace=namespace, metadata=created)


def chosen(*documents: str, namespace: str = "default") -> DestinationPolicy:
    mesh = build(service("reviews"), *documents).mesh
    (found,) = mesh.services.all
    return destination_for(mesh.destinations, found, Client(namespace=namespace), "istio-system")


def balancer(*documents: str, namespace: str = "default") -> str:
    policy = chosen(*documents, namespace=namespace).policy
    settings = policy.load_balancer if policy else None
    return settings.simple.value if settings and settings.simple else "none"


def test_the_clients_namespace_comes_before_the_services_and_that_before_the_root() -> None:
    mine = rule("mine", "RANDOM", namespace="client")
    services = rule("service", "ROUND_ROBIN")
    root = rule("root", "LEAST_REQUEST", namespace="istio-system")
    assert balancer(mine, services, root, namespace="client") == "RANDOM"
    assert balancer(mine, services, root, namespace="elsewhere") == "ROUND_ROBIN"
    assert balancer(mine, root, namespace="elsewhere") == "LEAST_REQUEST"
    assert balancer(mine, namespace="elsewhere") == "none"


def test_a_rule_that_is_not_exported_speaks_at_home_alone() -> None:
    hidden = rule("hidden", "RANDOM", more="  exportTo: ['.']")
    assert balancer(hidden) == "RANDOM"
    assert balancer(hidden, namespace="client") == "none"


def test_a_rule_that_is_exported_elsewhere_alone_is_not_for_its_own_namespace() -> None:
    lent = rule("lent", "RANDOM", more="  exportTo: [client]")
    assert balancer(lent) == "none"
    assert balancer(lent, namespace="client") == "RANDOM"


def test_the_more_specific_host_wins_and_then_the_older_rule() -> None:
    wild, exact = rule("wild", "RANDOM", host="*.cluster.local"), rule("exact", "ROUND_ROBIN", host="reviews")
    assert balancer(wild, exact) == "ROUND_ROBIN"
    assert balancer(wild) == "RANDOM"
    older = rule("z", "RANDOM", at="2020-01-01T00:00:00Z")
    younger = rule("a", "ROUND_ROBIN", at="2021-01-01T00:00:00Z")
    assert balancer(younger, older) == "RANDOM"


def test_rules_for_one_host_are_merged() -> None:
    first = rule("a", "RANDOM", more="  subsets: [{name: v1, labels: {version: v1}}]")
    second = rule("b", "ROUND_ROBIN", more="  subsets: [{name: v1, labels: {version: other}}, {name: v2, labels: {}}]")
    found = chosen(second, first)
    assert found.policy is not None
    assert found.policy.load_balancer is not None
    assert found.policy.load_balancer.simple == "RANDOM"
    assert [(s.name, dict(s.labels)) for s in found.subsets] == [("v1", {"version": "v1"}), ("v2", {})]
    assert [str(origin) for origin in found.origins] == ["DestinationRule default/a", "DestinationRule default/b"]


LEVELS = """
  host: reviews
  trafficPolicy:
    loadBalancer: {simple: RANDOM}
    connectionPool: {tcp: {maxConnections: 7}}
    portLevelSettings:
    - {port: {number: 80}, loadBalancer: {simple: ROUND_ROBIN}}
  subsets:
  - name: v1
    labels: {version: v1}
    trafficPolicy: {connectionPool: {tcp: {maxConnections: 9}}}
  - name: v2
    labels: {version: v2}
    trafficPolicy:
      portLevelSettings:
      - {port: {number: 80}, loadBalancer: {simple: LEAST_REQUEST}}
"""


def test_levels_of_a_policy() -> None:
    found = chosen(istio("DestinationRule", "levels", LEVELS))

    def at(port: int, subset: str = "") -> tuple[str, int]:
        policy = found.on(port, found.subset(subset))
        tcp = policy.connection_pool.tcp if policy.connection_pool else None
        simple = policy.load_balancer.simple if policy.load_balancer else None
        return (simple.value if simple else "", tcp.max_connections if tcp else 0)

    assert at(81) == ("RANDOM", 7)
    assert at(80) == ("ROUND_ROBIN", 0), "a port's settings stand alone: the rest of the level is gone"
    assert at(81, "v1") == ("RANDOM", 9), "a subset changes what it names"
    assert at(80, "v1") == ("ROUND_ROBIN", 9)
    assert at(80, "v2") == ("LEAST_REQUEST", 0)


def test_nothing_changes_while_nothing_changes() -> None:
    memo = Memo()
    one = build(service("reviews"), rule("a", "RANDOM"), memo=memo).mesh
    other = build(service("reviews"), rule("a", "RANDOM"), service("x"), memo=memo).mesh
    assert one.destinations is other.destinations
