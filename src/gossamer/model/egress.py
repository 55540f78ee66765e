"""Where a sidecar takes in its workload's calls: route tables and binds, of everything or of its Sidecar's listeners.

Invariant: no two tables have one name and no two binds one address and port, whatever listeners a Sidecar has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from gossamer.core.memo import Memo
from gossamer.model.binds import bind_at, build_binds
from gossamer.model.names import split_service
from gossamer.model.route_tables import build_route_tables, rest_of
from gossamer.model.routing import Client, EgressListener
from gossamer.model.service import Protocol
from gossamer.model.settings import MeshSettings
from gossamer.model.sight import Sight
from gossamer.model.view import Bind, HostRoutes, OutboundService, Rest, RouteTable

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True, kw_only=True)
class Egress:
    """Tables and binds of redirected traffic, and those of what is opened."""

    tables: tuple[RouteTable, ...] = ()
    binds: tuple[Bind, ...] = ()
    opened: tuple[Bind, ...] = ()
    opened_tables: tuple[RouteTable, ...] = ()


def build_egress(
    sights: tuple[tuple[EgressListener, Sight], ...], client: Client, settings: MeshSettings, memo: Memo
) -> Egress:
    """What listeners take in; of two that claim one place the first has it."""
    tables: dict[str, RouteTable] = {}
    binds: dict[tuple[int, str], Bind] = {}
    opened: dict[tuple[int, str], Bind] = {}
    opened_tables: dict[str, RouteTable] = {}
    for listener, sight in sights:
        found, places = _of_listener(listener, sight, client, settings, memo)
        if listener.opened:
            _join(opened, {(bind.port, bind.address): bind for bind in places})
            _join(opened_tables, {table.name: table for table in found})
        else:
            _join(binds, {(bind.port, bind.address): bind for bind in places})
            _join(tables, {table.name: table for table in found})
    return Egress(
        tables=tuple(tables.values()),
        binds=tuple(binds[key] for key in sorted(binds)),
        opened=tuple(opened[key] for key in sorted(opened)),
        opened_tables=tuple(opened_tables.values()),
    )


def _join(known: dict[K, V], found: Mapping[K, V]) -> None:
    for key, value in found.items():
        known.setdefault(key, value)


def _of_listener(
    listener: EgressListener, sight: Sight, client: Client, settings: MeshSettings, memo: Memo
) -> tuple[tuple[RouteTable, ...], tuple[Bind, ...]]:
    asking = client.namespace if _has_short_names(sight.services, settings.domain) else ""
    tables = memo.keep(asking, build_route_tables, sight, asking, settings, memo)
    if listener.bind:
        return _bound(listener, sight, tables, settings)
    others = any(host.service is None for table in tables for host in table.hosts)
    return tables, memo.keep("", build_binds, sight, allocated=client.allocated, six=client.six, other_hosts=others)


def _has_short_names(services: Iterable[OutboundService], domain: str) -> bool:
    """Whether the client's namespace decides what any of these services may be called."""
    return any(split_service(outbound.service.hostname, domain) for outbound in services)


def _bound(
    listener: EgressListener, sight: Sight, tables: tuple[RouteTable, ...], settings: MeshSettings
) -> tuple[tuple[RouteTable, ...], tuple[Bind, ...]]:
    """A listener at an address of its Sidecar's choice: one bind, and one table of all that speaks HTTP there."""
    name = f"{listener.bind}_{listener.port}" if listener.port else listener.bind
    hosts = [host for table in tables if table.name == str(table.port) for host in table.hosts]
    if not listener.port:
        hosts = _any_port(hosts)
    reads = listener.protocol.is_http or listener.protocol is Protocol.AUTO
    table = RouteTable(
        name=name,
        port=listener.port,
        hosts=tuple(hosts),
        rest=_rest(listener, settings),
        with_ports=not listener.port,
    )
    bind = Bind(
        address=listener.bind,
        port=listener.port,
        table=name if reads else "",
        opened=listener.opened,
        origin=listener.origin,
    )
    return (table,) if reads else (), (bind if listener.protocol.is_http else bind_at(sight, bind),)


def _any_port(hosts: list[HostRoutes]) -> list[HostRoutes]:
    """Hosts as they are asked for on a UNIX socket, which has no port: by `host:port`, or by the name alone, which
    means the service's port 80, else its first."""
    first: dict[str, int] = {}
    for host in sorted(hosts, key=lambda host: (host.port != 80, host.port)):
        first.setdefault(host.host, host.port)
    found = []
    for host in hosts:
        names = (host.host, *host.aliases)
        aliases = [f"{name}:{host.port}" for name in names[1:]]
        aliases += names if first[host.host] == host.port else ()
        found.append(replace(host, host=f"{host.host}:{host.port}", aliases=tuple(aliases)))
    return found


def _rest(listener: EgressListener, settings: MeshSettings) -> Rest:
    """Whoever calls an open listener dialled it: there is no other address to let an unknown request go on to."""
    rest = rest_of(settings)
    if listener.opened and rest is Rest.ALLOW and settings.outbound.egress_proxy is None:
        return Rest.BLOCK
    return rest
