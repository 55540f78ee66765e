"""VirtualServices as routings: names resolved, delegates joined.

Invariant: a routing is made of its own resource and of the delegates that it names, and of nothing else, so that an
edit of another one does not make it anew.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

from gossamer.api.decide_at import decide_at
from gossamer.api.resource import Resource
from gossamer.api.virtual_service import (
    Destination,
    HTTPMatchRequest,
    HTTPRoute,
    L4MatchAttributes,
    RouteDestination,
    TCPRoute,
    TLSMatchAttributes,
    TLSRoute,
    VirtualService,
)
from gossamer.core.ids import Origin
from gossamer.core.memo import Memo
from gossamer.model.delegates import ByName, delegates_of, with_delegates
from gossamer.model.names import export_targets, gateway_name, qualified
from gossamer.model.routing import MESH, HttpRule, Routing, TcpRule, TlsRule
from gossamer.model.settings import MeshSettings

Match = TypeVar("Match", HTTPMatchRequest, TLSMatchAttributes, L4MatchAttributes)


def build_routings(
    resources: tuple[Resource[VirtualService], ...], settings: MeshSettings, memo: Memo
) -> tuple[Routing, ...]:
    """All VirtualServices, oldest first. One without hosts is there for others to delegate to and routes nothing."""
    delegates = build_delegates(resources, settings, memo)
    return tuple(
        memo(_routing, resource, settings, delegates_of(resource, delegates) if delegates else ())
        for resource in sorted(resources, key=lambda r: r.age_key)
        if resource.spec.hosts
    )


def build_delegates(resources: tuple[Resource[VirtualService], ...], settings: MeshSettings, memo: Memo) -> ByName:
    """The VirtualServices that others can delegate to."""
    return {
        (resource.namespace, resource.name): memo(_routing, resource, settings, ())
        for resource in resources
        if not resource.spec.hosts
    }


def _routing(resource: Resource[VirtualService], settings: MeshSettings, delegates: tuple[Routing, ...]) -> Routing:
    spec, namespace = resource.spec, resource.namespace

    def origin(kind: str, index: int) -> Origin:
        return Origin(resource=resource.id, rule=f"spec.{kind}[{index}]")

    names = _Names(namespace=namespace, domain=settings.domain)
    http = [
        HttpRule(index=index, spec=names.http(rule), origin=origin("http", index))
        for index, rule in enumerate(spec.http)
    ]
    return Routing(
        id=resource.id,
        hosts=tuple(dict.fromkeys(names.host(host) for host in spec.hosts)),
        gateways=frozenset(gateway_name(name, namespace) for name in spec.gateways or (MESH,)),
        export_to=export_targets(spec.export_to, settings.export_routes_to, namespace),
        created=resource.creation,
        decided=decide_at(resource.annotations),
        http=tuple(with_delegates(http, namespace, delegates) if spec.hosts else http),
        tls=tuple(
            TlsRule(index=index, spec=names.tls(rule), origin=origin("tls", index))
            for index, rule in enumerate(spec.tls)
        ),
        tcp=tuple(
            TcpRule(index=index, spec=names.tcp(rule), origin=origin("tcp", index))
            for index, rule in enumerate(spec.tcp)
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Names:
    """Resolves what a resource of one namespace names."""

    namespace: str
    domain: str

    def host(self, host: str) -> str:
        return qualified(host, self.namespace, self.domain)

    def destination(self, destination: Destination) -> Destination:
        return replace(destination, host=self.host(destination.host))

    def matches(self, matches: tuple[Match, ...]) -> tuple[Match, ...]:
        return tuple(
            replace(match, gateways=tuple(gateway_name(name, self.namespace) for name in match.gateways))
            for match in matches
        )

    def http(self, rule: HTTPRoute) -> HTTPRoute:
        return replace(
            rule,
            match=self.matches(rule.match),
            route=tuple(replace(part, destination=self.destination(part.destination)) for part in rule.route),
            mirror=self.destination(rule.mirror) if rule.mirror else None,
            mirrors=tuple(replace(part, destination=self.destination(part.destination)) for part in rule.mirrors),
        )

    def tls(self, rule: TLSRoute) -> TLSRoute:
        return replace(rule, match=self.matches(rule.match), route=self.targets(rule.route))

    def tcp(self, rule: TCPRoute) -> TCPRoute:
        return replace(rule, match=self.matches(rule.match), route=self.targets(rule.route))

    def targets(self, route: tuple[RouteDestination, ...]) -> tuple[RouteDestination, ...]:
        return tuple(replace(part, destination=self.destination(part.destination)) for part in route)
