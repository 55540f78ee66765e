"""What is wrong between Sidecars.

Invariant: nothing here stops a resource from working; it says what of it does not take effect, and where. No diagnostic
has a position yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gossamer.api.config import Config
from gossamer.api.resource import Resource
from gossamer.api.sidecar import Sidecar
from gossamer.core.diagnostics import Diagnostic, Diagnostics, diagnostic_about
from gossamer.core.frozen import EMPTY, FrozenMap
from gossamer.core.memo import Memo
from gossamer.model.known import Known
from gossamer.model.names import covers, qualified, split_service
from gossamer.model.settings import build_settings


def check_sidecars(config: Config, memo: Memo, known: tuple[Known, ...]) -> Diagnostics:
    """Sidecars that some workload has several of: Istio leaves undefined which one speaks; here it is the oldest. And
    those that send unknown traffic to a service that they do not let in."""
    domain = memo(build_settings, config.mesh).domain
    return (
        *memo.keep("", _several, config.sidecars, known),
        *memo.keep("", _without_proxies, config.sidecars, domain),
    )


def _without_proxies(resources: tuple[Resource[Sidecar], ...], domain: str) -> Diagnostics:
    found = []
    for resource in resources:
        policy = resource.spec.outbound_traffic_policy
        proxy = policy.egress_proxy if policy else None
        if proxy is None or not resource.spec.egress:
            continue
        host = qualified(proxy.host, resource.namespace, domain)
        _, home = split_service(host, domain) or ("", "")
        hosts = [one for listener in resource.spec.egress for one in listener.hosts]
        if not any(_lets_in(one, host, home, resource.namespace) for one in hosts):
            message = f"no egress listener lets {host} in: what it is to forward goes nowhere"
            hint = f"add {home or '*'}/{host} to the hosts of an egress listener"
            path = "spec.outboundTrafficPolicy.egressProxy.host"
            found.append(diagnostic_about(resource.id, "egress-proxy-not-seen", path, message, hint))
    return tuple(found)


def _lets_in(imported: str, host: str, home: str, namespace: str) -> bool:
    """Whether `namespace/dnsName` takes in a host of the namespace `home`, of whatever one if it is not known."""
    before, _, name = imported.rpartition("/")
    where = namespace if before == "." else before or "*"
    return covers(name.lower(), host) and (where in ("*", home) or (not home and where != "~"))


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
    rivals = _rivals([_selector(resource) for resource in selecting], workloads)
    for place, older in sorted(rivals.items()):
        message = f"{selecting[older].id} is older and selects the same workloads, or some of them: there it speaks"
        yield _conflict(selecting[place], "spec.workloadSelector", message)


def _selector(resource: Resource[Sidecar]) -> FrozenMap[str, str]:
    return resource.spec.workload_selector.labels if resource.spec.workload_selector else EMPTY


def _rivals(selectors: list[FrozenMap[str, str]], workloads: Iterable[FrozenMap[str, str]]) -> dict[int, int]:
    """By the place of each selector that selects, of some known workload or by what it says, what an earlier one does
    too, the place of that one."""
    by_label: dict[tuple[str, str], list[int]] = {}
    for place, wanted in enumerate(selectors):
        by_label.setdefault(next(iter(wanted.items())), []).append(place)
    found: dict[int, int] = {}
    for labels in (*selectors, *workloads):
        items = labels.items()
        likely = sorted(place for label in items for place in by_label.get(label, ()))
        first, *others = [place for place in likely if selectors[place].items() <= items] or [0]
        for place in others:
            found.setdefault(place, first)
    return found


def _conflict(resource: Resource[Sidecar], path: str, message: str) -> Diagnostic:
    hint = "a workload has one Sidecar: join them, or have their selectors select different workloads"
    return diagnostic_about(resource.id, "sidecar-conflict", path, message, hint)
