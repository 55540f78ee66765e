"""Which policies apply to a workload, and what they say."""

from __future__ import annotations

import time

import pytest

from gossamer.api.authorization_policy import (
    Action,
    AuthorizationPolicy,
    Condition,
    From,
    Operation,
    Rule,
    Source,
    To,
)
from gossamer.api.common import PolicyTargetReference, WorkloadSelector
from gossamer.api.peer_authentication import MutualTLS, MutualTLSMode, PeerAuthentication
from gossamer.api.resource import Resource
from gossamer.core.frozen import FrozenMap
from gossamer.core.ids import Origin, ResourceId
from gossamer.core.memo import Memo
from gossamer.model.build_policies import GATEWAY_NAME, PolicyIndex, build_policies
from gossamer.model.policy import MutualTls, PeerPolicy, SelectedPolicy, WorkloadPolicies
from gossamer.model.policy_match import Call, HttpCall, decide, matches
from gossamer.model.settings import MeshSettings

SETTINGS = MeshSettings()
APP = FrozenMap({"app": "reviews", "version": "v1"})


def selector(**labels: str) -> WorkloadSelector:
    return WorkloadSelector(match_labels=FrozenMap(labels))


def peer(
    namespace: str,
    name: str,
    mode: MutualTLSMode,
    selects: WorkloadSelector | None = None,
    ports: dict[int, MutualTLSMode] | None = None,
    *,
    creation: str = "",
    fail_closed: bool = False,
) -> Resource[PeerAuthentication]:
    spec = PeerAuthentication(
        selector=selects,
        mtls=MutualTLS(mode=mode),
        port_level_mtls=FrozenMap({port: MutualTLS(mode=of_port) for port, of_port in (ports or {}).items()}),
    )
    identity = ResourceId(kind="PeerAuthentication", namespace=namespace, name=name)
    return Resource(id=identity, spec=spec, creation=creation, fail_closed=fail_closed)


def authorization(
    namespace: str, name: str, spec: AuthorizationPolicy, *, fail_closed: bool = False
) -> Resource[AuthorizationPolicy]:
    identity = ResourceId(kind="AuthorizationPolicy", namespace=namespace, name=name)
    return Resource(id=identity, spec=spec, fail_closed=fail_closed)


def peer_of(*peers: Resource[PeerAuthentication], namespace: str = "default") -> PeerPolicy:
    return build_policies(SETTINGS, (), peers).for_workload(namespace, APP, Memo()).peer


STRICT, PERMISSIVE, DISABLE, UNSET = (
    MutualTLSMode.STRICT,
    MutualTLSMode.PERMISSIVE,
    MutualTLSMode.DISABLE,
    MutualTLSMode.UNSET,
)


def test_without_policy_a_port_is_permissive() -> None:
    assert peer_of() == PeerPolicy(default=MutualTls.PERMISSIVE)


def test_the_narrower_level_wins() -> None:
    mesh = peer("istio-system", "mesh", STRICT)
    namespace = peer("default", "default", DISABLE)
    workload = peer("default", "reviews", PERMISSIVE, selector(app="reviews"), {9080: STRICT, 9090: UNSET})
    assert peer_of(mesh).default is MutualTls.STRICT
    assert peer_of(mesh, namespace).default is MutualTls.DISABLE
    assert peer_of(mesh, namespace, namespace="other").default is MutualTls.STRICT
    merged = peer_of(mesh, namespace, workload)
    assert (merged.default, merged.on(9080), merged.on(9090), merged.on(1)) == (
        MutualTls.PERMISSIVE,
        MutualTls.STRICT,
        MutualTls.PERMISSIVE,
        MutualTls.PERMISSIVE,
    )
    assert [origin.resource.name for origin in merged.origins] == ["mesh", "default", "reviews"]


def test_unset_inherits_and_ports_need_a_selector() -> None:
    namespace = peer("default", "default", UNSET, ports={9080: DISABLE})
    merged = peer_of(peer("istio-system", "mesh", STRICT), namespace)
    assert (merged.default, merged.on(9080)) == (MutualTls.STRICT, MutualTls.STRICT)


def test_the_oldest_wins_but_one_that_fails_closed_wins_first() -> None:
    old = peer("default", "b", DISABLE, creation="2024-01-01T00:00:00Z")
    new = peer("default", "a", PERMISSIVE, creation="2025-01-01T00:00:00Z")
    broken = peer("default", "c", STRICT, creation="2026-01-01T00:00:00Z", fail_closed=True)
    assert peer_of(new, old).default is MutualTls.DISABLE
    assert peer_of(new, old, broken).default is MutualTls.STRICT


def test_a_selector_in_the_root_namespace_selects_in_all() -> None:
    everywhere = peer("istio-system", "reviews", DISABLE, selector(app="reviews"))
    assert peer_of(everywhere).default is MutualTls.DISABLE
    assert peer_of(peer("elsewhere", "reviews", DISABLE, selector(app="reviews"))).default is MutualTls.PERMISSIVE


def allowing(selects: WorkloadSelector | None = None, action: Action = Action.ALLOW) -> AuthorizationPolicy:
    return AuthorizationPolicy(selector=selects, action=action, rules=(Rule(),))


def names(policies: tuple[SelectedPolicy, ...]) -> list[str]:
    return [f"{policy.namespace}/{policy.name}" for policy in policies]


def test_selection_by_namespace_and_labels_in_order() -> None:
    index = build_policies(
        SETTINGS,
        [
            authorization("default", "z", allowing()),
            authorization("default", "a", allowing(selector(app="reviews", version="v1"))),
            authorization("default", "other-version", allowing(selector(app="reviews", version="v2"))),
            authorization("elsewhere", "b", allowing()),
            authorization("istio-system", "m", allowing(selector(app="reviews"))),
            authorization("default", "d", allowing(action=Action.DENY)),
        ],
        (),
    )
    found = index.for_workload("default", APP, Memo())
    assert names(found.allow) == ["istio-system/m", "default/a", "default/z"]
    assert names(found.deny) == ["default/d"]
    assert index.for_workload("nowhere", FrozenMap(), Memo()).allow == ()


def test_what_cannot_be_asked_or_understood_denies() -> None:
    index = build_policies(
        SETTINGS,
        [
            authorization("default", "broken", AuthorizationPolicy(), fail_closed=True),
            authorization("default", "custom", allowing(action=Action.CUSTOM)),
            authorization("default", "audit", allowing(action=Action.AUDIT)),
        ],
        (),
    )
    found = index.for_workload("default", APP, Memo())
    assert names(found.deny) == ["default/broken"]
    assert names(found.custom) == ["default/custom"]
    assert found.authorizer is not None
    assert found.authorizer.problem
    assert names(found.audit) == ["default/audit"]
    assert not found.allow
    assert all(matches(policy, Call(http=HttpCall())) for policy in found.deny)


def test_target_references_reach_their_gateway_alone() -> None:
    reference = PolicyTargetReference(kind="Gateway", group="gateway.networking.k8s.io", name="public")
    spec = AuthorizationPolicy(target_refs=(reference,), action=Action.DENY, rules=(Rule(),))
    index = build_policies(SETTINGS, [authorization("default", "p", spec)], ())
    gateway = FrozenMap({GATEWAY_NAME: "public"})
    assert names(index.for_workload("default", gateway, Memo()).deny) == ["default/p"]
    assert not index.for_workload("default", FrozenMap({GATEWAY_NAME: "private"}), Memo()).deny
    assert not index.for_workload("elsewhere", gateway, Memo()).deny
    assert not index.for_workload("default", APP, Memo()).deny


def test_equal_selections_are_one_object_whatever_the_order_of_input() -> None:
    rows = [authorization("default", f"p{number}", allowing()) for number in range(5)]
    memo = Memo()
    one = build_policies(SETTINGS, rows, ()).for_workload("default", APP, memo)
    two = build_policies(SETTINGS, rows[::-1], ()).for_workload("default", FrozenMap({"app": "x"}), memo)
    assert one is two


def test_thousands_of_policies_cost_a_workload_only_its_own() -> None:
    rows = [authorization("default", f"p{n}", allowing(selector(app=f"app-{n}"))) for n in range(5000)]
    index = build_policies(SETTINGS, rows, ())
    memo = Memo()

    def seconds() -> float:
        began = time.process_time()
        for number in range(200):
            index.for_workload("default", FrozenMap({"app": f"app-{number}"}), memo)
        return time.process_time() - began

    assert min(seconds() for _ in range(3)) < 0.05


def selected(*rules: Rule, action: Action = Action.ALLOW, name: str = "p") -> SelectedPolicy:
    origin = Origin(resource=ResourceId(kind="AuthorizationPolicy", namespace="default", name=name))
    return SelectedPolicy(origin=origin, spec=AuthorizationPolicy(action=action, rules=rules))


def by_source(**fields: tuple[str, ...]) -> Rule:
    return Rule(from_=(From(source=Source(**fields)),))


def by_operation(**fields: tuple[str, ...]) -> Rule:
    return Rule(to=(To(operation=Operation(**fields)),))


def when(key: str, *values: str) -> Rule:
    return Rule(when=(Condition(key=key, values=values),))


CALL = Call(
    source_ip="10.1.2.3",
    remote_ip="203.0.113.9",
    destination_ip="10.0.0.1",
    destination_port=9080,
    principal="cluster.local/ns/web/sa/frontend",
    sni="reviews.example",
    http=HttpCall(method="GET", host="Reviews.Example", path="/api/v1/items", headers=FrozenMap({"x-team": "blue"})),
    claims={"iss": "https://issuer", "sub": "me", "groups": ["admin", "dev"]},
)


@pytest.mark.parametrize(
    "rule",
    [
        by_source(principals=("*",)),
        by_source(principals=("cluster.local/ns/web/*",)),
        by_source(principals=("*/sa/frontend",)),
        by_source(namespaces=("web",)),
        by_source(namespaces=("w*", "other")),
        by_source(service_accounts=("web/frontend",)),
        by_source(ip_blocks=("10.1.0.0/16",)),
        by_source(remote_ip_blocks=("203.0.113.9",)),
        by_source(not_namespaces=("other",)),
        by_source(request_principals=("https://issuer/*",)),
        by_operation(hosts=("reviews.example",)),
        by_operation(methods=("GET",), paths=("/api/*",)),
        by_operation(paths=("/api/{*}/items",)),
        by_operation(paths=("/{**}/items",)),
        by_operation(ports=("9080",)),
        when("request.headers[X-Team]", "bl*"),
        when("request.auth.claims[groups]", "dev"),
        when("connection.sni", "*.example"),
        when("destination.port", "9080"),
        when("source.serviceAccount", "web/frontend"),
    ],
)
def test_what_matches(rule: Rule) -> None:
    assert matches(selected(rule), CALL)


@pytest.mark.parametrize(
    "rule",
    [
        by_source(principals=("cluster.local/ns/web",)),
        by_source(principals=("*",), not_principals=("*/sa/frontend",)),
        by_source(namespaces=("we",)),
        by_source(service_accounts=("frontend",)),
        by_source(ip_blocks=("203.0.113.0/24",)),
        by_operation(methods=("POST",)),
        by_operation(paths=("/api/{*}",)),
        by_operation(paths=("/api/*",), not_paths=("*/items",)),
        by_operation(not_ports=("9080",)),
        when("request.headers[x-other]", "*"),
        when("request.auth.claims[iss]", "https://other"),
        when("no.such.key", "*"),
    ],
)
def test_what_does_not_match(rule: Rule) -> None:
    assert not matches(selected(rule), CALL)


def test_a_principal_of_one_trust_domain_is_one_of_each() -> None:
    rule = by_source(principals=("old.domain/ns/web/sa/frontend",))
    assert matches(selected(rule), CALL, ("cluster.local", "old.domain"))
    assert not matches(selected(rule), CALL, ("cluster.local",))
    own = by_source(principals=("cluster.local/ns/web/sa/frontend",))
    moved = Call(principal="new.domain/ns/web/sa/frontend", http=HttpCall())
    assert matches(selected(own), moved, ("new.domain",))


def test_http_fields_on_tcp() -> None:
    tcp = Call(destination_port=9080)
    rule = by_operation(methods=("GET",), ports=("9080",))
    assert not matches(selected(rule), tcp)
    assert matches(selected(rule, action=Action.DENY), tcp)
    assert not matches(selected(by_operation(methods=("GET",), ports=("1",)), action=Action.DENY), tcp)


def test_deny_before_allow() -> None:
    everyone = selected(Rule(), name="everyone")
    nobody = selected(name="nobody")
    web = selected(by_source(namespaces=("web",)), action=Action.DENY, name="no-web")
    assert decide(WorkloadPolicies(), CALL).allowed
    assert decide(WorkloadPolicies(allow=(everyone,)), CALL).policy is everyone
    assert not decide(WorkloadPolicies(allow=(nobody,)), CALL).allowed
    verdict = decide(WorkloadPolicies(deny=(web,), allow=(everyone,)), CALL)
    assert (verdict.allowed, verdict.policy, verdict.rule) == (False, web, 0)


def test_an_index_is_a_value() -> None:
    rows = [authorization("default", "p", allowing())]
    assert build_policies(SETTINGS, rows, ()) == build_policies(SETTINGS, list(rows), ())
    assert isinstance(hash(build_policies(SETTINGS, rows, ())), int)
    assert build_policies(SETTINGS, rows, ()) != PolicyIndex(root_namespace="x", trust_domains=())
