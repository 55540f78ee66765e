"""Tables as they are after a proxy's patches.

Patches are applied to tables that are already compiled: what proxies without any share is not touched, and proxies with
equal patches share the patched tables as they share the others. A resource that no patch can be for is not opened.

Invariant: a pure function of a resource and the patches; a resource that no patch changed is the same object as before.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from google.protobuf import any_pb2
from google.protobuf.message import Message

from gossamer.api.envoy_filter import ApplyTo, Operation, PatchContext
from gossamer.compile.patches import clusters
from gossamer.compile.patches.filters import protected
from gossamer.compile.patches.listeners import LISTENER_KINDS, patched_listener
from gossamer.compile.patches.patch import MERGES, Patch, Place, compile_patch
from gossamer.compile.patches.routes import ROUTE_KINDS, edit_routes
from gossamer.compile.serialise import resource_from_bytes, wire
from gossamer.core.memo import Memo
from gossamer.core.resources import CLUSTER, EXTENSION, LISTENER, ROUTE, Resource, Table
from gossamer.model.patches import SelectedPatch

Patches = tuple[Patch, ...]
_KINDS: Final[dict[str, frozenset[ApplyTo]]] = {
    LISTENER: LISTENER_KINDS | ROUTE_KINDS,
    ROUTE: ROUTE_KINDS,
    CLUSTER: frozenset({ApplyTo.CLUSTER}),
    EXTENSION: frozenset({ApplyTo.EXTENSION_CONFIG}),
}
_ADDED: Final = {ApplyTo.LISTENER: LISTENER, ApplyTo.CLUSTER: CLUSTER, ApplyTo.EXTENSION_CONFIG: EXTENSION}


def compile_patches(selected: tuple[SelectedPatch, ...], memo: Memo) -> Patches:
    """Those of the patches that can be applied."""
    found = (memo(compile_patch, patch) for patch in selected)
    return tuple(patch for patch in found if patch is not None)


def patched_tables(tables: Iterable[Table], patches: Patches, place: Place, memo: Memo) -> tuple[Table, ...]:
    """The tables with their patches; those of a type that no patch is for are left as they are."""
    return tuple(_patched(table, patches, place, memo) for table in tables)


def _patched(table: Table, patches: Patches, place: Place, memo: Memo) -> Table:
    kinds = _KINDS.get(table.type_url, frozenset())
    ours = tuple(patch for patch in patches if patch.apply_to in kinds)
    return memo.keep((ours, table.type_url), patched_table, table, ours, place, memo) if ours else table


def patched_table(table: Table, patches: Patches, place: Place, memo: Memo) -> Table:
    """One table with the patches of its type: the same object if they change nothing."""
    found = [memo(patched_resource, resource, patches, place) for resource in table.values()]
    if all(new is old for new, old in zip(found, table.values(), strict=True)):
        return table
    return Table(table.type_url, [resource for resource in found if resource is not None])


def patched_resource(resource: Resource, patches: Patches, place: Place) -> Resource | None:
    """A resource with its patches, None if one of them removes it."""
    if resource.type_url == CLUSTER:
        patches = tuple(patch for patch in patches if clusters.is_meant(resource.name, patch, place))
    elif resource.type_url == EXTENSION:
        patches = tuple(patch for patch in patches if _is_extension(resource.name, patch))
    if not patches:
        return resource
    content = any_pb2.Any.FromString(resource.body).value
    message, applied = _apply(resource, content, patches, place)
    if not applied:
        return resource
    if message is None:
        return None
    references = resource.references
    if references is not None:
        references = references.union(*(patch.references for patch in applied))
    origins = tuple(dict.fromkeys((*resource.origins, *(patch.origin for patch in applied))))
    return resource_from_bytes(resource.type_url, resource.name, wire(message), references, origins)


def _apply(resource: Resource, content: bytes, patches: Patches, place: Place) -> tuple[Message | None, list[Patch]]:
    if resource.type_url == LISTENER:
        return patched_listener(Listener.FromString(content), patches, place)
    if resource.type_url == ROUTE:
        table = RouteConfiguration.FromString(content)
        context = PatchContext.GATEWAY if place.gateway else PatchContext.SIDECAR_OUTBOUND
        found = [patch for patch in patches if patch.is_for(context) and edit_routes(table, patch, place, context)]
        return table, found
    message: Any = Cluster() if resource.type_url == CLUSTER else TypedExtensionConfig()
    message.MergeFromString(content)
    applied: list[Patch] = []
    for patch in patches:
        if patch.operation is Operation.REMOVE:
            return None, [*applied, patch]
        if patch.operation in MERGES:
            patch.merged_into(message)
            message.name = resource.name
            applied.append(patch)
    return message, applied


def _is_extension(name: str, patch: Patch) -> bool:
    value: Any = patch.value
    return value.name == name and not protected(name)


def added_tables(tables: Iterable[Table], patches: Patches, place: Place, memo: Memo) -> tuple[Table, ...]:
    """What patches add that nobody had before: listeners, clusters, extension configs. A name that is taken stays whose
    it is."""
    tables = tuple(tables)
    found: dict[str, dict[str, Resource]] = {}
    for index, patch in enumerate(patches):
        if patch.operation is not Operation.ADD or patch.apply_to not in _ADDED:
            continue
        resource = memo(added_resource, patches[index:], place)
        type_url = _ADDED[patch.apply_to]
        if resource is not None and not any(resource.name in t for t in tables if t.type_url == type_url):
            found.setdefault(type_url, {}).setdefault(resource.name, resource)
    return tuple(memo(Table, type_url, tuple(new.values())) for type_url, new in found.items())


def added_resource(patches: Patches, place: Place) -> Resource | None:
    """What the first patch adds, with the others applied to it."""
    first, *others = patches
    value: Any = first.value
    type_url = _ADDED[first.apply_to]
    if not value.name or (type_url == EXTENSION and protected(value.name)):
        return None
    made = resource_from_bytes(type_url, value.name, wire(value), first.references, (first.origin,))
    kinds = _KINDS[type_url]
    return patched_resource(made, tuple(p for p in others if p.apply_to in kinds and p is not first), place)
