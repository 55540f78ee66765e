"""Property: what a policy compiles to says of every call what the policy says of it."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from random import Random
from typing import Any

import pytest
from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.config.rbac.v3.rbac_pb2 import RBAC
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_rbac_pb2
from envoy.extensions.filters.network.rbac.v3 import rbac_pb2 as network_rbac_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.api.authorization_policy import Action, AuthorizationPolicy, Condition, From, Operation, Rule, Source, To
from gossamer.api.extension_provider import (
    EnvoyExternalAuthorizationGrpcProvider,
    EnvoyExternalAuthorizationHttpProvider,
)
from gossamer.compile.policies.ports import LocalPorts
from gossamer.compile.policies.slots import HTTP_SLOTS, TCP_SLOTS, Slot, compile_slots
from gossamer.core.frozen import FrozenMap
from gossamer.core.ids import Origin, ResourceId
from gossamer.model.authorizers import Authorizer
from gossamer.model.policy import SelectedPolicy, ShadowPolicies, WorkloadPolicies
from gossamer.model.policy_match import Call, HttpCall, decide, matching_rule
from gossamer.simulate import rbac
from gossamer.simulate.headers import Headers
from gossamer.simulate.request import Address, Certificate

OWN = "10.0.0.7"
PORTS = (8080, 9090, 31080)
BOUND = FrozenMap({8080: 31080, 9090: 9090})
MESH_ADDRESS = "192.168.1.1"

NAMES = ("web", "web-2", "foo")
PRINCIPALS = (
    "",
    *(f"{td}/ns/{ns}/sa/{sa}" for td in ("cluster.local", "td1", "x") for ns in NAMES for sa in ("a", "b")),
)
PRINCIPAL_PATTERNS = ("*", "cluster.local/ns/web/sa/a", "td1/ns/foo/*", "*/sa/b", "x/ns/*", "cluster.local/*", "c*")
NAMESPACE_PATTERNS = ("web", "web*", "*2", "foo", "*")
ADDRESSES = ("10.0.0.7", "10.1.0.1", "192.168.1.1", "2001:db8::1")
BLOCKS = ("10.0.0.0/8", "10.0.0.7", "192.168.0.0/16", "2001:db8::/32")
HOSTS = ("a.example", "A.Example", "b.example:8080", "")
PATHS = ("/", "/api/v1", "/api/v1/x", "/a b", "/api//")
PATH_PATTERNS = ("/", "/api/*", "*/x", "/api/{*}", "/{**}", "/api/{*}/x", "*", "/api/v1")


CONDITIONS: dict[str, tuple[str, ...]] = {
    "source.ip": BLOCKS,
    "remote.ip": BLOCKS,
    "destination.ip": BLOCKS,
    "source.namespace": NAMESPACE_PATTERNS,
    "source.principal": PRINCIPAL_PATTERNS,
    "source.serviceAccount": ("web/a", "a"),
    "destination.port": tuple(str(port) for port in PORTS),
    "connection.sni": ("a.example", "*.example", "*"),
    "request.headers[X-Team]": ("blue", "b*", "*"),
    "request.auth.principal": ("https://iss/me", "*/me"),
    "request.auth.claims[groups]": ("admin", "a*", "*"),
    "request.auth.claims[nested][level]": ("1", "*"),
    "request.auth.audiences": ("me", "*"),
    "request.auth.presenter": ("me",),
    "experimental.envoy.filters.network.mysql_proxy[db.table]": ("[select]", "[s*]", "text"),
    "no.such.key": ("x",),
}
CLAIMS: tuple[dict[str, Any], ...] = (
    {},
    {"iss": "https://iss", "sub": "me", "aud": ["me", "you"], "azp": "me", "groups": ["admin"]},
    {"iss": "https://iss", "sub": "you", "groups": "admin", "nested": {"level": "1"}},
)
MYSQL = "envoy.filters.network.mysql_proxy"
METADATA: tuple[dict[str, Any], ...] = (
    {},
    {MYSQL: {"db.table": ["select", "insert"]}},
    {MYSQL: {"db.table": "text"}},
)
GRPC = Authorizer(name="x", spec=EnvoyExternalAuthorizationGrpcProvider(port=1), host="x.test", namespace="foo")
HTTP = Authorizer(name="x", spec=EnvoyExternalAuthorizationHttpProvider(port=1), host="x.test", namespace="foo")
BAD = Authorizer(name="x", problem="gone")
TRUST_DOMAINS = (("cluster.local",), ("td1", "cluster.local"), ("td1", "x"))


class Maker:
    """Policies and calls by one seed. Few values, so that they meet; one draw a case, so that thousands are quick."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)

    def some(self, values: tuple[str, ...], often: float = 0.15) -> tuple[str, ...]:
        """Mostly none, sometimes one or two."""
        if self.random.random() > often:
            return ()
        return tuple(self.random.choice(values) for _ in range(self.random.randint(1, 2)))

    def source(self) -> Source:
        return Source(
            principals=self.some(PRINCIPAL_PATTERNS),
            not_principals=self.some(PRINCIPAL_PATTERNS),
            request_principals=self.some(("*", "https://iss/*", "https://iss/me", "*/me"), 0.05),
            not_request_principals=self.some(("https://iss/me",), 0.05),
            namespaces=self.some(NAMESPACE_PATTERNS),
            not_namespaces=self.some(NAMESPACE_PATTERNS),
            service_accounts=self.some(("web/a", "a", "foo/b")),
            not_service_accounts=self.some(("web/a", "a", "foo/b")),
            ip_blocks=self.some(BLOCKS),
            not_ip_blocks=self.some(BLOCKS),
            remote_ip_blocks=self.some(BLOCKS),
            not_remote_ip_blocks=self.some(BLOCKS),
            trust_domains=self.some(("td1", "cluster*", "*")),
            not_trust_domains=self.some(("td1", "cluster*", "*")),
        )

    def operation(self) -> Operation:
        ports = tuple(str(port) for port in PORTS)
        return Operation(
            hosts=self.some(("a.example", "*.example", "A*", "*")),
            not_hosts=self.some(("a.example", "*.example", "A*", "*")),
            methods=self.some(("GET", "P*", "*")),
            not_methods=self.some(("GET", "P*")),
            paths=self.some(PATH_PATTERNS, 0.3),
            not_paths=self.some(PATH_PATTERNS),
            ports=self.some(ports, 0.3),
            not_ports=self.some(ports),
        )

    def condition(self) -> Condition:
        key = self.random.choice(tuple(CONDITIONS))
        values, excluded = self.some(CONDITIONS[key], 0.7), self.some(CONDITIONS[key], 0.3)
        return Condition(key=key, values=values if values or excluded else CONDITIONS[key][:1], not_values=excluded)

    def rule(self) -> Rule:
        few = self.random.randrange
        return Rule(
            from_=tuple(From(source=self.source()) for _ in range(few(3))),
            to=tuple(To(operation=self.operation()) for _ in range(few(3))),
            when=tuple(self.condition() for _ in range(max(0, few(4) - 1))),
        )

    def policies(self) -> WorkloadPolicies:
        custom = self.group(Action.CUSTOM)
        return WorkloadPolicies(
            audit=self.group(Action.AUDIT),
            custom=custom,
            authorizer=self.random.choice((GRPC, HTTP, BAD)) if custom else None,
            shadow=ShadowPolicies(deny=self.group(Action.DENY), allow=self.group(Action.ALLOW)),
            deny=self.group(Action.DENY),
            allow=self.group(Action.ALLOW),
            trust_domains=self.random.choice(TRUST_DOMAINS),
        )

    def group(self, action: Action) -> tuple[SelectedPolicy, ...]:
        return tuple(self.policy(f"{action}-{number}", action) for number in range(self.random.randrange(3)))

    def policy(self, name: str, action: Action) -> SelectedPolicy:
        origin = Origin(resource=ResourceId(kind="AuthorizationPolicy", namespace="foo", name=name))
        rules = tuple(self.rule() for _ in range(self.random.randrange(4)))
        return SelectedPolicy(origin=origin, spec=AuthorizationPolicy(action=action, rules=rules))

    def call(self, *, http: bool) -> Call:
        one = self.random.choice
        return Call(
            source_ip=one(ADDRESSES),
            remote_ip=one(("", *ADDRESSES)),
            destination_ip=OWN,
            destination_port=one(PORTS),
            principal=one(PRINCIPALS),
            sni=one(("", "a.example", "b.other")),
            http=self.http() if http else None,
            claims=one(CLAIMS) if http else {},
            metadata=one(METADATA),
        )

    def http(self) -> HttpCall:
        one = self.random.choice
        headers = one((FrozenMap[str, str](), FrozenMap({"x-team": "blue"}), FrozenMap({"x-team": "red"})))
        return HttpCall(method=one(("GET", "POST", "PUT")), host=one(HOSTS), path=one(PATHS), headers=headers)


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
