"""VirtualServices with their names resolved, and what of them one kind of client loads.

Invariant: hosts here are full names, gateways `mesh` or `namespace/name`, and a rule knows its place in what its author
wrote.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from gossamer.api.decide_at import DecideAt
from gossamer.api.virtual_service import (
    HTTPMatchRequest,
    HTTPRoute,
    L4MatchAttributes,
    TCPRoute,
    TLSMatchAttributes,
    TLSRoute,
)
from gossamer.core.frozen import EMPTY, FrozenMap, Value
from gossamer.core.ids import Origin, ResourceId
from gossamer.model.names import exported
from gossamer.model.service import Protocol
from gossamer.model.settings import OutboundPolicy

MESH = "mesh"
Match = TypeVar("Match", HTTPMatchRequest, TLSMatchAttributes, L4MatchAttributes)
Rule = TypeVar("Rule", "HttpRule", "TlsRule", "TcpRule")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HttpRule(Value):
    """`spec.http[index]`, its destinations' hosts resolved. `via` is the rule that delegated to it. `gateway_api`: it
    is of an HTTPRoute, where prefixes are of whole path segments and a destination that is not there answers 500."""

    index: int
    spec: HTTPRoute
    origin: Origin
    via: Origin | None = None
    gateway_api: bool = False

    @property
    def origins(self) -> tuple[Origin, ...]:
        """Whose rule it is, and who delegated to it."""
        return (self.origin,) if self.via is None else (self.origin, self.via)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TlsRule(Value):
    """`spec.tls[index]`, its destinations' hosts resolved."""

    index: int
    spec: TLSRoute
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TcpRule(Value):
    """`spec.tcp[index]`, its destinations' hosts resolved."""

    index: int
    spec: TCPRoute
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Routing(Value):
    """A VirtualService, or HTTPRoutes of one Service. Older ones come before younger ones wherever routings are listed;
    one that `overrides` comes before those for all callers."""

    id: ResourceId
    hosts: tuple[str, ...]
    gateways: frozenset[str]
    export_to: frozenset[str]
    http: tuple[HttpRule, ...] = ()
    tls: tuple[TlsRule, ...] = ()
    tcp: tuple[TcpRule, ...] = ()
    created: str = ""
    overrides: bool = False
    decided: DecideAt = DecideAt.CALLER
    """Where its rules are decided: by its callers' proxies, by the called one's, or by both."""

    @property
    def age_key(self) -> tuple[str, bool, str]:
        """Sorts by Istio's precedence, as `Resource.age_key` does."""
        return (self.created, not self.overrides, f"{self.id.name}.{self.id.namespace}")

    @property
    def of_services(self) -> bool:
        """Whether it is attached to Services, and so means nothing where there is none."""
        return self.id.kind == "HTTPRoute"

    @property
    def origin(self) -> Origin:
        return Origin(resource=self.id)

    @property
    def destinations(self) -> frozenset[str]:
        """The hosts that its rules lead to, mirrors among them."""
        http = (rule.spec for rule in self.http)
        mirrored = (part for spec in http for part in (spec.mirror, *(mirror.destination for mirror in spec.mirrors)))
        routed = (part.destination for rules in (self.http, self.tls, self.tcp) for r in rules for part in r.spec.route)
        return frozenset(destination.host for destination in (*mirrored, *routed) if destination is not None)

    def gateways_for(self, client: Client) -> frozenset[str]:
        """Which of its gateways, those of single matches among them, are the client's."""
        named = (match.gateways for rules in (self.http, self.tls, self.tcp) for r in rules for match in r.spec.match)
        return self.gateways.union(*named) & client.gateways


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """`namespace/host` of a Sidecar's egress: hosts (`*` or a pattern) of one namespace, or of all (`*`)."""

    namespace: str
    host: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EgressListener(Value):
    """A listener of a Sidecar's egress, and what it lets its workload see. Without a port it is for all ports that no
    other has; port 0 otherwise is that of a UNIX socket (`bind`, a URL). `opened`: the application calls it itself,
    nothing is redirected to it. `origin` is only said where the listener shows on the wire."""

    imports: tuple[Import, ...]
    port: int = 0
    name: str = ""
    protocol: Protocol = Protocol.AUTO
    bind: str = ""
    opened: bool = False
    origin: Origin | None = None

    @property
    def everywhere(self) -> bool:
        return not self.port and not self.bind


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Client(Value):
    """Who loads routes: what `gateways`, `sourceNamespace` and `sourceLabels` ask of. `labels` hold no more than what
    some resource of the mesh asks for, so that alike workloads are one client. `allocated` says whether it comes to
    know, by DNS, the addresses that were given to services without any. `egress` is what its Sidecar lets it see;
    None, without one, everything that is exported to it. `policy` is its Sidecar's word on unknown traffic, if any."""

    namespace: str
    labels: FrozenMap[str, str] = EMPTY
    gateways: frozenset[str] = frozenset({MESH})
    allocated: bool = False
    six: bool = False
    """Whether it has addresses of IPv6 alone."""
    egress: tuple[EgressListener, ...] | None = None
    policy: OutboundPolicy | None = None


def loaded(routing: Routing, client: Client) -> Routing | None:
    """What of a VirtualService this client loads: rules whose every alternative asks for another client are gone."""
    if not routing.decided.at_caller or not (
        exported(routing.export_to, client.namespace) and routing.gateways_for(client)
    ):
        return None
    http = tuple(rule for rule in (_narrowed(rule, rule.spec.match, client, routing) for rule in routing.http) if rule)
    tls = tuple(rule for rule in (_narrowed(rule, rule.spec.match, client, routing) for rule in routing.tls) if rule)
    tcp = tuple(rule for rule in (_narrowed(rule, rule.spec.match, client, routing) for rule in routing.tcp) if rule)
    return replace(routing, http=http, tls=tls, tcp=tcp)


def _narrowed(rule: Rule, matches: tuple[Match, ...], client: Client, routing: Routing) -> Rule | None:
    if not matches:
        return rule if routing.gateways & client.gateways else None
    kept = tuple(match for match in matches if _for_client(match, client, routing))
    if len(kept) == len(matches):
        return rule
    spec: Any = rule.spec
    return replace(rule, spec=replace(spec, match=kept)) if kept else None


def _for_client(match: Match, client: Client, routing: Routing) -> bool:
    """`gateways` of a match stand in place of the VirtualService's own; labels and namespace must be the client's."""
    return (
        bool(frozenset(match.gateways or routing.gateways) & client.gateways)
        and match.source_namespace in ("", client.namespace)
        and match.source_labels.items() <= client.labels.items()
    )


def asked_labels(routings: Iterable[Routing]) -> frozenset[tuple[str, str]]:
    """All labels that some match asks of its client."""
    return frozenset(
        item
        for routing in routings
        for rules in (routing.http, routing.tls, routing.tcp)
        for rule in rules
        for match in rule.spec.match
        for item in match.source_labels.items()
    )
