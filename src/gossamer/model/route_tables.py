"""Which virtual hosts a sidecar serves on each port, and whose rules each of them follows.

Invariant: a host is a service's or, where no service has that name, a VirtualService's own; the most specific host
decides which VirtualService speaks for a service, and of equals the oldest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from gossamer.core.frozen import EMPTY
from gossamer.core.memo import Memo
from gossamer.model.names import covers, instance_names, rank, short_names
from gossamer.model.routing import HttpRule, Routing
from gossamer.model.service import Port, Protocol, Resolution, Service
from gossamer.model.settings import MeshSettings, Unknown
from gossamer.model.sight import Sight
from gossamer.model.targets import ByHost, Targets, behind, rules_on, target_of, targets_of
from gossamer.model.view import HostRoutes, OutboundService, Rest, RouteTable


def build_route_tables(sight: Sight, namespace: str, settings: MeshSettings, memo: Memo) -> tuple[RouteTable, ...]:
    """A table for every port on which HTTP may be spoken, named by its number, and one (`host:port`) for every address
    where it is not known whether HTTP is spoken."""
    by_host = sight.by_host
    speaking = Speaking(sight.routings)
    ports: dict[int, list[HostRoutes]] = {}
    own: dict[tuple[str, int], list[HostRoutes]] = {}
    for outbound in sight.services:
        routing = speaking.for_host(outbound.service.hostname) or _behind_it(outbound, by_host, speaking)
        if routing is None and outbound.service.resolution is not Resolution.ALIAS:
            home = namespace if f".{namespace}.svc." in outbound.service.hostname else ""
            hosts = memo(_plain_hosts, outbound, home, settings.domain)
        else:
            hosts = tuple(_ruled_hosts(outbound, routing, by_host, namespace, settings.domain))
        for host, owner in hosts:
            ports.setdefault(host.port, []).append(host)
            if owner:
                own.setdefault((owner, host.port), []).append(host)
    others = tuple(_other_hosts(sight, speaking.used, by_host)) if sight.other_port else ()
    if others:
        ports.setdefault(sight.other_port, []).extend(others)
    rest = rest_of(settings)
    tables = [(str(port), port, tuple(ports[port])) for port in sorted(ports)]
    tables += [
        (f"{host}:{port}", port, tuple(memo(_everything, h) if h.host == host else h for h in hosts))
        for (host, port), hosts in sorted(own.items())
    ]
    return tuple(
        memo.keep(name, RouteTable, name=name, port=port, hosts=hosts, rest=rest) for name, port, hosts in tables
    )


def _behind_it(outbound: OutboundService, by_host: ByHost, speaking: Speaking) -> Routing | None:
    """Who speaks for the service that an alias leads to: its rules are for the alias too."""
    real = behind(outbound, by_host)
    return speaking.for_host(real.service.hostname) if real is not None and real is not outbound else None


def rest_of(settings: MeshSettings) -> Rest:
    """What becomes of redirected requests to hosts that nobody declared."""
    match settings.outbound.unknown:
        case Unknown.REGISTRY_ONLY:
            return Rest.BLOCK
        case Unknown.ALLOW_ANY_DYNAMIC_DNS:
            return Rest.FORWARD
        case Unknown.ALLOW_ANY:
            return Rest.ALLOW


def has_own_table(service: Service, port: Port) -> bool:
    """Whether calls to this port arrive at a listener of the service's own address, though they need not be HTTP."""
    single = any("/" not in address for address in service.addresses)
    return port.protocol is Protocol.AUTO and (single or bool(service.allocated))


Owned = tuple[HostRoutes, str]
"""A virtual host, and whose own table (a hostname's) it stands in too, if any."""


def _plain_hosts(outbound: OutboundService, namespace: str, domain: str) -> tuple[Owned, ...]:
    """The hosts of a service that no VirtualService speaks for. All namespaces but its own know it by equal names."""
    return tuple(_hosts(outbound, outbound, lambda port: ((), EMPTY), namespace, domain))


def _ruled_hosts(
    outbound: OutboundService, routing: Routing | None, by_host: ByHost, namespace: str, domain: str
) -> Iterator[Owned]:
    """The hosts of a service or an alias under the rules of a VirtualService."""

    def ruled(port: int) -> tuple[tuple[HttpRule, ...], Targets]:
        rules = rules_on(routing, port)
        return rules, targets_of(rules, by_host, port)

    real = behind(outbound, by_host)
    return _hosts(outbound, real, ruled, namespace, domain) if real else iter(())


def _hosts(
    outbound: OutboundService,
    real: OutboundService,
    ruled: Callable[[int], tuple[tuple[HttpRule, ...], Targets]],
    namespace: str,
    domain: str,
) -> Iterator[Owned]:
    service = outbound.service
    known = (*service.addresses, *service.external_ips, service.allocated)
    addresses = [address for address in known if address and "/" not in address]
    names = names_of(service, namespace, domain)
    aliases = (*names, *(f"[{address}]" if ":" in address else address for address in addresses))
    for port in real.service.ports:
        if port.protocol.is_http or port.protocol is Protocol.AUTO:
            rules, targets = ruled(port.number)
            host = HostRoutes(
                name=f"{service.hostname}:{port.number}",
                port=port.number,
                host=service.hostname,
                aliases=aliases,
                rules=rules,
                targets=targets,
                default=None if rules else target_of(real, real.service.hostname, "", port.number),
                service=service,
            )
            yield host, real.service.hostname if has_own_table(real.service, port) else ""


def names_of(service: Service, namespace: str, domain: str) -> tuple[str, ...]:
    """The shorter names that a service has for a client."""
    if service.instance_of:
        return instance_names(service.hostname, service.instance_of, namespace, domain)
    return short_names(service.hostname, namespace, domain)


def _everything(host: HostRoutes) -> HostRoutes:
    return replace(host, everything=True)


def _other_hosts(sight: Sight, used: set[str], by_host: ByHost) -> Iterator[HostRoutes]:
    """Hosts of VirtualServices that are no service's; a wildcard that took in services stands for these alone."""
    seen, number = {*used, *by_host}, sight.other_port
    for routing in sight.routings:
        for host in () if routing.of_services else routing.hosts:
            rules = rules_on(routing, number)
            if host not in seen and rules:
                seen.add(host)
                yield HostRoutes(
                    name=f"{host}:{number}",
                    port=number,
                    host=host,
                    rules=rules,
                    targets=targets_of(rules, by_host, number),
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
