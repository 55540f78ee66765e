"""Namespaces by their labels: which of them the mesh reads (`discoverySelectors`), and whose ServiceEntries are seen
where (`serviceEntryVisibility`).

Invariant: what a namespace that is not read declares of traffic is as if it were not there. Its security policies hold
all the same: a selector can hide a service, never open one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from gossamer.api.config import Config
from gossamer.api.gateway_api.gateway import LabelSelector as NamespaceSelector
from gossamer.api.gateway_api.gateway import LabelSelectorRequirement, SelectorOperator
from gossamer.api.mesh_config import LabelSelector, ServiceEntryVisibility, Visibility
from gossamer.api.resource import Resource
from gossamer.api.service_entry import ServiceEntry
from gossamer.model.namespaces import Labels, namespace_labels, selects

S = TypeVar("S")


def discovered(config: Config) -> Config:
    """The configuration as far as its `discoverySelectors` let it be read (the root namespace always is), with
    ServiceEntries seen no further than `serviceEntryVisibility` says where sidecars are to heed it."""
    selectors, policy = config.mesh.discovery_selectors, config.mesh.service_entry_visibility
    known = namespace_labels(config.namespaces)
    if policy is not None and policy.apply_to_sidecars:
        config = replace(config, service_entries=_visible(policy, config.service_entries, known))
    return _read(config, selectors, known) if selectors else config


def _read(config: Config, selectors: tuple[LabelSelector, ...], known: Labels) -> Config:
    read: dict[str, bool] = {config.mesh.root_namespace: True}

    def of_read(resources: tuple[Resource[S], ...]) -> tuple[Resource[S], ...]:
        for resource in resources:
            if resource.namespace not in read:
                read[resource.namespace] = any(_selects(one, resource.namespace, known) for one in selectors)
        return tuple(resource for resource in resources if read[resource.namespace])

    return replace(
        config,
        services=of_read(config.services),
        endpoint_slices=of_read(config.endpoint_slices),
        service_entries=of_read(config.service_entries),
        workload_entries=of_read(config.workload_entries),
        virtual_services=of_read(config.virtual_services),
        destination_rules=of_read(config.destination_rules),
        gateways=of_read(config.gateways),
        k8s_gateways=of_read(config.k8s_gateways),
        sidecars=of_read(config.sidecars),
        http_routes=of_read(config.http_routes),
        ingresses=of_read(config.ingresses),
    )


def _selects(selector: LabelSelector, namespace: str, known: Labels) -> bool:
    """Whether a selector of MeshConfig, whose operators are words that were checked when they were read, means a
    namespace."""
    expressions = tuple(
        LabelSelectorRequirement(key=one.key, operator=SelectorOperator(one.operator), values=one.values)
        for one in selector.match_expressions
    )
    return selects(
        NamespaceSelector(match_labels=selector.match_labels, match_expressions=expressions), namespace, known
    )


def _visible(
    policy: ServiceEntryVisibility, entries: tuple[Resource[ServiceEntry], ...], known: Labels
) -> tuple[Resource[ServiceEntry], ...]:
    """The ServiceEntries as far as `serviceEntryVisibility` lets them be seen."""
    found = []
    for resource in entries:
        visibility = _visibility(policy, resource.namespace, known)
        if visibility is Visibility.NAMESPACE:
            found.append(replace(resource, spec=replace(resource.spec, export_to=(".",))))
        elif visibility is not Visibility.NONE:
            found.append(resource)
    return tuple(found)


def _visibility(policy: ServiceEntryVisibility, namespace: str, known: Labels) -> Visibility:
    """That of the first policy all of whose rules match."""
    for one in policy.policies:
        if all(
            r.namespace_selector is None or _selects(r.namespace_selector, namespace, known) for r in one.matching_rules
        ):
            return one.visibility
    return policy.default_visibility
