"""Slots: what is delivered into them, what they are called, and which chains a change of policy revises."""

from __future__ import annotations

import time
from typing import Any

import pytest
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_rbac_pb2

from gossamer.api.authorization_policy import Action, AuthorizationPolicy, Condition, From, Operation, Rule, Source, To
from gossamer.compile.policies.ports import LocalPorts, local_ports
from gossamer.compile.policies.revision import compile_revisions
from gossamer.compile.policies.slots import HTTP_SLOTS, Slot, compile_slots, http_filters, network_filters
from gossamer.compile.serialise import resource_of
from gossamer.core.frozen import FrozenMap
from gossamer.core.ids import Origin, ResourceId
from gossamer.core.memo import Memo
from gossamer.core.resources import EXTENSION
from gossamer.model.policy import SelectedPolicy, WorkloadPolicies
from gossamer.model.proxy import Capture, CaptureMode, Proxy, ProxyType
from gossamer.simulate.origins import origin_of_policy


def selected(
    name: str, *rules: Rule, action: Action = Action.DENY, kind: str = "AuthorizationPolicy", fail_closed: bool = False
) -> SelectedPolicy:
    origin = Origin(resource=ResourceId(kind=kind, namespace="foo", name=name))
    return SelectedPolicy(origin=origin, spec=AuthorizationPolicy(action=action, rules=rules), fail_closed=fail_closed)


def on_port(*ports: str) -> Rule:
    return Rule(to=(To(operation=Operation(ports=ports)),))


def by_principal(name: str) -> Rule:
    return Rule(from_=(From(source=Source(principals=(name,))),))


GET = Rule(to=(To(operation=Operation(methods=("GET",))),))


def content(policies: WorkloadPolicies) -> dict[str, Any]:
    return {draft.name: draft.message for draft in compile_slots(policies, LocalPorts())}


def test_every_slot_always_has_content_and_a_filter() -> None:
    drafts = compile_slots(WorkloadPolicies(), LocalPorts())
    filters = {part.name for part in http_filters()} | {part.name for part in network_filters()}
    assert {draft.name for draft in drafts} == filters == set(Slot)
    assert {draft.type_url for draft in drafts} == {EXTENSION}
    assert [part.name for part in http_filters()] == list(HTTP_SLOTS)


def test_a_filter_without_its_content_denies() -> None:
    for part in http_filters():
        denies = http_rbac_pb2.RBAC()
        assert part.config_discovery.default_config.Unpack(denies)
        assert denies.rules.action == denies.rules.DENY
        assert denies.rules.policies["policy-not-received"].permissions[0].any
        assert not part.config_discovery.apply_default_config_without_warming
        assert denies.DESCRIPTOR.full_name in part.config_discovery.type_urls[0]


def test_an_edit_changes_one_slot_of_each_kind_and_no_name() -> None:
    memo = Memo()

    def versions(policies: WorkloadPolicies) -> dict[str, str]:
        return {draft.name: resource_of(draft, memo).version for draft in compile_slots(policies, LocalPorts())}

    before, after = versions(WorkloadPolicies()), versions(WorkloadPolicies(deny=(selected("p", Rule()),)))
    assert {name for name in before if before[name] != after[name]} == {Slot.HTTP_DENY, Slot.TCP_DENY}
    assert before.keys() == after.keys()


def test_proxies_with_equal_policies_share_their_slots() -> None:
    memo = Memo()
    plain = Proxy(type=ProxyType.SIDECAR, namespace="a", name="x", addresses=("10.0.0.1",))
    other = Proxy(type=ProxyType.SIDECAR, namespace="b", name="y", addresses=("10.0.0.2",))
    policies = WorkloadPolicies(deny=(selected("p", on_port("80")),))
    assert memo(compile_slots, policies, local_ports(plain)) is memo(compile_slots, policies, local_ports(other))


def test_allow_without_rules_allows_nothing_and_a_failure_denies() -> None:
    nothing = content(WorkloadPolicies(allow=(selected("nothing", action=Action.ALLOW),)))
    rules = http_rbac_pb2.RBAC()
    assert nothing[Slot.HTTP_ALLOW].typed_config.Unpack(rules)
    assert rules.HasField("rules")
    assert rules.rules.action == rules.rules.ALLOW
    assert not rules.rules.policies

    broken = content(WorkloadPolicies(deny=(selected("broken", fail_closed=True),)))
    assert broken[Slot.HTTP_DENY].typed_config.Unpack(rules)
    assert list(rules.rules.policies) == ["ns[foo]-policy[broken]-rule[0]"]


def test_a_condition_that_nobody_knows_never_lets_in() -> None:
    unknown = Rule(when=(Condition(key="request.unknown", values=("x",)),))
    policies = WorkloadPolicies(deny=(selected("d", unknown),), allow=(selected("a", unknown, action=Action.ALLOW),))
    rules = http_rbac_pb2.RBAC()
    assert content(policies)[Slot.HTTP_DENY].typed_config.Unpack(rules)
    assert rules.rules.policies["ns[foo]-policy[d]-rule[0]"].permissions[0].any
    assert content(policies)[Slot.HTTP_ALLOW].typed_config.Unpack(rules)
    assert rules.rules.policies["ns[foo]-policy[a]-rule[0]"].permissions[0].not_rule.any


@pytest.mark.parametrize("kind", ["AuthorizationPolicy", "RequestAuthentication"])
def test_a_rules_name_leads_back_to_its_resource(kind: str) -> None:
    policy = selected("p", Rule(), kind=kind)
    (origin,) = origin_of_policy(policy.rule_name(2))
    assert origin == Origin(resource=policy.origin.resource, rule="spec.rules[2]")


def test_kinds_of_one_name_stay_apart() -> None:
    both = WorkloadPolicies(deny=(selected("p", Rule()), selected("p", Rule(), kind="RequestAuthentication")))
    rules = http_rbac_pb2.RBAC()
    assert content(both)[Slot.HTTP_DENY].typed_config.Unpack(rules)
    assert len(rules.rules.policies) == 2


def test_which_ports_a_proxy_answers_for() -> None:
    capture = Capture(mesh_ports=FrozenMap({8080: 31080}), network_namespace="/run/x")
    netns = Proxy(type=ProxyType.SIDECAR, namespace="a", addresses=("10.0.0.1",), capture=capture)
    assert local_ports(netns) == LocalPorts(captured=True, bound=FrozenMap({8080: 31080}), addresses=("10.0.0.1",))
    explicit = Proxy(
        type=ProxyType.SIDECAR,
        namespace="a",
        addresses=("127.1.0.1",),
        capture=Capture(mode=CaptureMode.EXPLICIT, mesh_ports=FrozenMap({8080: 31080})),
    )
    assert not local_ports(explicit).captured
    gateway = Proxy(type=ProxyType.ROUTER, namespace="a", gateway_ports=FrozenMap({80: 8080}))
    assert local_ports(gateway) == LocalPorts(captured=False, bound=FrozenMap({80: 8080}))


NOTHING = WorkloadPolicies()


def test_without_policy_there_is_no_revision() -> None:
    found = compile_revisions(NOTHING)
    assert {found.http.of(80), found.tcp.of(80), found.http.of(0), found.tcp.of(0)} == {""}


def test_a_deny_revises_the_chains_that_it_can_hit() -> None:
    found = compile_revisions(WorkloadPolicies(deny=(selected("p", on_port("80", "81")),)))
    assert found.http.of(80)
    assert found.tcp.of(81)
    assert found.http.of(82) == found.tcp.of(82) == ""
    assert found.http.of(0), "the chain for unnamed ports may carry port 80"


def test_an_allow_revises_tcp_chains_alone() -> None:
    one = compile_revisions(WorkloadPolicies(allow=(selected("p", by_principal("a/b"), action=Action.ALLOW),)))
    two = compile_revisions(WorkloadPolicies(allow=(selected("p", by_principal("a/c"), action=Action.ALLOW),)))
    assert one.http.of(80) == two.http.of(80) == ""
    assert one.tcp.of(80) != two.tcp.of(80)


def test_what_means_nothing_on_tcp_revises_no_tcp_chain() -> None:
    def allowing(*rules: Rule) -> str:
        return compile_revisions(WorkloadPolicies(allow=(selected("p", *rules, action=Action.ALLOW),))).tcp.of(80)

    assert allowing(GET) == allowing(GET, GET) != ""
    other = Rule(to=(To(operation=Operation(methods=("PUT",))),))
    assert allowing(GET) == allowing(other)
    assert allowing(GET) != allowing(GET, by_principal("a/b"))


def test_names_and_order_of_ports_do_not_count_but_rules_do() -> None:
    def tcp(*policies: SelectedPolicy) -> str:
        return compile_revisions(WorkloadPolicies(deny=policies)).tcp.of(80)

    assert tcp(selected("a", on_port("80"))) == tcp(selected("b", on_port("80")))
    assert tcp(selected("a", on_port("80"))) != tcp(selected("a", on_port("80", "81")))
    assert tcp(selected("a", on_port("81"))) == ""


def test_a_thousand_policies_compile_in_linear_time() -> None:
    def seconds(count: int) -> float:
        rules = [Rule(from_=by_principal(f"x/ns/a/sa/{n}").from_, to=on_port(str(n + 1)).to) for n in range(count)]
        policies = WorkloadPolicies(
            deny=tuple(selected(f"d{n}", rule) for n, rule in enumerate(rules)),
            allow=tuple(selected(f"a{n}", rule, action=Action.ALLOW) for n, rule in enumerate(rules)),
        )
        began = time.process_time()
        compile_slots(policies, LocalPorts())
        revisions = compile_revisions(policies)
        assert all(revisions.tcp.of(n + 1) for n in range(count))
        return time.process_time() - began

    small, large = min(seconds(100) for _ in range(3)), min(seconds(1000) for _ in range(3))
    assert large < 25 * small
