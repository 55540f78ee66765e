"""What the destinations of routes lead to.

Invariant: a destination always leads somewhere by name, whether the mesh has such a service or not (yet).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from gossamer.api.destination_rule import ClientTLSMode
from gossamer.api.virtual_service import Destination
from gossamer.core.frozen import EMPTY, FrozenMap
from gossamer.model.routing import HttpRule, Routing
from gossamer.model.service import Resolution, Service
from gossamer.model.view import OutboundService, Target

ByHost = Mapping[str, OutboundService]
Targets = FrozenMap[Destination, Target]


def targets_of(rules: tuple[HttpRule, ...], by_host: ByHost, port: int) -> Targets:
    """What every destination (mirrors too) of these rules leads to, called on `port`."""
    if not rules:
        return EMPTY
    found = {destination: resolve(destination, by_host, port) for rule in rules for destination in _destinations(rule)}
    return FrozenMap(found)


def _destinations(rule: HttpRule) -> Iterator[Destination]:
    yield from (part.destination for part in rule.spec.route)
    yield from (part.destination for part in rule.spec.mirrors)
    if rule.spec.mirror is not None:
        yield rule.spec.mirror


def resolve(destination: Destination, by_host: ByHost, port: int) -> Target:
    """Istio's rule for the port: the destination's own, else the only one that the service has, else the one called."""
    outbound = by_host.get(destination.host)
    real = behind(outbound, by_host) if outbound is not None else None
    host = real.service.hostname if real is not None else destination.host
    outbound = real or outbound
    if destination.port is not None and destination.port.number:
        port = destination.port.number
    elif outbound is not None and len(outbound.service.ports) == 1:
        port = outbound.service.ports[0].number
    return target_of(outbound, host, destination.subset, port)


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


def target_of(outbound: OutboundService | None, host: str, subset: str, port: int) -> Target:
    """The target of this name. An alias is led on to the service behind it by whoever calls this."""
    if outbound is None or outbound.service.port(port) is None:
        return Target(host=host, port=port, subset=subset)
    chosen = outbound.destination.subset(subset) if subset else None
    policy = outbound.destination.on(port, chosen)
    balancer, tls = policy.load_balancer, policy.tls
    tcp = policy.connection_pool.tcp if policy.connection_pool else None
    return Target(
        host=host,
        port=port,
        subset=subset,
        mesh_tls=tls is None or tls.mode in (ClientTLSMode.ISTIO_MUTUAL, ClientTLSMode.DISABLE),
        consistent_hash=balancer.consistent_hash if balancer else None,
        idle_timeout=tcp.idle_timeout.total_seconds() if tcp and tcp.idle_timeout is not None else None,
        lookup=_lookup(outbound.service, port),
        max_duration=tcp.max_connection_duration.total_seconds() if tcp and tcp.max_connection_duration else None,
        pooled=policy.connection_pool is not None,
        declared=outbound.service.port(port),
        tunnel=policy.tunnel,
    )


def _lookup(service: Service, number: int) -> int:
    port = service.port(number)
    if service.resolution is not Resolution.DYNAMIC_DNS or port is None:
        return 0
    return port.target if isinstance(port.target, int) and port.target else number


def rules_on(routing: Routing | None, port: int) -> tuple[HttpRule, ...]:
    """The HTTP rules for calls to a port: matches that ask for another one are gone, and rules without any left."""
    rules = routing.http if routing else ()
    if not any(match.port for rule in rules for match in rule.spec.match):
        return rules
    return tuple(_on_port(rules, port))


def _on_port(rules: Iterable[HttpRule], port: int) -> Iterator[HttpRule]:
    for rule in rules:
        matches = tuple(match for match in rule.spec.match if match.port in (0, port))
        if matches == rule.spec.match:
            yield rule
        elif matches:
            yield replace(rule, spec=replace(rule.spec, match=matches))
