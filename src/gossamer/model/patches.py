"""Which EnvoyFilters change the configuration of a proxy, and in which order their patches are applied.

Invariant: proxies that the same patches select get one equal tuple, so that what is patched is patched once for all of
them; a proxy that none selects gets the empty one. Order and selection are Istio's: the root namespace's before the
workload's own, each by priority, age and name, patches of one resource as they are written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gossamer.api.envoy_filter import ApplyTo, EnvoyConfigObjectPatch, EnvoyFilter, PatchContext, ProxyMatch
from gossamer.api.resource import Resource
from gossamer.core.frozen import EMPTY, FrozenMap, Value
from gossamer.core.ids import Origin
from gossamer.model.attachment import is_attached
from gossamer.model.node_metadata import matches_metadata, matches_version
from gossamer.model.proxy import Proxy, ProxyType

_CONTEXTS = {
    ProxyType.SIDECAR: (PatchContext.ANY, PatchContext.SIDECAR_INBOUND, PatchContext.SIDECAR_OUTBOUND),
    ProxyType.ROUTER: (PatchContext.ANY, PatchContext.GATEWAY),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SelectedPatch(Value):
    """One item of `spec.configPatches`, as its author wrote it."""

    origin: Origin
    spec: EnvoyConfigObjectPatch


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PatchIndex(Value):
    """The mesh's EnvoyFilters by namespace, each namespace's in the order in which they are applied."""

    root_namespace: str = ""
    filters: FrozenMap[str, tuple[Resource[EnvoyFilter], ...]] = EMPTY

    def for_proxy(self, proxy: Proxy, metadata: Mapping[str, str]) -> tuple[SelectedPatch, ...]:
        """The patches of a proxy, first applied first; those of its bootstrap are not among them."""
        return tuple(p for p in self._selected(proxy, metadata) if p.spec.apply_to is not ApplyTo.BOOTSTRAP)

    def for_bootstrap(self, proxy: Proxy, metadata: Mapping[str, str]) -> tuple[SelectedPatch, ...]:
        """The patches of what the proxy is started with."""
        return tuple(p for p in self._selected(proxy, metadata) if p.spec.apply_to is ApplyTo.BOOTSTRAP)

    def _selected(self, proxy: Proxy, metadata: Mapping[str, str]) -> Iterable[SelectedPatch]:
        if not self.filters:
            return
        for namespace in dict.fromkeys((self.root_namespace, proxy.namespace)):
            for resource in self.filters.get(namespace, ()):
                if self._selects(resource, proxy):
                    yield from _patches_of(resource, proxy.type, metadata)

    def _selects(self, resource: Resource[EnvoyFilter], proxy: Proxy) -> bool:
        spec = resource.spec
        if spec.target_refs:
            return is_attached(spec.target_refs, resource.namespace, proxy, self.root_namespace)
        labels = spec.workload_selector.labels if spec.workload_selector else EMPTY
        return bool(labels.items() <= proxy.labels.items())


def build_patches(filters: tuple[Resource[EnvoyFilter], ...], root_namespace: str) -> PatchIndex:
    """The index of all EnvoyFilters of the mesh."""
    grouped: dict[str, list[Resource[EnvoyFilter]]] = {}
    for resource in sorted(filters, key=lambda r: (r.spec.priority, r.creation, r.name)):
        grouped.setdefault(resource.namespace, []).append(resource)
    return PatchIndex(
        root_namespace=root_namespace,
        filters=FrozenMap({namespace: tuple(group) for namespace, group in grouped.items()}),
    )


def patches_of(resource: Resource[EnvoyFilter]) -> tuple[SelectedPatch, ...]:
    """All patches of one EnvoyFilter, whoever they are for."""
    return tuple(
        SelectedPatch(origin=Origin(resource=resource.id, rule=f"spec.configPatches[{index}]"), spec=spec)
        for index, spec in enumerate(resource.spec.config_patches)
    )


def _patches_of(
    resource: Resource[EnvoyFilter], kind: ProxyType, metadata: Mapping[str, str]
) -> Iterable[SelectedPatch]:
    for selected in patches_of(resource):
        match = selected.spec.match
        context = match.context if match else PatchContext.ANY
        if context in _CONTEXTS[kind] and _is_proxy(match.proxy if match else None, metadata):
            yield selected


def _is_proxy(match: ProxyMatch | None, metadata: Mapping[str, str]) -> bool:
    if match is None:
        return True
    return matches_version(match.proxy_version) and matches_metadata(match.metadata, metadata)
