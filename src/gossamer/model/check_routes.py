"""What is wrong between routing resources, each of which is well by itself.

Invariant: nothing here stops a resource from working; it says what of it does not take effect, and where. No diagnostic
has a position yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gossamer.api.config import Config
from gossamer.api.gateway_api.common import GATEWAY_API
from gossamer.api.gateway_api.http_route import HTTPRoute
from gossamer.api.gateway_api.reference_grant import ReferenceGrant
from gossamer.api.resource import Resource
from gossamer.api.virtual_service import HTTPMatchRequest, VirtualService
from gossamer.core.diagnostics import Diagnostic, Diagnostics, diagnostic_about
from gossamer.core.memo import Memo
from gossamer.model.build_routings import build_delegates, build_routings
from gossamer.model.delegates import ByName
from gossamer.model.grants import is_granted
from gossamer.model.match_merge import joined_matches
from gossamer.model.names import exported
from gossamer.model.routing import MESH, Routing
from gossamer.model.settings import build_settings


def check_routes(config: Config, memo: Memo) -> Diagnostics:
    """What of a configuration's VirtualServices and HTTPRoutes does not take effect."""
    settings = memo(build_settings, config.mesh)
    delegates = build_delegates(config.virtual_services, settings, memo)
    routings = memo.keep("", build_routings, config.virtual_services, settings, memo)
    found = list(memo.keep("", _shadowed, routings))
    for root in config.virtual_services:
        if any(rule.delegate is not None for rule in root.spec.http):
            found += _undelegated(root, delegates)
    for route in config.http_routes:
        found += _ungranted(route, config.reference_grants)
    return tuple(found)


def _shadowed(routings: tuple[Routing, ...]) -> Diagnostics:
    """Inside the mesh one VirtualService speaks for a host: the others' rules for it are not joined (Istio's rule)."""
    speaking: dict[tuple[str, bool], list[Routing]] = {}
    found = []
    for routing in routings:
        if MESH not in routing.gateways:
            continue
        for host in routing.hosts:
            same = speaking.setdefault((host, routing.decided.at_caller), [])
            older = next((one for one in same if _seen_together(one, routing)), None)
            if older is not None:
                message = f"{older.id} is older and speaks for {host} inside the mesh: this one does not"
                hint = "put the rules for a host into one VirtualService, or have them delegated to"
                found.append(diagnostic_about(routing.id, "shadowed-host", "spec.hosts", message, hint))
            same.append(routing)
    return tuple(found)


def _seen_together(one: Routing, other: Routing) -> bool:
    return "*" in one.export_to | other.export_to or bool(one.export_to & other.export_to)


def _undelegated(root: Resource[VirtualService], delegates: ByName) -> Iterator[Diagnostic]:
    for index, rule in enumerate(root.spec.http):
        if rule.delegate is None:
            continue
        path = f"spec.http[{index}].delegate"
        namespace = rule.delegate.namespace or root.namespace
        found = delegates.get((namespace, rule.delegate.name))
        if found is None:
            name = f"{namespace}/{rule.delegate.name}"
            message = f"there is no VirtualService {name} without hosts: the rule takes nothing"
            yield diagnostic_about(root.id, "unknown-delegate", path, message)
        elif not exported(found.export_to, root.namespace):
            message = f"{found.id} is not exported to {root.namespace}: the rule takes nothing"
            yield diagnostic_about(root.id, "unknown-delegate", path, message, f"add {root.namespace} to its exportTo")
        else:
            for part in found.http:
                if joined_matches(_anywhere(rule.match), _anywhere(part.spec.match)) is None:
                    message = f"no match here is within that of {root.id} {path}: there this rule takes nothing"
                    yield diagnostic_about(found.id, "delegate-conflict", f"spec.http[{part.index}].match", message)


def _anywhere(matches: tuple[HTTPMatchRequest, ...]) -> tuple[HTTPMatchRequest, ...]:
    """Gateways apart, whose names are not resolved in what a root's author wrote."""
    return tuple(replace(match, gateways=()) for match in matches)


def _ungranted(route: Resource[HTTPRoute], grants: tuple[Resource[ReferenceGrant], ...]) -> Iterator[Diagnostic]:
    source = (GATEWAY_API, "HTTPRoute", route.namespace)
    for index, rule in enumerate(route.spec.rules):
        for number, backend in enumerate(rule.backend_refs):
            namespace = backend.namespace or route.namespace
            if not is_granted(grants, source, backend, namespace):
                message = f"no ReferenceGrant of {namespace} allows this: the route answers 500 for this backend"
                yield diagnostic_about(route.id, "not-granted", f"spec.rules[{index}].backendRefs[{number}]", message)
