"""Listeners with the filters of a proxy's extensions in their chains.

Invariant: a pure function of a listener and the extensions; a listener that none of them is for is the same object as
before. A filter's place is its phase's, as Istio documents it: policies and what ends a chain mark the places.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from envoy.config.listener.v3.listener_components_pb2 import Filter, FilterChain
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
    HttpFilter,
)
from google.protobuf import any_pb2

from gossamer.api.envoy_filter import PatchContext
from gossamer.compile.draft import pack
from gossamer.compile.extensions import compile_extension, discovery_of
from gossamer.compile.hcm import MANAGER
from gossamer.compile.patches.listeners import chains_of, context_of
from gossamer.compile.patches.patch import Place
from gossamer.compile.policies.slots import HTTP_SLOTS, TCP_SLOTS, Slot
from gossamer.compile.serialise import resource_from_bytes, resource_of, wire
from gossamer.core.memo import Memo
from gossamer.core.resources import EXTENSION, LISTENER, Reference, Resource, Table
from gossamer.model.extensions import Extension, Phase

Extensions = tuple[Extension, ...]
_AUTHENTICATION: Final = frozenset({Slot.HTTP_JWT})
_POLICIES: Final = frozenset({*HTTP_SLOTS, *TCP_SLOTS})


def extended_tables(tables: Iterable[Table], extensions: Extensions, place: Place, memo: Memo) -> tuple[Table, ...]:
    """The tables with the extensions' filters in their listeners."""
    return tuple(
        memo.keep((extensions, table.type_url), extended_table, table, extensions, place, memo)
        if table.type_url == LISTENER
        else table
        for table in tables
    )


def extended_table(table: Table, extensions: Extensions, place: Place, memo: Memo) -> Table:
    """A table of listeners with the filters; the same object if there are none for them."""
    found = [memo(extended_listener, resource, extensions, place) for resource in table.values()]
    if all(new is old for new, old in zip(found, table.values(), strict=True)):
        return table
    return Table(table.type_url, found)


def content_table(extensions: Extensions, memo: Memo) -> Table:
    """The content of the extensions' filters."""
    return Table(EXTENSION, [resource_of(memo(compile_extension, one), memo) for one in extensions])


def extended_listener(resource: Resource, extensions: Extensions, place: Place) -> Resource:
    """A listener with the filters of those extensions that are for it."""
    listener = Listener.FromString(any_pb2.Any.FromString(resource.body).value)
    client = context_of(listener, place) is PatchContext.SIDECAR_OUTBOUND
    used: dict[Extension, None] = {}
    for chain in chains_of(listener):
        bound = chain.filter_chain_match.destination_port.value or listener.address.socket_address.port_value
        ports = (bound, *place.ports.get(bound, ()))
        for_it = [one for one in extensions if _is_for(one, ports, client=client, gateway=place.gateway)]
        used |= dict.fromkeys(_extend(chain, for_it))
    if not used:
        return resource
    references = resource.references
    if references is not None:
        references |= {Reference(type_url=EXTENSION, name=one.name) for one in used}
    origins = tuple(dict.fromkeys((*resource.origins, *(one.origin for one in used))))
    return resource_from_bytes(LISTENER, resource.name, wire(listener), references, origins)


def _is_for(extension: Extension, ports: tuple[int, ...], *, client: bool, gateway: bool) -> bool:
    """A gateway is both: it serves its callers, and calls others for them."""
    if gateway:
        return extension.is_for(client=True, ports=ports) or extension.is_for(client=False, ports=ports)
    return extension.is_for(client=client, ports=ports)


def _extend(chain: FilterChain, extensions: list[Extension]) -> list[Extension]:
    """Put filters into a chain; returns whose there are now."""
    network = [one for one in extensions if one.network]
    http = [one for one in extensions if not one.network]
    used = []
    for item in chain.filters if http else ():
        if item.name == MANAGER:
            manager = HttpConnectionManager.FromString(item.typed_config.value)
            _insert(manager.http_filters, http, HttpFilter)
            item.typed_config.CopyFrom(pack(manager))
            used = http
    if network and chain.filters:
        _insert(chain.filters, network, Filter)
        used = [*used, *network]
    return used


def _insert(filters: Any, extensions: list[Extension], kind: type[Filter] | type[HttpFilter]) -> None:
    for phase in reversed(Phase):  # what comes later is put in first: phases that begin at one place keep their order
        made = [kind(name=one.name, config_discovery=discovery_of(one)) for one in extensions if one.phase is phase]
        at = _start(filters, phase)
        for offset, item in enumerate(made):
            filters.insert(at + offset, item)


def _start(filters: Sequence[Any], phase: Phase) -> int:
    """Where the filters of a phase begin. Slots of policies stand together, at the front of a chain that has any."""
    slots = [index for index, item in enumerate(filters) if item.name in _POLICIES]
    known = [index for index in slots if filters[index].name in _AUTHENTICATION]
    match phase:
        case Phase.AUTHN:
            return 0
        case Phase.AUTHZ:
            return known[-1] + 1 if known else slots[0] if slots else 0
        case Phase.STATS:
            return slots[-1] + 1 if slots else 0
        case Phase.END:
            return max(len(filters) - 1, 0)
