"""Proxies that stand for all that EnvoyFilters and extensions change: what is tried on them holds for the others.

Invariant: of each set of changes that some proxy of the mesh gets there is one, a running one where there is any; and
for each resource that selects no running proxy one that it would select.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from gossamer.api.config import Config
from gossamer.api.envoy_filter import EnvoyFilter
from gossamer.api.resource import Resource
from gossamer.core.frozen import FrozenMap
from gossamer.model.build_endpoints import Instance
from gossamer.model.build_policies import GATEWAY_CLASS, GATEWAY_NAME
from gossamer.model.build_view import metadata_for
from gossamer.model.mesh import Mesh
from gossamer.model.proxy import Proxy, ProxyType
from gossamer.model.service import Service

MOST: Final = 16
"""Representatives at most: whoever writes more kinds of changes than that finds the rest out by Envoy's refusal."""
_NAMESPACES: Final = 3
_GATEWAYS: Final = 4
_PORTS: Final = 8
_LABELS: Final = {"GatewayClass": GATEWAY_CLASS, "Gateway": GATEWAY_NAME}


def representatives(config: Config, mesh: Mesh, running: Iterable[Proxy]) -> tuple[Proxy, ...]:
    """Proxies for trials, at most `MOST`; one without a name is made up."""
    chosen: dict[Any, Proxy] = {}
    for proxy in (*running, *_made_up(config, mesh)):
        metadata = metadata_for(mesh, proxy)
        changes = (
            mesh.patches.for_proxy(proxy, metadata),
            mesh.patches.for_bootstrap(proxy, metadata),
            mesh.extensions.for_proxy(proxy),
        )
        if any(changes) and len(chosen) < MOST:
            chosen.setdefault((proxy.type, proxy.capture.mode, *changes), proxy)
    return tuple(chosen.values())


def _made_up(config: Config, mesh: Mesh) -> Iterator[Proxy]:
    root = mesh.settings.root_namespace
    elsewhere = sorted({service.namespace for service in mesh.services.all} - {root})[:_NAMESPACES]
    gateways = list(dict.fromkeys(gateway.spec.selector for gateway in config.gateways))[:_GATEWAYS]
    resources: tuple[Resource[Any], ...] = (*config.envoy_filters, *config.wasm_plugins, *config.traffic_extensions)
    for resource in resources:
        namespaces = [*elsewhere, root] if resource.namespace == root else [resource.namespace]
        labels = _labels(resource)
        for namespace in namespaces:
            yield _proxy(ProxyType.SIDECAR, namespace, labels)
            for selector in gateways or [FrozenMap[str, str]()]:
                yield _proxy(ProxyType.ROUTER, namespace, {**selector, **labels})


def _labels(resource: Resource[Any]) -> dict[str, str]:
    """The labels of whom a resource selects."""
    spec = resource.spec
    for reference in spec.target_refs:
        if reference.kind in _LABELS:
            return {_LABELS[reference.kind]: reference.name}
    if isinstance(spec, EnvoyFilter):
        return dict(spec.workload_selector.labels) if spec.workload_selector else {}
    return dict(spec.selector.match_labels) if spec.selector else {}


def _proxy(kind: ProxyType, namespace: str, labels: Mapping[str, str]) -> Proxy:
    return Proxy(type=kind, namespace=namespace, addresses=("192.0.2.1",), labels=FrozenMap(labels))


def made_up_instances(mesh: Mesh, proxy: Proxy) -> tuple[Instance, ...]:
    """The ports that a made up proxy serves: those of services that would select it, else of any in its namespace."""
    own = [service for service in mesh.services.all if service.namespace == proxy.namespace and service.selector]
    fitting = [service for service in own if service.selector.items() <= proxy.labels.items()] or own
    found: dict[int, Instance] = {}
    for service in fitting:
        for instance in _instances(service):
            found.setdefault(instance.workload_port, instance)
    return tuple(found[number] for number in sorted(found)[:_PORTS])


def _instances(service: Service) -> Iterator[Instance]:
    for port in service.ports:
        number = port.target if isinstance(port.target, int) and port.target else port.number
        yield Instance(service=service, port=port, workload_port=number)
