"""Property: what a policy compiles to says of every call what the policy says of it."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import pytest
from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.config.rbac.v3.rbac_pb2 import RBAC
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_rbac_pb2
from envoy.extensions.filters.network.rbac.v3 import rbac_pb2 as network_rbac_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.api.authorization_policy import Action, AuthorizationPolicy, Operation, Rule, To
from gossamer.compile.policies.ports import LocalPorts
from gossamer.compile.policies.slots import HTTP_SLOTS, TCP_SLOTS, Slot, compile_slots
from gossamer.core.frozen import FrozenMap
from gossamer.core.ids import Origin, ResourceId
from gossamer.model.policy import SelectedPolicy, WorkloadPolicies
from gossamer.model.policy_match import Call, HttpCall, decide, matching_rule
from gossamer.simulate import rbac
from gossamer.simulate.headers import Headers
from gossamer.simulate.request import Address, Certificate
from tests.compile.random_policies import BOUND, MESH_ADDRESS, OWN, Maker


class Content:
    """What is in the slots: the rules of each, those that are only recorded, and who is asked."""

    def __init__(self, policies: WorkloadPolicies, ports: LocalPorts) -> None:
        self.rules: dict[Slot, RBAC] = {}
        self.shadow: dict[Slot, RBAC] = {}
        self.asking: set[Slot] = set()
        for draft in compile_slots(policies, ports):
            config = TypedExtensionConfig.FromString(draft.message.SerializeToString()).typed_config
            slot = Slot(draft.name)
            filters = (http_rbac_pb2.RBAC(), network_rbac_pb2.RBAC())
            unpacked = [one for one in filters if config.Unpack(one)]
            if not unpacked:
                self.asking.add(slot)
                continue
            if unpacked[0].HasField("rules"):
                self.rules[slot] = unpacked[0].rules
            if unpacked[0].HasField("shadow_rules"):
                self.shadow[slot] = unpacked[0].shadow_rules


@lru_cache(maxsize=8)
def slots_of(policies: WorkloadPolicies, ports: LocalPorts) -> Content:
    return Content(policies, ports)


def facts_of(call: Call, arrived: Address) -> rbac.Facts:
    """The call as Envoy sees it when it arrives at this address."""
    peer = None
    if call.principal:
        dns = "w.n.workload.cluster.local"
        peer = Certificate(uris=(f"spiffe://{call.principal}",), dns_names=(dns,))
    headers = Headers()
    metadata: dict[str, Any] = dict(call.metadata)
    if call.http is not None:
        items = [(":method", call.http.method), (":path", f"{call.http.path}?q=/api/x"), *call.http.headers.items()]
        headers = Headers([*items, *([(":authority", call.http.host)] if call.http.host else [])])
        metadata["envoy.filters.http.jwt_authn"] = {"payload": call.claims} if call.claims else {}
    return rbac.Facts(
        destination=arrived,
        source=Address(ip=call.source_ip, port=4000),
        remote=call.remote_ip,
        tls=bool(call.principal),
        peer=peer,
        server_name=call.sni,
        headers=headers,
        metadata=metadata,
    )


def assert_same(policies: WorkloadPolicies, call: Call, ports: LocalPorts, arrived: Address) -> None:
    slots = slots_of(policies, ports)
    facts, verdict = facts_of(call, arrived), decide(policies, call)
    order = HTTP_SLOTS if call.http else TCP_SLOTS
    chosen = [slots.rules[slot] for slot in order if slot in slots.rules]
    assert all(rbac.decide(one, facts).allowed for one in chosen) == verdict.allowed
    trigger, asking = (
        (Slot.HTTP_CUSTOM, Slot.HTTP_CUSTOM_AUTHORIZER) if call.http else (Slot.TCP_CUSTOM, Slot.TCP_CUSTOM_AUTHORIZER)
    )
    assert trigger not in slots.shadow or asking in slots.asking
    asked = trigger in slots.shadow and not rbac.decide(slots.shadow[trigger], facts).allowed
    assert bool(verdict.asks) == (asked and verdict.allowed)
    by_name = {name: rule for slot in order if slot in slots.rules for name, rule in slots.rules[slot].policies.items()}
    for policy in (*policies.audit, *policies.deny, *policies.allow):
        assert_same_rule(policy, by_name, call, facts, policies.trust_domains)
    shadow = {
        name: rule for slot in order if slot in slots.shadow for name, rule in slots.shadow[slot].policies.items()
    }
    for policy in (*policies.shadow.deny, *policies.shadow.allow):
        assert_same_rule(policy, shadow, call, facts, policies.trust_domains)


def assert_same_rule(
    policy: SelectedPolicy, by_name: dict[str, Any], call: Call, facts: rbac.Facts, trust_domains: tuple[str, ...]
) -> None:
    matched = [i for i in range(len(policy.rules)) if _matches(by_name.get(policy.rule_name(i)), facts)]
    assert (matched[0] if matched else None) == matching_rule(policy, call, trust_domains)


def _matches(rule: Any, facts: rbac.Facts) -> bool:
    return rule is not None and rbac.matches_policy(rule, facts)


@settings(max_examples=120, deadline=None)
@given(seed=st.integers(min_value=0, max_value=2**40))
def test_captured_calls(seed: int) -> None:
    maker = Maker(seed)
    policies = maker.policies()
    for http in (True, False) * 8:
        call = maker.call(http=http)
        assert_same(policies, call, LocalPorts(), Address(ip=OWN, port=call.destination_port))


@settings(max_examples=120, deadline=None)
@given(seed=st.integers(min_value=0, max_value=2**40))
def test_mesh_ports_stand_for_the_workloads_own(seed: int) -> None:
    maker = Maker(seed)
    policies = maker.policies()
    for http in (True, False) * 8:
        call = maker.call(http=http)
        both = LocalPorts(captured=True, bound=BOUND, addresses=(OWN,))
        assert_same(policies, call, both, Address(ip=OWN, port=call.destination_port))
        if call.destination_port in BOUND:
            arrived = Address(ip=MESH_ADDRESS, port=BOUND[call.destination_port])
            assert_same(policies, call, both, arrived)
            assert_same(policies, call, replace(both, captured=False), arrived)


@pytest.mark.parametrize("number", [80, 443, 8080])
def test_a_gateways_port_is_the_one_its_server_names(number: int) -> None:
    ports = LocalPorts(captured=False, bound=FrozenMap({80: 8080, 443: 443}))
    rule = Rule(to=(To(operation=Operation(ports=(str(number),))),))
    origin = Origin(resource=ResourceId(kind="AuthorizationPolicy", namespace="foo", name="p"))
    spec = AuthorizationPolicy(action=Action.DENY, rules=(rule,))
    policies = WorkloadPolicies(deny=(SelectedPolicy(origin=origin, spec=spec),))
    rules_of = slots_of(policies, ports).rules[Slot.HTTP_DENY]
    for port, real in ((80, 8080), (443, 443), (15021, 15021)):
        facts = facts_of(Call(http=HttpCall(host="x")), Address(ip="10.9.9.9", port=real))
        assert rbac.decide(rules_of, facts).allowed == (number != port), (number, port)
