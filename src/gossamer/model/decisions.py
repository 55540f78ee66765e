"""Which VirtualService decides, at a workload itself, on the calls to one of its ports.

Invariant: only a service's own namespace and the root namespace decide at its side. As on the callers' side, the most
specific host speaks, and of equals the oldest; the port is then served as HTTP alone, since a call that is not read
could not be decided on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from gossamer.model.route_tables import Speaking
from gossamer.model.routing import MESH, HttpRule, Routing
from gossamer.model.service import Protocol
from gossamer.model.targets import rules_on
from gossamer.model.view import InboundPort


def decided_at_destinations(routings: Iterable[Routing]) -> tuple[Routing, ...]:
    """Those that some destination decides."""
    return tuple(routing for routing in routings if routing.decided.at_destination and MESH in routing.gateways)


def with_decisions(ports: tuple[InboundPort, ...], routings: tuple[Routing, ...], root: str) -> tuple[InboundPort, ...]:
    """A workload's ports, with the rules that are decided there."""
    return tuple(_with_decision(port, routings, root) for port in ports)


def _with_decision(port: InboundPort, routings: tuple[Routing, ...], root: str) -> InboundPort:
    if not (port.protocol.is_http or port.protocol is Protocol.AUTO):
        return port
    for service, number in port.services:
        own = [routing for routing in routings if routing.id.namespace in (service.namespace, root)]
        rules = rules_on(Speaking(own).for_host(service.hostname), number)
        if rules:
            spoken = port.protocol if port.protocol.is_http else Protocol.HTTP
            return replace(port, protocol=spoken, decided=_before_the_rest(rules))
    return port


def _before_the_rest(rules: tuple[HttpRule, ...]) -> tuple[HttpRule, ...]:
    """Up to the first rule that takes everything: none gets past it."""
    for place, rule in enumerate(rules, 1):
        if not rule.spec.match:
            return rules[:place]
    return rules
