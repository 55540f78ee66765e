"""Patches of a listener and of all that is inside it: chains, listener filters, filters, routes that stand inline.

Invariant: patches are applied in their order, each to what the ones before it left.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from envoy.config.core.v3.base_pb2 import INBOUND
from envoy.config.listener.v3.listener_components_pb2 import FilterChain
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)

from gossamer.api.envoy_filter import ApplyTo, Operation, PatchContext
from gossamer.compile.draft import pack
from gossamer.compile.hcm import MANAGER
from gossamer.compile.patches.filters import chosen, edit_http_filters, edit_network_filters
from gossamer.compile.patches.lists import edit
from gossamer.compile.patches.patch import MERGES, Patch, Place
from gossamer.compile.patches.routes import ROUTE_KINDS, edit_routes

LISTENER_KINDS: Final = frozenset({
    ApplyTo.LISTENER, ApplyTo.LISTENER_FILTER, ApplyTo.FILTER_CHAIN, ApplyTo.NETWORK_FILTER, ApplyTo.HTTP_FILTER,
})  # fmt: skip
INBOUND_PORT: Final = 15006
_VIRTUAL_INBOUND: Final = "virtualInbound"
_MESH: Final = "meshInbound"
"""The first word of the names of listeners that take the place of `virtualInbound` between sidecars."""


def context_of(listener: Listener, place: Place) -> PatchContext:
    """For whom Istio says that a listener is."""
    if place.gateway:
        return PatchContext.GATEWAY
    if listener.traffic_direction == INBOUND:
        return PatchContext.SIDECAR_INBOUND
    return PatchContext.SIDECAR_OUTBOUND


def patched_listener(listener: Listener, patches: Iterable[Patch], place: Place) -> tuple[Listener | None, list[Patch]]:
    """The listener with its patches (None: removed), and which of them changed anything."""
    applied: list[Patch] = []
    context = context_of(listener, place)
    for patch in patches:
        if not patch.is_for(context):
            continue
        if patch.apply_to in ROUTE_KINDS:
            changed = _edit_inline_routes(listener, patch, place, context)
        elif patch.apply_to in LISTENER_KINDS and _is_meant(listener, patch, place):
            if patch.apply_to is ApplyTo.LISTENER and patch.operation is Operation.REMOVE:
                return None, [*applied, patch]
            changed = _edit(listener, patch, place)
        else:
            continue
        if changed:
            applied.append(patch)
    return listener, applied


def _edit(listener: Listener, patch: Patch, place: Place) -> bool:
    if patch.apply_to is ApplyTo.LISTENER:
        if patch.operation not in MERGES:
            return False
        name = listener.name
        patch.merged_into(listener)
        listener.name = name
        return True
    if patch.apply_to is ApplyTo.LISTENER_FILTER:
        wanted = patch.listener.listener_filter
        filters = listener.listener_filters
        found = chosen(filters, wanted)
        return edit(filters, patch, found, named=bool(wanted), end=len(filters))
    if patch.apply_to is ApplyTo.FILTER_CHAIN:
        return _edit_chains(listener, patch, place)
    changed = False
    for chain in _meant_chains(listener, patch, place):
        one = edit_network_filters if patch.apply_to is ApplyTo.NETWORK_FILTER else edit_http_filters
        changed |= one(chain.filters, patch)
    return changed


def _edit_chains(listener: Listener, patch: Patch, place: Place) -> bool:
    if patch.operation is Operation.ADD:
        value: Any = patch.value
        listener.filter_chains.append(value)
        return True
    meant = list(_meant_chains(listener, patch, place))
    if patch.operation in MERGES:
        for chain in meant:
            patch.merged_into(chain)
    elif patch.operation is Operation.REMOVE:
        if listener.HasField("default_filter_chain") and any(chain is listener.default_filter_chain for chain in meant):
            listener.ClearField("default_filter_chain")
        kept = [chain for chain in listener.filter_chains if not any(chain is other for other in meant)]
        copies = [FilterChain.FromString(chain.SerializeToString()) for chain in kept]
        del listener.filter_chains[:]
        listener.filter_chains.extend(copies)
    else:
        return False
    return bool(meant)


def chains_of(listener: Listener) -> Iterator[FilterChain]:
    """The filter chains of a listener, the default one last."""
    yield from listener.filter_chains
    if listener.HasField("default_filter_chain"):
        yield listener.default_filter_chain


def _meant_chains(listener: Listener, patch: Patch, place: Place) -> Iterator[FilterChain]:
    return (chain for chain in chains_of(listener) if _chain_is_meant(listener, chain, patch, place))


def _chain_is_meant(listener: Listener, chain: FilterChain, patch: Patch, place: Place) -> bool:
    match, asked, wanted = chain.filter_chain_match, patch.chain, patch.listener.port_number
    port = match.destination_port.value or _mesh_port(listener)
    protocols = [name.strip() for name in asked.application_protocols.split(",") if name.strip()]
    return (
        asked.name in ("", chain.name)
        and (not asked.sni or asked.sni in match.server_names)
        and asked.transport_protocol in ("", match.transport_protocol)
        and set(protocols) <= set(match.application_protocols)
        and asked.destination_port in (0, port)
        and asked.transport_socket in ("", chain.transport_socket.name)
        # the one listener of all inbound ports has a chain for each
        and (not _is_inbound_capture(listener) or wanted == INBOUND_PORT or place.is_port(port, wanted))
    )


def _is_inbound_capture(listener: Listener) -> bool:
    return listener.name == _VIRTUAL_INBOUND


def _mesh_port(listener: Listener) -> int:
    """The workload's port that a listener for other sidecars is for; 0 for all other listeners."""
    before, _, number = listener.name.partition("|")
    return int(number) if before == _MESH and number.isdecimal() else 0


def _is_meant(listener: Listener, patch: Patch, place: Place) -> bool:
    asked, port = patch.listener, listener.address.socket_address.port_value
    inbound = (_VIRTUAL_INBOUND,) if _mesh_port(listener) else ()
    if asked.name not in ("", listener.name, *inbound):
        return False
    if listener.HasField("udp_listener_config") and asked.name != listener.name:
        return False  # Istio's agent answers for names where a listener does here: people's patches know none
    if _is_inbound_capture(listener) and patch.apply_to not in (ApplyTo.LISTENER, ApplyTo.LISTENER_FILTER):
        return True  # its chains are asked for their ports
    return place.is_port(port, asked.port_number) or (bool(inbound) and asked.port_number == INBOUND_PORT)


def _edit_inline_routes(listener: Listener, patch: Patch, place: Place, context: PatchContext) -> bool:
    """Route tables that a connection manager holds itself, as on the inbound side."""
    changed = False
    for chain in chains_of(listener):
        for item in chain.filters:
            if item.name != MANAGER:
                continue
            manager = HttpConnectionManager.FromString(item.typed_config.value)
            if manager.HasField("route_config") and edit_routes(manager.route_config, patch, place, context):
                item.typed_config.CopyFrom(pack(manager))
                changed = True
    return changed
