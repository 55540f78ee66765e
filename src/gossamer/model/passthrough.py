"""AUTO_PASSTHROUGH: a gateway between networks takes the mesh's own mutual TLS and passes it on, unread, to the service
that its server name encodes.

Invariant: only services of the mesh are reached this way, by the name that a sidecar's cluster gives itself; nothing
that was not encrypted and meant for the mesh gets a chain.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gossamer.model.gateways import GatewayServer
from gossamer.model.names import covers, server_name
from gossamer.model.service import Port, Protocol, Resolution, Service
from gossamer.model.view import Chain, OutboundService, Server, Target

_BY_REGISTRY = frozenset({Resolution.STATIC})


def passthrough_chains(server: Server, services: Iterable[OutboundService]) -> Iterator[Chain]:
    """A chain for every port and subset of every service that the server's hosts name."""
    for outbound in services:
        service = outbound.service
        if not is_passed_on(service) or not _names(server.rule, service):
            continue
        for port in ports_of(service):
            for subset in ("", *(subset.name for subset in outbound.destination.subsets)):
                target = Target(host=service.hostname, port=port.number, subset=subset, passed_on=True)
                yield Chain(
                    server_names=(server_name(service.hostname, port.number, subset),),
                    targets=((target, 1),),
                    origins=(*((service.origin,) if service.origin else ()), server.rule.origin),
                )


def is_passed_on(service: Service) -> bool:
    """Whether a gateway may pass the mesh's TLS on to it: a service of the mesh, whose endpoints are known."""
    return not service.external and not service.wildcard and service.resolution in _BY_REGISTRY


def ports_of(service: Service) -> Iterator[Port]:
    """The ports that carry connections."""
    return (port for port in service.ports if port.protocol is not Protocol.UDP)


def _names(rule: GatewayServer, service: Service) -> bool:
    return any(
        part.namespace in ("*", service.namespace) and covers(part.host, service.hostname) for part in rule.hosts
    )
