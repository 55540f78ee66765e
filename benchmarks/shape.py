"""The mesh that is measured: services with endpoints, some with rules, and sidecars spread over the namespaces.

Service 7 is the one that changes. Every change is to a value that was never there before, so nothing is remembered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from gossamer.core.frozen import FrozenMap
from gossamer.model.proxy import Proxy, ProxyType
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

    @property
    def label(self) -> str:
        return f"{self.services} services x {self.endpoints} endpoints, {self.rules} rules, {self.proxies} proxies"


def files_of(shape: Shape, *, endpoint: int = 0, route: int = 0) -> Files:
    """The configuration, a file for each resource. `endpoint` and `route` number the states of what changes."""
    texts: dict[str, str] = {}
    for number in range(shape.services):
        changes = endpoint if number == CHANGED else 0
        texts[f"se-{number}.yaml"] = _text("networking.istio.io/v1", "ServiceEntry", number, shape, _entry, changes)
    for number in range(shape.rules):
        changes = route if number == CHANGED else 0
        texts[f"vs-{number}.yaml"] = _text("networking.istio.io/v1", "VirtualService", number, shape, _routes, changes)
        texts[f"ap-{number}.yaml"] = _text("security.istio.io/v1", "AuthorizationPolicy", number, shape, _policy, 0)
    return Files(texts=FrozenMap(texts))


def with_change(files: Files, shape: Shape, *, endpoint: int | None = None, route: int | None = None) -> Files:
    """The same files, but for what changed: everything else is the same object, as it is when a file is read again."""
    texts = dict(files.texts)
    if endpoint is not None:
        text = _text("networking.istio.io/v1", "ServiceEntry", CHANGED, shape, _entry, endpoint)
        texts[f"se-{CHANGED}.yaml"] = text
    if route is not None:
        text = _text("networking.istio.io/v1", "VirtualService", CHANGED, shape, _routes, route)
        texts[f"vs-{CHANGED}.yaml"] = text
    return Files(texts=FrozenMap(texts))


def proxies_of(shape: Shape) -> list[Proxy]:
    """Sidecars, each of an endpoint of some service."""
    return [
        Proxy(
            type=ProxyType.SIDECAR,
            namespace=_namespace(number, shape),
            name=f"svc-{number}-0",
            service_account=f"svc-{number}",
            labels=FrozenMap({"app": f"svc-{number}", "version": "v1"}),
            addresses=(_address(number * shape.endpoints),),
        )
        for number in range(shape.proxies)
    ]


def _text(api: str, kind: str, number: int, shape: Shape, spec: Any, changes: int) -> str:
    metadata = {"name": f"svc-{number}", "namespace": _namespace(number, shape)}
    document = {"apiVersion": api, "kind": kind, "metadata": metadata, "spec": spec(number, shape, changes)}
    text: str = yaml.dump(document, sort_keys=False, Dumper=_Plain)
    return text


class _Plain(yaml.CSafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _namespace(number: int, shape: Shape) -> str:
    return f"ns-{number % shape.namespaces}"


def _host(number: int, shape: Shape) -> str:
    return f"svc-{number}.{_namespace(number, shape)}.example.com"


def _address(number: int) -> str:
    return f"10.{64 + number // 62500}.{number // 250 % 250}.{number % 250 + 1}"


def _entry(number: int, shape: Shape, changes: int) -> dict[str, Any]:
    first = number * shape.endpoints
    addresses = [_address(place) for place in range(first, first + shape.endpoints)]
    if changes:
        addresses[0] = f"10.99.{changes // 250}.{changes % 250 + 1}"
    return {
        "hosts": [_host(number, shape)],
        "addresses": [f"10.{200 + number // 62500}.{number // 250 % 250}.{number % 250 + 1}"],
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
        "location": "MESH_INTERNAL",
        "resolution": "STATIC",
        "endpoints": [
            {
                "address": address,
                "labels": {"app": f"svc-{number}", "version": f"v{place % 2 + 1}"},
                "serviceAccount": f"svc-{number}",
            }
            for place, address in enumerate(addresses)
        ],
    }


def _routes(number: int, shape: Shape, changes: int) -> dict[str, Any]:
    route = [{"destination": {"host": _host(number, shape)}}]
    first = {"match": [{"uri": {"prefix": "/a"}}], "timeout": f"{5 + changes}s", "route": route}
    return {"hosts": [_host(number, shape)], "http": [first, {"route": route}]}


def _policy(number: int, shape: Shape, _: int) -> dict[str, Any]:
    caller = f"cluster.local/ns/{_namespace(number + 1, shape)}/sa/svc-{number + 1}"
    return {
        "selector": {"matchLabels": {"app": f"svc-{number}"}},
        "action": "ALLOW",
        "rules": [{"from": [{"source": {"principals": [caller]}}], "to": [{"operation": {"methods": ["GET"]}}]}],
    }
