"""Destinations of VirtualServices that lead nowhere: a host, a port or a subset that nobody declares.

Invariant: nothing here stops a resource from working, and nobody is told of what another file may well declare: of a
host only where its namespace has services, of a port and a subset only where the host is known. No diagnostic has a
position yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from gossamer.api.config import Config
from gossamer.api.resource import Resource
from gossamer.api.structure import closest
from gossamer.api.virtual_service import (
    Destination,
    HTTPRoute,
    HTTPRouteDestination,
    RouteDestination,
    TCPRoute,
    TLSRoute,
    VirtualService,
)
from gossamer.core.diagnostics import Diagnostic, Diagnostics, diagnostic_about
from gossamer.core.memo import Memo
from gossamer.model.build_services import Services, build_services
from gossamer.model.destinations import Destinations, Rule, build_destinations
from gossamer.model.names import covers, qualified, split_service
from gossamer.model.service import Service
from gossamer.model.settings import MeshSettings, build_settings


def check_destinations(config: Config, memo: Memo) -> Diagnostics:
    """What of VirtualServices leads to nothing that the configuration declares."""
    settings = memo(build_settings, config.mesh)
    services = memo.keep("", build_services, config.services, config.service_entries, config.namespaces, settings, memo)
    rules = memo.keep("", build_destinations, config.destination_rules, settings, memo)
    return memo.keep("", _nowhere, config.virtual_services, services, rules, settings)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Declared:
    """What there is to lead to."""

    services: Mapping[str, Service]
    namespaces: frozenset[str]
    exact: Mapping[str, frozenset[str]]
    """The subsets of DestinationRules by their host."""
    wild: Mapping[str, frozenset[str]]
    """Of those with a wildcard, by that."""
    domain: str

    def subsets_of(self, host: str) -> frozenset[str] | None:
        """The subsets of a host; None for one of which nothing is known."""
        found = [names for pattern, names in self.wild.items() if covers(pattern, host)]
        if host in self.exact:
            found.append(self.exact[host])
        return frozenset[str]().union(*found) if found or host in self.services else None


def _nowhere(
    resources: tuple[Resource[VirtualService], ...], services: Services, rules: Destinations, settings: MeshSettings
) -> Diagnostics:
    declared = _Declared(
        services={service.hostname: service for service in services.all},
        namespaces=frozenset(service.namespace for service in services.all if service.kubernetes),
        exact=_subsets(rule for found in rules.exact.values() for rule in found),
        wild=_subsets(rule for found in rules.wild.values() for rule in found),
        domain=settings.domain,
    )
    return tuple(
        _warning(resource, path, problem)
        for resource in resources
        for path, destination in _destinations(resource.spec)
        if (problem := _problem(destination, resource.namespace, declared)) is not None
    )


def _subsets(rules: Iterable[Rule]) -> Mapping[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    for rule in rules:
        found[rule.host] = found.get(rule.host, frozenset()) | {one.name for one in rule.destination.subsets}
    return found


def _destinations(spec: VirtualService) -> Iterator[tuple[str, Destination]]:
    yield from _routed("http", spec.http)
    yield from _routed("tls", spec.tls)
    yield from _routed("tcp", spec.tcp)
    for index, route in enumerate(spec.http):
        for number, mirror in enumerate(route.mirrors):
            yield f"spec.http[{index}].mirrors[{number}].destination", mirror.destination
        if route.mirror is not None:
            yield f"spec.http[{index}].mirror", route.mirror


def _routed(layer: str, rules: Iterable[HTTPRoute | TLSRoute | TCPRoute]) -> Iterator[tuple[str, Destination]]:
    for index, rule in enumerate(rules):
        parts: tuple[HTTPRouteDestination | RouteDestination, ...] = rule.route
        for number, part in enumerate(parts):
            yield f"spec.{layer}[{index}].route[{number}].destination", part.destination


_Problem = tuple[str, str, str, str]
"""Code, what is below the destination's path, message, hint."""


def _problem(destination: Destination, namespace: str, declared: _Declared) -> _Problem | None:
    host = qualified(destination.host, namespace, declared.domain)
    service = declared.services.get(host)
    place = split_service(host, declared.domain)
    if service is None and place is not None and place[1] in declared.namespaces:
        hint = closest(host, declared.services)
        return "unknown-host", ".host", f"there is no service {host}: calls that are sent there fail", hint
    port = destination.port.number if destination.port is not None else 0
    if service is not None and not service.alias_of and port and service.port(port) is None:
        ports = ", ".join(str(one.number) for one in service.ports)
        return "unknown-port", ".port.number", f"{host} has no port {port}", f"it has {ports}"
    subsets = declared.subsets_of(host) if destination.subset else None
    if subsets is not None and destination.subset not in subsets:
        message = f"no DestinationRule of {host} has a subset {destination.subset}: calls that are sent there fail"
        return "unknown-subset", ".subset", message, f"it has {', '.join(sorted(subsets))}" if subsets else ""
    return None


def _warning(resource: Resource[VirtualService], path: str, problem: _Problem) -> Diagnostic:
    code, below, message, hint = problem
    return diagnostic_about(resource.id, code, f"{path}{below}", message, hint)
