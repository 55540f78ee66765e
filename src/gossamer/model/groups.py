"""WorkloadGroups: what a registered workload has of the group that it says it belongs to.

Invariant: a group adds what a workload leaves unsaid and changes nothing that it says; one whose service account is not
the workload's own is not its group.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from gossamer.api.resource import Resource
from gossamer.api.workload_group import WorkloadGroup
from gossamer.core.frozen import EMPTY, FrozenMap
from gossamer.model.place import locality_of
from gossamer.model.proxy import Proxy
from gossamer.model.service import Workload

Groups = FrozenMap[tuple[str, str], Resource[WorkloadGroup]]
"""By namespace and name."""
W = TypeVar("W", Workload, Proxy)


def build_groups(resources: tuple[Resource[WorkloadGroup], ...]) -> Groups:
    """All WorkloadGroups."""
    return FrozenMap({(resource.namespace, resource.name): resource for resource in resources})


def grouped_workload(workload: Workload, groups: Groups) -> Workload:
    """The workload with its group's labels, ports, place and weight, as Istio's entry for it would have them."""
    group = _group_of(workload, groups)
    if group is None:
        return workload
    template = group.spec.template
    return replace(
        _placed(workload, group),
        service_ports=FrozenMap({**template.ports, **workload.service_ports}),
        weight=workload.weight or template.weight,
    )


def grouped_proxy(proxy: Proxy, groups: Groups) -> Proxy:
    """The proxy with its group's labels and place: what selects the workload selects it by them too."""
    group = _group_of(proxy, groups)
    return proxy if group is None else _placed(proxy, group)


def _group_of(workload: Workload | Proxy, groups: Groups) -> Resource[WorkloadGroup] | None:
    group = groups.get((workload.namespace, workload.group)) if workload.group else None
    account = group.spec.template.service_account if group is not None else ""
    return group if account in ("", workload.service_account) else None


def _placed(workload: W, group: Resource[WorkloadGroup]) -> W:
    template, metadata = group.spec.template, group.spec.metadata
    labels = FrozenMap({**(metadata.labels if metadata else EMPTY), **template.labels, **workload.labels})
    return replace(
        workload,
        labels=labels,
        network=workload.network or template.network,
        locality=workload.locality or template.locality or locality_of(labels),
    )
