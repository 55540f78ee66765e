"""What the proxies of one kind of client see of others: services with their policies, and the hosts that routes serve.

Invariant: equal sights are one object, whoever has them, so that what is compiled from them is compiled once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from gossamer.core.frozen import FrozenMap
from gossamer.core.memo import Memo
from gossamer.model.binds import build_binds
from gossamer.model.destinations import Destinations, destination_for
from gossamer.model.mesh import Mesh
from gossamer.model.names import exported, split_service
from gossamer.model.route_tables import build_route_tables
from gossamer.model.routing import MESH, Client, Routing, loaded
from gossamer.model.service import Service
from gossamer.model.view import Bind, Outbound, OutboundService, RouteTable

T = TypeVar("T")


def build_outbound(
    mesh: Mesh, accounts: FrozenMap[tuple[str, str], tuple[str, ...]], client: Client, memo: Memo
) -> Outbound:
    """The outbound sight of a client; `accounts` are who answers for each service, by hostname and namespace."""
    visible = shared(memo.keep(client.namespace, _visible, mesh.services.all, client.namespace), memo)
    root = mesh.settings.root_namespace
    services = shared(
        memo.keep(client, _with_policies, visible, mesh.destinations, accounts, client, root, memo=memo), memo
    )
    routings = shared(memo.keep(client, _routings, mesh.routings, client, memo), memo)
    tables: tuple[RouteTable, ...] = ()
    binds: tuple[Bind, ...] = ()
    if MESH in client.gateways:
        named = memo.keep("", _has_short_names, services, mesh.settings.domain)
        asking = client.namespace if named else ""
        tables = memo.keep(asking, build_route_tables, services, routings, asking, mesh.settings, memo)
        others = any(host.service is None for table in tables for host in table.hosts)
        binds = memo.keep("", build_binds, services, routings, allocated=client.allocated, other_hosts=others)
    return memo.keep(client, Outbound, client=client, services=services, routings=routings, tables=tables, binds=binds)


def shared(value: T, memo: Memo) -> T:
    """The same object for equal values, however they were come by."""
    return memo.keep("", _same, value)


def _same(value: T) -> T:
    return value


def _has_short_names(services: Iterable[OutboundService], domain: str) -> bool:
    """Whether the client's namespace decides what any of these services may be called."""
    return any(split_service(outbound.service.hostname, domain) for outbound in services)


def _visible(services: Iterable[Service], namespace: str) -> tuple[Service, ...]:
    """The services exported to a namespace, one for each hostname: the namespace's own, else Kubernetes' own, else the
    oldest."""
    chosen: dict[str, Service] = {}
    for service in services:
        if not exported(service.export_to, namespace) and service.namespace != namespace:
            continue
        known = chosen.get(service.hostname)
        if known is None or _preference(service, namespace) < _preference(known, namespace):
            chosen[service.hostname] = service
    return tuple(chosen.values())


def _preference(service: Service, namespace: str) -> tuple[bool, bool, str, str]:
    return (service.namespace != namespace, not service.kubernetes, service.created, service.namespace)


def _with_policies(
    visible: Iterable[Service],
    destinations: Destinations,
    accounts: Mapping[tuple[str, str], tuple[str, ...]],
    client: Client,
    root: str,
    *,
    memo: Memo,
) -> tuple[OutboundService, ...]:
    return tuple(
        memo(
            OutboundService,
            service=service,
            destination=destination_for(destinations, service, client, root),
            accounts=accounts.get(service.key, ()),
        )
        for service in visible
    )


def _routings(routings: Iterable[Routing], client: Client, memo: Memo) -> tuple[Routing, ...]:
    return tuple(_some(memo(loaded, routing, client) for routing in routings))


def _some(values: Iterable[T | None]) -> Iterator[T]:
    return (value for value in values if value is not None)
