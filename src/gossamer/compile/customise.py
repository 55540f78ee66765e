"""The last step of compiling: what users change in the tables of a proxy.

Invariant: a proxy that nothing selects is told the very tables that it shares with others. What is shared stays shared
among those with equal changes, as ports that are of one proxy alone are not asked of shared tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gossamer.compile.extended import content_table, extended_tables
from gossamer.compile.patches.patch import Place
from gossamer.compile.patches.patched import added_tables, compile_patches, patched_tables
from gossamer.core.frozen import FrozenMap
from gossamer.core.memo import Memo
from gossamer.core.resources import Table
from gossamer.model.proxy import ProxyType
from gossamer.model.view import ProxyView

Part = tuple[Table, ...]


def customised(parts: list[Part], view: ProxyView, memo: Memo) -> list[Part]:
    """The parts of what a proxy is told, the shared one first, as its extensions and EnvoyFilters have them."""
    if not (view.patches or view.extensions):
        return parts
    gateway = view.proxy.type is ProxyType.ROUTER
    places = [Place(gateway=gateway)]
    places += [Place(gateway=gateway, ports=memo.keep(view.proxy, ports_of, view))] * len(parts)
    if view.extensions:
        parts = [
            extended_tables(part, view.extensions, place, memo) for part, place in zip(parts, places, strict=False)
        ]
        parts.append((memo.keep("", content_table, view.extensions, memo),))
    patches = compile_patches(view.patches, memo)
    if patches:
        parts = [patched_tables(part, patches, place, memo) for part, place in zip(parts, places, strict=False)]
        parts.append(added_tables([table for part in parts for table in part], patches, places[0], memo))
    return parts


def ports_of(view: ProxyView) -> FrozenMap[int, tuple[int, ...]]:
    """By which other numbers people know the ports that a proxy binds or captures."""
    known: dict[int, set[int]] = {}
    for bound, other in _pairs(view):
        if bound != other:
            known.setdefault(bound, set()).add(other)
    return FrozenMap({bound: tuple(sorted(others)) for bound, others in sorted(known.items())})


def _pairs(view: ProxyView) -> Iterable[tuple[int, int]]:
    for port in view.inbound:
        for _, number in port.services:
            yield port.number, number
            if port.number in view.proxy.capture.mesh_ports:
                yield view.proxy.capture.mesh_ports[port.number], number
    for number, bound in view.proxy.capture.mesh_ports.items():
        yield bound, number
    for server in view.opened.servers:
        yield server.port, server.number
    yield from _explicit(view)


def _explicit(view: ProxyView) -> Iterator[tuple[int, int]]:
    for service, local in view.proxy.capture.outbound_ports.items():
        port = service.rpartition(":")[2]
        if port.isdecimal():
            yield local, int(port)
