"""Selectors that select no workload, as far as workloads are known.

Invariant: where no workload is known that could have been meant, nothing is said. No diagnostic has a position yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gossamer.api.config import Config
from gossamer.api.gateway import Gateway
from gossamer.api.resource import Resource
from gossamer.core.diagnostics import Diagnostic, Diagnostics, diagnostic_about
from gossamer.core.frozen import EMPTY, FrozenMap
from gossamer.core.memo import Memo
from gossamer.model.known import Known
from gossamer.model.settings import build_settings


def check_selectors(config: Config, memo: Memo, known: tuple[Known, ...]) -> Diagnostics:
    """Gateways that no known proxy serves; Sidecars and security policies for workloads that nobody knows."""
    root = memo(build_settings, config.mesh).root_namespace
    others: tuple[Resource[Any], ...] = (
        *config.sidecars,
        *config.authorization_policies,
        *config.request_authentications,
        *config.peer_authentications,
    )
    return (
        *memo.keep("", _unserved, config.gateways, known),
        *memo.keep("", _unselected, others, config.gateways, known, root),
    )


def _unserved(resources: tuple[Resource[Gateway], ...], known: tuple[Known, ...]) -> Diagnostics:
    proxies = [one for one in known if one.gateway]
    return tuple(
        _nothing(resource, "spec.selector", "no gateway that runs has these labels: nobody serves this Gateway")
        for resource in resources
        if proxies and resource.spec.selector and not _selects(resource.spec.selector, proxies)
    )


def _unselected(
    resources: tuple[Resource[Any], ...], gateways: tuple[Resource[Gateway], ...], known: tuple[Known, ...], root: str
) -> Diagnostics:
    of_gateways = frozenset(item for gateway in gateways for item in gateway.spec.selector.items())
    return tuple(_idle(resources, _Workloads(known), root, of_gateways))


class _Workloads:
    """The known ones, by their labels."""

    def __init__(self, known: tuple[Known, ...]) -> None:
        self.namespaces = frozenset(one.namespace for one in known)
        self._by_label: dict[tuple[str, str], list[Known]] = {}
        for one in known:
            for label in one.labels.items():
                self._by_label.setdefault(label, []).append(one)

    def some_has(self, labels: FrozenMap[str, str], namespace: str | None) -> bool:
        """Whether one of a namespace (any, if it is None) has all these labels."""
        rarest = min((self._by_label.get(label, []) for label in labels.items()), key=len)
        return any(
            labels.items() <= one.labels.items() and (namespace is None or one.namespace == namespace) for one in rarest
        )


def _idle(
    resources: tuple[Resource[Any], ...],
    workloads: _Workloads,
    root: str,
    of_gateways: frozenset[tuple[str, str]],
) -> Iterator[Diagnostic]:
    """What has a label by which Gateways select is for proxies that no document declares."""
    for resource in resources:
        path, labels = _selector(resource)
        everywhere = resource.namespace == root and resource.id.kind != "Sidecar"
        known = workloads.namespaces if everywhere else workloads.namespaces & {resource.namespace}
        if resource.fail_closed or not labels or not known or labels.items() & of_gateways:
            continue
        if not workloads.some_has(labels, None if everywhere else resource.namespace):
            where = "" if everywhere else f" of namespace {resource.namespace}"
            yield _nothing(resource, path, f"no workload{where} that is known has these labels: it selects none")


def _selector(resource: Resource[Any]) -> tuple[str, FrozenMap[str, str]]:
    if resource.id.kind == "Sidecar":
        selector = resource.spec.workload_selector
        return "spec.workloadSelector", selector.labels if selector else EMPTY
    selector = resource.spec.selector
    return "spec.selector", selector.match_labels if selector else EMPTY


def _selects(labels: FrozenMap[str, str], workloads: list[Known]) -> bool:
    return any(labels.items() <= one.labels.items() for one in workloads)


def _nothing(resource: Resource[Any], path: str, message: str) -> Diagnostic:
    hint = "labels are compared whole: every one of the selector, with its value"
    return diagnostic_about(resource.id, "selects-nothing", path, message, hint)
