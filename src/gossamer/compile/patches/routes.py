"""Patches of a route table, its virtual hosts and their routes.

Invariant: a table keeps its name, by which its listeners ask for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from envoy.config.route.v3.route_components_pb2 import Route, VirtualHost
from envoy.config.route.v3.route_pb2 import RouteConfiguration

from gossamer.api.envoy_filter import ApplyTo, Operation, PatchContext, RouteAction, RouteMatch, VirtualHostMatch
from gossamer.compile.patches.lists import edit
from gossamer.compile.patches.patch import MERGES, Patch, Place

ROUTE_KINDS: Final = frozenset({ApplyTo.ROUTE_CONFIGURATION, ApplyTo.VIRTUAL_HOST, ApplyTo.HTTP_ROUTE})
_ACTIONS: Final = {
    RouteAction.ROUTE: "route",
    RouteAction.REDIRECT: "redirect",
    RouteAction.DIRECT_RESPONSE: "direct_response",
}


def edit_routes(table: RouteConfiguration, patch: Patch, place: Place, context: PatchContext) -> bool:
    """Apply a patch to a table; returns whether anything changed. The caller has seen to its context."""
    if not _table_is_meant(table.name, patch, place, context):
        return False
    if patch.apply_to is ApplyTo.ROUTE_CONFIGURATION:
        if patch.operation not in MERGES:
            return False
        name = table.name
        patch.merged_into(table)
        table.name = name
        return True
    asked = patch.routes.vhost or VirtualHostMatch()
    if patch.apply_to is ApplyTo.VIRTUAL_HOST:
        return _edit_hosts(table, patch, place)
    changed = [_edit_host(host, patch, asked.route or RouteMatch()) for host in _hosts(table, asked, place)]
    return any(changed)


def _edit_hosts(table: RouteConfiguration, patch: Patch, place: Place) -> bool:
    value: Any = patch.value
    if patch.operation is Operation.ADD:
        table.virtual_hosts.append(value)
        return True
    meant = list(_hosts(table, patch.routes.vhost or VirtualHostMatch(), place))
    if patch.operation in MERGES:
        for host in meant:
            patch.merged_into(host)
    elif patch.operation is Operation.REMOVE:
        kept = [_copy(host) for host in table.virtual_hosts if not any(host is other for other in meant)]
        del table.virtual_hosts[:]
        table.virtual_hosts.extend(kept)
    else:
        return False
    return bool(meant)


def _copy(host: VirtualHost) -> VirtualHost:
    copied = VirtualHost()
    copied.CopyFrom(host)
    return copied


def _hosts(table: RouteConfiguration, asked: VirtualHostMatch, place: Place) -> Iterator[VirtualHost]:
    for host in table.virtual_hosts:
        if _is_named(host.name, asked.name, place) and (not asked.domain_name or asked.domain_name in host.domains):
            yield host


def _is_named(name: str, wanted: str, place: Place) -> bool:
    """Whether a virtual host has this name. Of an inbound one (`inbound|http|PORT`) the port may be its service's."""
    if wanted in ("", name):
        return True
    before, _, port = name.rpartition("|")
    asked_before, _, asked_port = wanted.rpartition("|")
    same = bool(before) and before == asked_before and port.isdecimal() and asked_port.isdecimal()
    return same and place.is_port(int(port), int(asked_port))


def _edit_host(host: VirtualHost, patch: Patch, asked: RouteMatch) -> bool:
    named = bool(asked.name) or asked.action is not RouteAction.ANY
    found = [index for index, route in enumerate(host.routes) if _is_meant(route, asked)]
    if patch.operation is Operation.ADD:
        return False  # as Istio has it: the place of a route matters, so it is inserted
    if patch.operation in MERGES:
        for index in found:
            patch.merged_into(host.routes[index])
        return bool(found)
    if patch.operation is Operation.REMOVE:
        for index in reversed(found):
            del host.routes[index]
        return bool(found)
    place = (found[0], found[-1]) if found and named else None
    return edit(host.routes, patch, place, named=named, end=len(host.routes))


def _is_meant(route: Route, asked: RouteMatch) -> bool:
    action = _ACTIONS.get(asked.action)
    return asked.name in ("", route.name) and (action is None or route.WhichOneof("action") == action)


def _table_is_meant(name: str, patch: Patch, place: Place, context: PatchContext) -> bool:
    asked = patch.routes
    if asked.name not in ("", name) or not place.is_port(_port(name, context), asked.port_number):
        return False
    if context is not PatchContext.GATEWAY or not (asked.port_name or asked.gateway):
        return True
    # a table of one server with TLS names it: https.PORT.PORTNAME.GATEWAY.NAMESPACE
    if not name.startswith("https."):
        return False
    _, _, rest = name.removeprefix("https.").partition(".")
    before, _, namespace = rest.rpartition(".")
    port_name, _, gateway = before.partition(".")
    return asked.port_name in ("", port_name) and asked.gateway in ("", f"{namespace}/{gateway}")


def _port(name: str, context: PatchContext) -> int:
    """The port that a table is for, by its name: `80`, `host:80`, `http.80`, `https.443.…`, `inbound|80||`."""
    if context is PatchContext.GATEWAY:
        text = (*name.split("."), "")[1]
    elif context is PatchContext.SIDECAR_INBOUND:
        text = (*name.split("|"), "")[1]
    else:
        text = name.rpartition(":")[2]
    return int(text) if text.isdecimal() else 0
