"""Time and memory of the pure pipeline: mesh, endpoints, views and resources of many proxies, built and changed.

The shape: services with endpoints, one of them with routes, and sidecars spread over the namespaces.
"""

from __future__ import annotations

import gc
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

from gossamer.api.common import Prefix
from gossamer.api.config import Config
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

CHANGED = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How large a mesh."""

    services: int = 1000
    endpoints: int = 10
    namespaces: int = 10
    proxies: int = 500


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
    host = f"svc-{CHANGED}.{namespace}.example.com"
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


class Pipeline:
    """What a control plane does with each configuration."""

    def __init__(self, everyone: list[Proxy]) -> None:
        self.memo = Memo()
        self.proxies = everyone
        self.resources: list[Resources] = []

    def build(self, config: Config, count: int | None = None) -> None:
        """Resources of the first `count` proxies, or of all."""
        mesh = build_mesh(config, self.memo)
        endpoints = build_endpoints(config, (), mesh, self.memo)
        chosen = self.proxies[:count]
        self.resources = [compile_proxy(view_for(mesh, endpoints, proxy, self.memo), self.memo) for proxy in chosen]
        self.memo.next_generation()


def measure(shape: Shape | None = None) -> dict[str, float]:
    """Figures by name: milliseconds, and megabytes where the name says so."""
    shape = shape or Shape()
    entries = [service_entry(number, shape) for number in range(shape.services)]
    config = Config(service_entries=_sorted(entries), virtual_services=(virtual_service(shape, 5),))
    pipeline = Pipeline(proxies(shape))
    gc.collect()
    before = _megabytes()
    figures = {"cold build, first proxy": _milliseconds(lambda: pipeline.build(config, 1))}
    same = len([proxy for proxy in pipeline.proxies if proxy.namespace == pipeline.proxies[0].namespace])
    figures["cold build, all proxies"] = _milliseconds(lambda: pipeline.build(config))
    figures["no change"] = _milliseconds(lambda: pipeline.build(config))
    for attempt in range(3):
        entries[CHANGED] = service_entry(CHANGED, shape, first=f"10.99.9.{attempt + 1}")
        changed = replace(config, service_entries=_sorted(entries))
        figures["one endpoint, all proxies"] = _milliseconds(lambda: pipeline.build(changed))  # noqa: B023
        config = changed
        rerouted = replace(config, virtual_services=(virtual_service(shape, 6 + attempt),))
        figures["one route, all proxies"] = _milliseconds(lambda: pipeline.build(rerouted))  # noqa: B023
        config = rerouted
    figures["memory, MB"] = _megabytes() - before
    figures["proxies of one namespace"] = same
    return figures


def _sorted(entries: list[Resource[ServiceEntry]]) -> tuple[Resource[ServiceEntry], ...]:
    return tuple(sorted(entries, key=lambda entry: (entry.namespace, entry.name)))


def _milliseconds(step: Callable[[], None]) -> float:
    start = time.process_time()
    step()
    return (time.process_time() - start) * 1000


def _megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    for name, figure in measure().items():
        print(f"{name:32} {figure:10.1f}")
