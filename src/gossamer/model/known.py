"""The workloads that are known by name of their labels: what a selector can be held against.

Invariant: nobody is asked; a workload that neither documents nor the caller tell of is not known here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gossamer.api.config import Config
from gossamer.core.frozen import EMPTY, FrozenMap
from gossamer.core.memo import Memo
from gossamer.model.service import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A workload, by what selectors go by."""

    namespace: str
    labels: FrozenMap[str, str]
    gateway: bool = False


def known_workloads(config: Config, running: tuple[Workload, ...], memo: Memo) -> tuple[Known, ...]:
    """Those of Deployments, WorkloadEntries and WorkloadGroups, and those that run."""
    return memo.keep("", _joined, memo.keep("", _declared, config), memo.keep("", _running, running))


def _joined(one: tuple[Known, ...], other: tuple[Known, ...]) -> tuple[Known, ...]:
    return _unique((*one, *other))


def _running(workloads: tuple[Workload, ...]) -> tuple[Known, ...]:
    return _unique(Known(namespace=one.namespace, labels=one.labels, gateway=one.router) for one in workloads)


def _declared(config: Config) -> tuple[Known, ...]:
    found = [Known(namespace=r.namespace, labels=r.spec.template.metadata.labels) for r in config.deployments]
    found += [
        Known(namespace=r.namespace, labels=FrozenMap({**r.labels, **r.spec.labels})) for r in config.workload_entries
    ]
    for group in config.workload_groups:
        meta = group.spec.metadata
        labels = FrozenMap({**(meta.labels if meta else EMPTY), **group.spec.template.labels})
        found.append(Known(namespace=group.namespace, labels=labels))
    return _unique(found)


def _unique(found: Iterable[Known]) -> tuple[Known, ...]:
    return tuple(dict.fromkeys(found))
