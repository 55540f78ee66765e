"""HTTPRoutes attached to Services or ServiceEntries: how calls inside the mesh are routed (the Gateway API's GAMMA).

Rules: a route in its Service's own namespace (a producer's) is for all callers; one elsewhere (a consumer's) is for
callers of its own namespace, where it stands in place of the producer's. All routes of a Service and a scope are one,
in the Gateway API's precedence. A parent reference's port limits the rules to calls to it. Hostnames mean nothing here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from gossamer.api.gateway_api.http_route import HTTPRoute
from gossamer.api.gateway_api.reference_grant import ReferenceGrant
from gossamer.api.resource import Resource
from gossamer.api.service_entry import ServiceEntry
from gossamer.core.memo import Memo
from gossamer.model.http_route import http_rules, in_precedence
from gossamer.model.names import qualified
from gossamer.model.routing import MESH, HttpRule, Routing
from gossamer.model.settings import MeshSettings

_Scope = tuple[str, str]
"""A hostname, and the namespace whose callers alone are meant ("" for all)."""


def build_service_routings(
    routes: tuple[Resource[HTTPRoute], ...],
    grants: tuple[Resource[ReferenceGrant], ...],
    entries: tuple[Resource[ServiceEntry], ...],
    settings: MeshSettings,
    memo: Memo,
) -> tuple[Routing, ...]:
    """One routing for each host and scope that some HTTPRoute is attached to."""
    hosts = {(entry.namespace, entry.name): entry.spec.hosts for entry in entries} if routes else {}
    scopes: dict[_Scope, list[tuple[Resource[HTTPRoute], int]]] = {}
    for route in sorted(routes, key=lambda route: (route.creation, route.namespace, route.name)):
        for scope, port in dict.fromkeys(_parents(route, hosts, settings.domain)):
            scopes.setdefault(scope, []).append((route, port))
    return tuple(
        memo.keep(scope, _routing, scope, tuple(found), scopes.get((scope[0], "")), settings, grants)
        for scope, found in scopes.items()
    )


def _parents(
    route: Resource[HTTPRoute], entries: Mapping[tuple[str, str], tuple[str, ...]], domain: str
) -> Iterator[tuple[_Scope, int]]:
    for parent in route.spec.parent_refs:
        namespace = parent.namespace or route.namespace
        consumer = "" if namespace == route.namespace else route.namespace
        if (parent.group, parent.kind) == ("", "Service"):
            yield (f"{parent.name}.{namespace}.svc.{domain}", consumer), parent.port or 0
        elif (parent.group, parent.kind) == ("networking.istio.io", "ServiceEntry"):
            for host in entries.get((namespace, parent.name), ()):
                yield (qualified(host, namespace, domain), consumer), parent.port or 0


def _routing(
    scope: _Scope,
    attached: tuple[tuple[Resource[HTTPRoute], int], ...],
    producers: Iterable[tuple[Resource[HTTPRoute], int]] | None,
    settings: MeshSettings,
    grants: tuple[Resource[ReferenceGrant], ...],
) -> Routing:
    host, consumer = scope
    oldest = attached[0][0]
    rules: tuple[HttpRule, ...] = tuple(
        rule for route, port in attached for rule in http_rules(route, settings, grants, port)
    )
    created = min(route.creation for route, _ in (*attached, *(producers or ())))
    return Routing(
        id=oldest.id,
        hosts=(host,),
        gateways=frozenset({MESH}),
        export_to=frozenset({consumer or "*"}),
        http=in_precedence(rules),
        created=created,
        overrides=bool(consumer),
    )
