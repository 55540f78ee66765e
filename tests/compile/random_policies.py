"""Random policies, and random calls that meet them.

Invariant: few values, so that policies and calls meet; one draw a case, so that thousands are quick.
"""

from __future__ import annotations

from random import Random
from typing import Any

from gossamer.api.authorization_policy import Action, AuthorizationPolicy, Condition, From, Operation, Rule, Source, To
from gossamer.api.extension_provider import (
    EnvoyExternalAuthorizationGrpcProvider,
    EnvoyExternalAuthorizationHttpProvider,
)
from gossamer.core.frozen import FrozenMap
from gossamer.core.ids import Origin, ResourceId
from gossamer.model.authorizers import Authorizer
from gossamer.model.policy import SelectedPolicy, ShadowPolicies, WorkloadPolicies
from gossamer.model.policy_match import Call, HttpCall

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
    """Policies and calls by one seed."""

    blocks = BLOCKS

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
            ip_blocks=self.some(self.blocks),
            not_ip_blocks=self.some(self.blocks),
            remote_ip_blocks=self.some(self.blocks),
            not_remote_ip_blocks=self.some(self.blocks),
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
        known = self.blocks if key.endswith(".ip") else CONDITIONS[key]
        values, excluded = self.some(known, 0.7), self.some(known, 0.3)
        return Condition(key=key, values=values if values or excluded else known[:1], not_values=excluded)

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
