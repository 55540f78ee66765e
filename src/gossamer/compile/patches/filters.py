"""Patches of filters: of network filters in a chain, and of HTTP filters in a connection manager.

Istio's names of filters are understood: those of old configurations, and those of filters that have another shape here.
A chain's policies stand in slots whose content comes by ECDS: `envoy.filters.http.rbac` and its like find the slots, as
places before or after which to insert.

Invariant: no patch takes a policy slot away or changes it. What may reach a workload is said by policies alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from envoy.config.listener.v3.listener_components_pb2 import Filter
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
    HttpFilter,
)

from gossamer.api.envoy_filter import FilterClass, Operation
from gossamer.compile.draft import pack
from gossamer.compile.hcm import ALPN_FILTER, MANAGER
from gossamer.compile.patches.lists import Place, edit
from gossamer.compile.patches.patch import INSERTS, MERGES, Patch
from gossamer.compile.patches.value import type_of
from gossamer.compile.policies.slots import HTTP_SLOTS, TCP_SLOTS, Slot

_RBAC: Final = (Slot.HTTP_DENY, Slot.HTTP_ALLOW)
_OTHER_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "envoy.filters.http.jwt_authn": (Slot.HTTP_JWT,),
    "istio_authn": (Slot.HTTP_JWT,),
    "envoy.filters.http.ext_authz": (Slot.HTTP_CUSTOM_AUTHORIZER,),
    "envoy.filters.network.ext_authz": (Slot.TCP_CUSTOM_AUTHORIZER,),
    "envoy.filters.http.rbac": _RBAC,
    "envoy.filters.network.rbac": TCP_SLOTS,
    "istio.alpn": (ALPN_FILTER,),
    "envoy.router": ("envoy.filters.http.router",),
    "envoy.cors": ("envoy.filters.http.cors",),
    "envoy.fault": ("envoy.filters.http.fault",),
    "envoy.http_connection_manager": (MANAGER,),
    "envoy.tcp_proxy": ("envoy.filters.network.tcp_proxy",),
    "envoy.listener.tls_inspector": ("envoy.filters.listener.tls_inspector",),
    "envoy.listener.original_dst": ("envoy.filters.listener.original_dst",),
}
_SLOTS: Final = frozenset({*HTTP_SLOTS, *TCP_SLOTS})
_LAST: Final = {
    FilterClass.AUTHN: frozenset({Slot.HTTP_JWT}),
    FilterClass.AUTHZ: _SLOTS,
}
"""After which slots the filters of a class stand."""


def protected(name: str) -> bool:
    """Whether this is a name of a policy slot, in our words or in Istio's."""
    return bool(_SLOTS & {name, *_OTHER_NAMES.get(name, ())})


def edit_network_filters(filters: Any, patch: Patch) -> bool:
    """Apply a NETWORK_FILTER patch to a chain's filters."""
    wanted = patch.chain.filter.name if patch.chain.filter else ""
    return _edit(filters, patch, wanted)


def edit_http_filters(filters: Any, patch: Patch) -> bool:
    """Apply an HTTP_FILTER patch to the HTTP filters of a chain's connection managers."""
    match = patch.chain.filter
    changed = False
    for item in filters:
        if item.name != MANAGER or not is_named(item.name, match.name if match else ""):
            continue
        manager = HttpConnectionManager.FromString(item.typed_config.value)
        wanted = match.sub_filter.name if match and match.sub_filter else ""
        if _edit(manager.http_filters, patch, wanted):
            item.typed_config.CopyFrom(pack(manager))
            changed = True
    return changed


def is_named(name: str, wanted: str) -> bool:
    """Whether a filter has this name, in whatever generation's words; an empty name is every filter's."""
    return wanted in ("", name) or name in _OTHER_NAMES.get(wanted, ())


def chosen(filters: Sequence[Any], wanted: str) -> Place | None:
    """The filters of this name: where the first and the last of them stand."""
    found = [index for index, item in enumerate(filters) if wanted and is_named(item.name, wanted)]
    return (found[0], found[-1]) if found else None


def _edit(filters: Any, patch: Patch, wanted: str) -> bool:
    place = chosen(filters, wanted)
    if patch.operation in MERGES and not wanted:
        place = (0, len(filters) - 1)
    if place is None and wanted and patch.operation is not Operation.ADD:
        return False
    if patch.operation not in INSERTS and patch.operation is not Operation.ADD and _touches_slot(filters, place, patch):
        return False
    end = max(len(filters) - 1, 0)
    if patch.operation is Operation.ADD:
        end = _class_end(filters, patch.filter_class, end)
    return edit(filters, patch, place, named=bool(wanted), end=end, merged=lambda item: _merged(item, patch))


def _touches_slot(filters: Sequence[Any], place: Place | None, patch: Patch) -> bool:
    if place is None or patch.operation in MERGES:
        return False
    return any(item.name in _SLOTS for item in filters[place[0] : place[1] + 1])


def _class_end(filters: Sequence[Any], filter_class: FilterClass, end: int) -> int:
    """Where a filter of a class is added: after the policies that it asks for, else before the one that ends the
    chain."""
    if filter_class not in _LAST:
        return end
    before = [index for index, item in enumerate(filters) if item.name in _LAST[filter_class]]
    return before[-1] + 1 if before else 0


def _merged(item: Filter | HttpFilter, patch: Patch) -> bool:
    """Lay a patch over a filter, if it is one for it: of its name or type, where the match names none."""
    if item.name in _SLOTS:
        return False
    value: Any = patch.value
    if value.HasField("typed_config") and item.HasField("typed_config"):
        if type_of(value.typed_config) != type_of(item.typed_config):
            return False
    elif value.name and not is_named(item.name, value.name):
        return False
    name = item.name
    patch.merged_into(item)
    item.name = name
    return True
