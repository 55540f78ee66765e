"""The mesh that is measured: services with endpoints, some with rules, and sidecars spread over the namespaces.

Service 7 is the one that changes. Every change is to a value that was never there before, so nothing is remembered.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import yaml

from gossamer.core.frozen import FrozenMap
from gossamer.model.proxy import Proxy, ProxyType
from gossamer.model.service import Workload
from gossamer.sources.files import Files

CHANGED = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How large a mesh. `rules` is how many services have a VirtualService and an AuthorizationPolicy of their own."""

    services: int = 1000
    endpoints: int = 10
    namespaces: int = 10
    rules: int = 8
    proxies: int = 100
    kubernetes: bool = False
    """Kubernetes Services, selecting workloads that hosts register, in place of ServiceEntries with endpoints."""

    @property
    def label(self) -> str:
        kind = "Kubernetes services" if self.kubernetes else "services"
        return f"{self.services} {kind} x {self.endpoints} endpoints, {self.rules} rules, {self.proxies} proxies"


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a control plane is given at one moment."""

    files: Files
    registrations: tuple[Workload, ...] = ()


def state_of(shape: Shape) -> State:
    """The mesh at first: a file for each resource, and the workloads that are registered."""
    texts: dict[str, str] = {}
    for number in range(shape.services):
        texts |= _service(number, shape, 0)
    for number in range(shape.rules):
        texts |= _route(number, shape, 0)
        texts[f"ap-{number}.yaml"] = _text(
            "security.istio.io/v1", "AuthorizationPolicy", number, shape, _policy(number, shape)
        )
    registered = range(shape.services if shape.kubernetes else 0)
    members = tuple(member for number in registered for member in _members(number, shape, 0))
    return State(files=Files(texts=FrozenMap(texts)), registrations=members)


def with_endpoint(state: State, shape: Shape, changes: int) -> State:
    """The same, but for the address of one endpoint. All else is the same objects, as when a file is read again."""
    if not shape.kubernetes:
        return replace(state, files=_with(state.files, _service(CHANGED, shape, changes)))
    first = CHANGED * shape.endpoints
    before, after = state.registrations[:first], state.registrations[first + shape.endpoints :]
    return replace(state, registrations=(*before, *_members(CHANGED, shape, changes), *after))


def with_route(state: State, shape: Shape, changes: int) -> State:
    """The same, but for the timeout of one route."""
    return replace(state, files=_with(state.files, _route(CHANGED, shape, changes)))


def _with(files: Files, changed: dict[str, str]) -> Files:
    return Files(texts=FrozenMap({**files.texts, **changed}))


def proxies_of(shape: Shape) -> list[Proxy]:
    """Sidecars, each of an endpoint of some service."""
    return [
        Proxy(
            type=ProxyType.SIDECAR,
            namespace=_namespace(number, shape),
            name=f"svc-{number}-0",
            service_account=f"svc-{number}",
            labels=FrozenMap(_labels(number, 0)),
            addresses=(_address(number * shape.endpoints),),
        )
        for number in range(shape.proxies)
    ]


def _service(number: int, shape: Shape, changes: int) -> dict[str, str]:
    if shape.kubernetes:
        spec = {"selector": {"app": f"svc-{number}"}, "ports": [{"port": 80, "name": "http"}]}
        return {f"se-{number}.yaml": _text("v1", "Service", number, shape, spec)}
    entry = _entry(number, shape, changes)
    return {f"se-{number}.yaml": _text("networking.istio.io/v1", "ServiceEntry", number, shape, entry)}


def _route(number: int, shape: Shape, changes: int) -> dict[str, str]:
    routes = _routes(number, shape, changes)
    return {f"vs-{number}.yaml": _text("networking.istio.io/v1", "VirtualService", number, shape, routes)}


def _text(api: str, kind: str, number: int, shape: Shape, spec: dict[str, Any]) -> str:
    metadata = {"name": f"svc-{number}", "namespace": _namespace(number, shape)}
    document = {"apiVersion": api, "kind": kind, "metadata": metadata, "spec": spec}
    text: str = yaml.dump(document, sort_keys=False, Dumper=_Plain)
    return text


class _Plain(yaml.CSafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _namespace(number: int, shape: Shape) -> str:
    return f"ns-{number % shape.namespaces}"


def _host(number: int, shape: Shape) -> str:
    return f"svc-{number}.{_namespace(number, shape)}.{'svc.cluster.local' if shape.kubernetes else 'example.com'}"


def _address(number: int) -> str:
    return f"10.{64 + number // 62500}.{number // 250 % 250}.{number % 250 + 1}"


def _addresses(number: int, shape: Shape, changes: int) -> list[str]:
    first = number * shape.endpoints
    addresses = [_address(place) for place in range(first, first + shape.endpoints)]
    if changes:
        addresses[0] = f"10.99.{changes // 250}.{changes % 250 + 1}"
    return addresses


def _labels(number: int, place: int) -> dict[str, str]:
    return {"app": f"svc-{number}", "version": f"v{place % 2 + 1}"}


def _members(number: int, shape: Shape, changes: int) -> tuple[Workload, ...]:
    return tuple(
        Workload(
            name=f"svc-{number}-{place}",
            namespace=_namespace(number, shape),
            service_account=f"svc-{number}",
            labels=FrozenMap(_labels(number, place)),
            address=address,
            tls=True,
        )
        for place, address in enumerate(_addresses(number, shape, changes))
    )


def _entry(number: int, shape: Shape, changes: int) -> dict[str, Any]:
    return {
        "hosts": [_host(number, shape)],
        "addresses": [f"10.{200 + number // 62500}.{number // 250 % 250}.{number % 250 + 1}"],
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
        "location": "MESH_INTERNAL",
        "resolution": "STATIC",
        "endpoints": [
            {"address": address, "labels": _labels(number, place), "serviceAccount": f"svc-{number}"}
            for place, address in enumerate(_addresses(number, shape, changes))
        ],
    }


def _routes(number: int, shape: Shape, changes: int) -> dict[str, Any]:
    route = [{"destination": {"host": _host(number, shape)}}]
    first = {"match": [{"uri": {"prefix": "/a"}}], "timeout": f"{5 + changes}s", "route": route}
    return {"hosts": [_host(number, shape)], "http": [first, {"route": route}]}


def _policy(number: int, shape: Shape) -> dict[str, Any]:
    caller = f"cluster.local/ns/{_namespace(number + 1, shape)}/sa/svc-{number + 1}"
    return {
        "selector": {"matchLabels": {"app": f"svc-{number}"}},
        "action": "ALLOW",
        "rules": [{"from": [{"source": {"principals": [caller]}}], "to": [{"operation": {"methods": ["GET"]}}]}],
    }
