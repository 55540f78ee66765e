"""Time and memory of the pure pipeline: mesh, endpoints, views and resources of many proxies, built and changed.

The shape: services with endpoints, one of them with routes, and sidecars spread over the namespaces.
"""

from __future__ import annotations

import gc
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

from gossamer.api.common import Prefix
from gossamer.api.config import Config
from gossamer.api.kubernetes import Service
from gossamer.api.kubernetes import ServicePort as KubernetesPort
from gossamer.api.resource import Resource
from gossamer.api.service_entry import Location, Resolution, ServiceEntry, ServicePort, WorkloadEntry
from gossamer.api.virtual_service import (
    Destination,
    HTTPMatchRequest,
    HTTPRoute,
    HTTPRouteDestination,
    VirtualService,
)
from gossamer.compile.compile import compile_proxy
from gossamer.core.frozen import FrozenMap
from gossamer.core.ids import ResourceId
from gossamer.core.memo import Memo
from gossamer.core.resources import Resources
from gossamer.model.build_endpoints import build_endpoints
from gossamer.model.build_view import view_for
from gossamer.model.mesh import build_mesh
from gossamer.model.proxy import Proxy, ProxyType
from gossamer.model.service import Workload

CHANGED = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How large a mesh."""

    services: int = 1000
    endpoints: int = 10
    namespaces: int = 10
    proxies: int = 500
    kubernetes: bool = False
    """Kubernetes Services and registered workloads in place of ServiceEntries."""


def service_entry(number: int, shape: Shape, first: str = "") -> Resource[ServiceEntry]:
    """A service with its endpoints; `first` is another address for the first of them."""
    namespace = f"ns-{number % shape.namespaces}"
    numbers = range(number * shape.endpoints, (number + 1) * shape.endpoints)
    addresses = [f"10.{64 + n // 62500}.{n // 250 % 250}.{n % 250 + 1}" for n in numbers]
    endpoints = tuple(
        WorkloadEntry(
            address=first if first and place == 0 else address,
            labels=FrozenMap({"app": f"svc-{number}", "version": f"v{place % 2 + 1}"}),
            service_account=f"svc-{number}",
        )
        for place, address in enumerate(addresses)
    )
    spec = ServiceEntry(
        hosts=(f"svc-{number}.{namespace}.example.com",),
        addresses=(f"10.{200 + number // 62500}.{number // 250 % 250}.{number % 250 + 1}",),
        ports=(ServicePort(number=80, name="http", protocol="HTTP"),),
        location=Location.MESH_INTERNAL,
        resolution=Resolution.STATIC,
        endpoints=endpoints,
    )
    return Resource(id=ResourceId(kind="ServiceEntry", namespace=namespace, name=f"svc-{number}"), spec=spec)


def virtual_service(shape: Shape, seconds: int) -> Resource[VirtualService]:
    """Routes to one service, the first with a timeout."""
    namespace = f"ns-{CHANGED % shape.namespaces}"
    host = f"svc-{CHANGED}.{namespace}.{'svc.cluster.local' if shape.kubernetes else 'example.com'}"
    route = (HTTPRouteDestination(destination=Destination(host=host)),)
    first = HTTPRoute(match=(HTTPMatchRequest(uri=Prefix("/a")),), timeout=timedelta(seconds=seconds), route=route)
    spec = VirtualService(hosts=(host,), http=(first, HTTPRoute(route=route)))
    return Resource(id=ResourceId(kind="VirtualService", namespace=namespace, name=f"svc-{CHANGED}"), spec=spec)


def proxies(shape: Shape) -> list[Proxy]:
    """Sidecars of the first services' first endpoints."""
    return [
        Proxy(
            type=ProxyType.SIDECAR,
            namespace=f"ns-{number % shape.namespaces}",
            name=f"svc-{number}-0",
            service_account=f"svc-{number}",
            labels=FrozenMap({"app": f"svc-{number}", "version": "v1"}),
            addresses=(service_entry(number, shape).spec.endpoints[0].address,),
        )
        for number in range(shape.proxies)
    ]


def kubernetes_service(number: int, shape: Shape) -> Resource[Service]:
    """The same service as Kubernetes has it: a selector, and names that depend on who asks."""
    spec = Service(
        selector=FrozenMap({"app": f"svc-{number}"}),
        ports=(KubernetesPort(port=80, name="http"),),
        cluster_ip=f"10.{200 + number // 62500}.{number // 250 % 250}.{number % 250 + 1}",
    )
    name, namespace = f"svc-{number}", f"ns-{number % shape.namespaces}"
    return Resource(id=ResourceId(kind="Service", namespace=namespace, name=name), spec=spec)


def workloads(number: int, shape: Shape, first: str = "") -> list[Workload]:
    """The registered instances of a service; `first` is another address for the first of them."""
    entry = service_entry(number, shape, first)
    return [
        Workload(
            name=f"svc-{number}-{place}",
            namespace=entry.namespace,
            service_account=endpoint.service_account,
            labels=endpoint.labels,
            address=endpoint.address,
            tls=True,
        )
        for place, endpoint in enumerate(entry.spec.endpoints)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """What a build starts from."""

    config: Config
    registrations: tuple[Workload, ...] = ()


class Pipeline:
    """What a control plane does with each input."""

    def __init__(self, everyone: list[Proxy]) -> None:
        self.memo = Memo()
        self.proxies = everyone
        self.resources: list[Resources] = []

    def build(self, given: Input, count: int | None = None) -> None:
        """Resources of the first `count` proxies, or of all."""
        mesh = build_mesh(given.config, self.memo)
        endpoints = build_endpoints(given.config, given.registrations, mesh, self.memo)
        chosen = self.proxies[:count]
        self.resources = [compile_proxy(view_for(mesh, endpoints, proxy, self.memo), self.memo) for proxy in chosen]
        self.memo.next_generation()


def inputs(shape: Shape) -> Iterator[tuple[str, Input]]:
    """A mesh as it is at first, and then with one change each: an endpoint, a route, and again."""
    entries = [service_entry(number, shape) for number in range(shape.services)]
    members = [workloads(number, shape) for number in range(shape.services)]
    services = tuple(kubernetes_service(number, shape) for number in range(shape.services))
    for attempt in range(4):
        if attempt:
            address = f"10.99.9.{attempt}"
            entries[CHANGED] = service_entry(CHANGED, shape, address)
            members[CHANGED] = workloads(CHANGED, shape, address)
        for seconds in (attempt + 4, attempt + 5):
            routes = (virtual_service(shape, seconds),)
            name = "first" if not attempt else "one endpoint" if seconds == attempt + 4 else "one route"
            if shape.kubernetes:
                together = tuple(member for group in members for member in group)
                yield name, Input(config=Config(services=services, virtual_services=routes), registrations=together)
            else:
                yield name, Input(config=Config(service_entries=_sorted(entries), virtual_services=routes))


def measure(shape: Shape | None = None) -> dict[str, float]:
    """Figures by name: milliseconds of CPU (the best of three for changes), and megabytes where the name says so."""
    shape = shape or Shape()
    steps = list(inputs(shape))[1:]
    pipeline = Pipeline(proxies(shape))
    gc.collect()
    before = _megabytes()
    _, given = steps.pop(0)
    figures = {"cold build, first proxy": _milliseconds(lambda: pipeline.build(given, 1))}
    others = _milliseconds(lambda: pipeline.build(given)) / max(1, shape.proxies - 1)
    figures["each further proxy"] = others
    figures["no change"] = _milliseconds(lambda: pipeline.build(given))
    for name, changed in steps:
        took = _milliseconds(lambda: pipeline.build(changed))  # noqa: B023
        figures[f"{name}, all proxies"] = min(took, figures.get(f"{name}, all proxies", took))
    figures["memory, MB"] = _megabytes() - before
    return figures


def _sorted(entries: list[Resource[ServiceEntry]]) -> tuple[Resource[ServiceEntry], ...]:
    return tuple(sorted(entries, key=lambda entry: (entry.namespace, entry.name)))


def _milliseconds(step: Callable[[], None]) -> float:
    start = time.process_time()
    step()
    return (time.process_time() - start) * 1000


def _megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print the figures of both kinds of mesh."""
    for shape in (Shape(), Shape(kubernetes=True)):
        print("Kubernetes Services" if shape.kubernetes else "ServiceEntries")
        for name, figure in measure(shape).items():
            print(f"  {name:32} {figure:10.1f}")


if __name__ == "__main__":
    main()
