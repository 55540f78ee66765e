"""Which virtual hosts a sidecar serves on each port, and whose rules each of them follows.

Invariant: a host is a service's or, where no service has that name, a VirtualService's own; the most specific host
decides which VirtualService speaks for a service, and of equals the oldest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from gossamer.core.memo import Memo
from gossamer.model.names import covers, rank, short_names
from gossamer.model.routing import HttpRule, Routing
from gossamer.model.service import Port, Protocol, Resolution, Service
from gossamer.model.settings import MeshSettings
from gossamer.model.targets import ByHost, Targets, rules_on, target_of, targets_of
from gossamer.model.view import HostRoutes, OutboundService, Rest, RouteTable

DEFAULT_HTTP_PORT = 80
"""Where hosts that are no service's are served."""


def build_route_tables(
    services: tuple[OutboundService, ...],
    routings: tuple[Routing, ...],
    namespace: str,
    settings: MeshSettings,
    memo: Memo,
) -> tuple[RouteTable, ...]:
    """A table for every port on which HTTP may be spoken, named by its number, and one (`host:port`) for every address
    where it is not known whether HTTP is spoken."""
    by_host = {outbound.service.hostname: outbound for outbound in services}
    speaking = Speaking(routings)
    ports: dict[int, list[HostRoutes]] = {}
    own: dict[tuple[str, int], list[HostRoutes]] = {}
    for outbound in services:
        hostname = outbound.service.hostname
        real = behind(outbound, by_host)
        routing = speaking.for_host(hostname)
        names = short_names(hostname, namespace, settings.domain)
        for port in real.service.ports if real else ():
            if real is None or not (port.protocol.is_http or port.protocol is Protocol.AUTO):
                continue
            rules = rules_on(routing, port.number)
            targets = targets_of(rules, by_host, port.number)
            host = memo(_host_of, outbound, real, port, names, rules, targets)
            ports.setdefault(port.number, []).append(host)
            if has_own_table(real.service, port):
                own.setdefault((real.service.hostname, port.number), []).append(host)
    others = tuple(_other_hosts(routings, speaking.used, by_host))
    if others:
        ports.setdefault(DEFAULT_HTTP_PORT, []).extend(others)
    rest = Rest.BLOCK if settings.registry_only else Rest.ALLOW
    tables = [(str(port), port, tuple(ports[port])) for port in sorted(ports)]
    tables += [
        (f"{host}:{port}", port, tuple(memo(_everything, h) if h.host == host else h for h in hosts))
        for (host, port), hosts in sorted(own.items())
    ]
    return tuple(
        memo.keep(name, RouteTable, name=name, port=port, hosts=hosts, rest=rest) for name, port, hosts in tables
    )


def has_own_table(service: Service, port: Port) -> bool:
    """Whether calls to this port arrive at a listener of the service's own address, though they need not be HTTP."""
    single = any("/" not in address for address in service.addresses)
    return port.protocol is Protocol.AUTO and (single or bool(service.allocated))


def behind(outbound: OutboundService, by_host: ByHost) -> OutboundService | None:
    """The service itself, or the one that an alias (ExternalName) leads to, if the mesh has it."""
    if outbound.service.resolution is not Resolution.ALIAS:
        return outbound
    real = unaliased(outbound.service, lambda host: by_host[host].service if host in by_host else None)
    return by_host[real.hostname] if real else None


def unaliased(service: Service, find: Callable[[str], Service | None]) -> Service | None:
    """The service itself, or the one that an alias leads to, if there is one."""
    found: Service | None = service
    for _ in range(8):  # an alias of an alias; a ring of them leads nowhere
        if found is None or found.resolution is not Resolution.ALIAS:
            return found
        found = find(found.alias_of)
    return None


def _host_of(
    outbound: OutboundService,
    real: OutboundService,
    port: Port,
    names: tuple[str, ...],
    rules: tuple[HttpRule, ...],
    targets: Targets,
) -> HostRoutes:
    service = outbound.service
    addresses = [address for address in (*service.addresses, service.allocated) if address and "/" not in address]
    return HostRoutes(
        name=f"{service.hostname}:{port.number}",
        port=port.number,
        host=service.hostname,
        aliases=(*names, *(f"[{address}]" if ":" in address else address for address in addresses)),
        rules=rules,
        targets=targets,
        default=None if rules else target_of(real, real.service.hostname, "", port.number),
        service=service,
    )


def _everything(host: HostRoutes) -> HostRoutes:
    return replace(host, everything=True)


def _other_hosts(routings: Iterable[Routing], used: set[str], by_host: ByHost) -> Iterator[HostRoutes]:
    """Hosts of VirtualServices that are no service's; a wildcard that took in services stands for these alone."""
    seen = {*used, *by_host}
    for routing in routings:
        for host in routing.hosts:
            rules = rules_on(routing, DEFAULT_HTTP_PORT)
            if host not in seen and rules:
                seen.add(host)
                yield HostRoutes(
                    name=f"{host}:{DEFAULT_HTTP_PORT}",
                    port=DEFAULT_HTTP_PORT,
                    host=host,
                    rules=rules,
                    targets=targets_of(rules, by_host, DEFAULT_HTTP_PORT),
                )


class Speaking:
    """Which VirtualService speaks for a host."""

    def __init__(self, routings: Iterable[Routing]) -> None:
        self.used: set[str] = set()
        self._exact: dict[str, Routing] = {}
        wild: dict[str, Routing] = {}
        for routing in routings:
            for host in routing.hosts:
                (wild if host.startswith("*") else self._exact).setdefault(host, routing)
        self._wild: Mapping[str, Routing] = {host: wild[host] for host in sorted(wild, key=rank, reverse=True)}

    def for_host(self, hostname: str) -> Routing | None:
        found = self._exact.get(hostname)
        if found is not None:
            return found
        for pattern, routing in self._wild.items():
            if covers(pattern, hostname):
                self.used.add(pattern)
                return routing
        return None
