"""What is wrong between Sidecars.

Invariant: nothing here stops a resource from working; it says what of it does not take effect, and where. No diagnostic
has a position yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gossamer.api.config import Config
from gossamer.api.resource import Resource
from gossamer.api.sidecar import Sidecar
from gossamer.core.diagnostics import Diagnostic, Diagnostics, Severity
from gossamer.core.frozen import EMPTY, FrozenMap
from gossamer.core.memo import Memo
from gossamer.model.known import Known


def check_sidecars(config: Config, memo: Memo, known: tuple[Known, ...]) -> Diagnostics:
    """Sidecars that some workload has several of: Istio leaves undefined which one speaks; here it is the oldest."""
    return memo.keep("", _several, config.sidecars, known)


def _several(resources: tuple[Resource[Sidecar], ...], workloads: tuple[Known, ...]) -> Diagnostics:
    by_namespace: dict[str, list[Resource[Sidecar]]] = {}
    for resource in sorted(resources, key=lambda r: r.age_key):
        by_namespace.setdefault(resource.namespace, []).append(resource)
    labels: dict[str, list[FrozenMap[str, str]]] = {}
    for workload in workloads:
        labels.setdefault(workload.namespace, []).append(workload.labels)
    return tuple(
        diagnostic
        for namespace, found in by_namespace.items()
        for diagnostic in _of_namespace(found, labels.get(namespace, []))
    )


def _of_namespace(resources: list[Resource[Sidecar]], workloads: list[FrozenMap[str, str]]) -> Iterator[Diagnostic]:
    defaults = [resource for resource in resources if not _selector(resource)]
    for younger in defaults[1:]:
        message = f"{defaults[0].id} is older and speaks for all workloads of its namespace too: this one has no effect"
        yield _conflict(younger, "spec", message)
    selecting = [resource for resource in resources if _selector(resource)]
    for place, younger in enumerate(selecting):
        older = next((one for one in selecting[:place] if _same(one, younger, workloads)), None)
        if older is not None:
            message = f"{older.id} is older and selects the same workloads, or some of them: there it speaks"
            yield _conflict(younger, "spec.workloadSelector", message)


def _selector(resource: Resource[Sidecar]) -> FrozenMap[str, str]:
    return resource.spec.workload_selector.labels if resource.spec.workload_selector else EMPTY


def _same(one: Resource[Sidecar], other: Resource[Sidecar], workloads: Iterable[FrozenMap[str, str]]) -> bool:
    """Whether some workload is known that both select; all that the younger selects, if its selector says more."""
    mine, others = _selector(one).items(), _selector(other).items()
    return mine <= others or any(mine <= labels.items() and others <= labels.items() for labels in workloads)


def _conflict(resource: Resource[Sidecar], path: str, message: str) -> Diagnostic:
    return Diagnostic(
        severity=Severity.WARNING,
        code="sidecar-conflict",
        message=message,
        kind=resource.id.kind,
        namespace=resource.namespace,
        name=resource.name,
        path=path,
        hint="a workload has one Sidecar: join them, or have their selectors select different workloads",
    )
