"""What one egress listener of a client exposes: services and VirtualServices, and what their destinations may name.

Invariant: a sight without a Sidecar is everything; with one, no more than its listener imports, of no other ports than
the listener's own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from gossamer.core.frozen import Value
from gossamer.core.memo import Memo
from gossamer.model.routing import EgressListener, Routing
from gossamer.model.service import Port, Protocol
from gossamer.model.sidecars import imports_routing, imports_service
from gossamer.model.view import OutboundService

DEFAULT_HTTP_PORT = 80
"""Where hosts that are no service's are served."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sight(Value):
    """`services` are exposed with the ports that they have here; `known` are all that destinations may lead to, with
    all their ports. Hosts that are no service's are served on `other_port` (nowhere when it is 0)."""

    services: tuple[OutboundService, ...]
    routings: tuple[Routing, ...] = ()
    known: tuple[OutboundService, ...] = ()
    other_port: int = DEFAULT_HTTP_PORT

    @property
    def by_host(self) -> dict[str, OutboundService]:
        return {outbound.service.hostname: outbound for outbound in self.known or self.services}


def sight_of(
    listener: EgressListener,
    others: tuple[EgressListener, ...],
    services: tuple[OutboundService, ...],
    routings: tuple[Routing, ...],
    memo: Memo,
) -> Sight:
    """What `listener` exposes of what its client sees. One for all ports leaves alone those that others have."""
    taken = frozenset(one.port for one in others if one.port and not one.bind) if listener.everywhere else frozenset()
    imported = (s for s in services if imports_service(listener.imports, s.service.namespace, s.service.declared_as))
    exposed = (memo(_on_ports, outbound, listener.port, listener.protocol, taken) for outbound in imported)
    return Sight(
        services=tuple(outbound for outbound in exposed if outbound is not None),
        routings=tuple(r for r in routings if imports_routing(listener.imports, r.id.namespace, r.hosts)),
        known=services,
        other_port=_other_port(listener, taken),
    )


def _other_port(listener: EgressListener, taken: frozenset[int]) -> int:
    if listener.everywhere or not listener.port:
        return 0 if DEFAULT_HTTP_PORT in taken else DEFAULT_HTTP_PORT
    return listener.port if listener.protocol.is_http or listener.protocol is Protocol.AUTO else 0


def _on_ports(
    outbound: OutboundService, number: int, protocol: Protocol, taken: frozenset[int]
) -> OutboundService | None:
    """The service with only the port `number` (any, when it is 0), spoken as the listener says; None with no port."""
    service = outbound.service
    if service.alias_of:  # its ports are those of what it leads to
        return outbound
    ports = tuple(_spoken(port, protocol) for port in service.ports if _wanted(port, number, taken))
    if ports == service.ports:
        return outbound
    return replace(outbound, service=replace(service, ports=ports)) if ports else None


def _wanted(port: Port, number: int, taken: Iterable[int]) -> bool:
    return port.number == number if number else port.number not in taken


def _spoken(port: Port, protocol: Protocol) -> Port:
    return port if protocol is Protocol.AUTO else replace(port, protocol=protocol)
