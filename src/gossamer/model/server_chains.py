"""Connections that a gateway passes on without reading them: TCP and TLS routes bound to its servers.

Invariant: a server takes only server names that its hosts cover.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from gossamer.api.virtual_service import L4MatchAttributes
from gossamer.core.memo import Memo
from gossamer.model.binds import weighted
from gossamer.model.names import overlaps
from gossamer.model.passthrough import passthrough_chains
from gossamer.model.protocols import declared_protocol
from gossamer.model.routing import Client, Routing, loaded
from gossamer.model.servers import is_auto, speaks_http, terminates_tls
from gossamer.model.targets import ByHost
from gossamer.model.view import Chain, OutboundService, Server


def with_chains(
    servers: tuple[Server, ...],
    services: tuple[OutboundService, ...],
    routings: tuple[Routing, ...],
    client: Client,
    memo: Memo,
) -> tuple[Server, ...]:
    """The servers, those that do not speak HTTP with their chains."""
    by_host = {outbound.service.hostname: outbound for outbound in services}

    def chained(server: Server) -> Server:
        if speaks_http(server.rule):
            return server
        if is_auto(server.rule):
            return replace(server, chains=tuple(passthrough_chains(server, services)))
        return replace(server, chains=tuple(_chains(server, _bound(server, routings, client, memo), by_host)))

    return tuple(chained(server) for server in servers)


def _bound(server: Server, routings: tuple[Routing, ...], client: Client, memo: Memo) -> Iterator[Routing]:
    """The VirtualServices that are bound to the server's Gateway and share a host with the server."""
    bound = replace(client, gateways=frozenset({server.gateway}))
    for routing in routings:
        found = memo(loaded, routing, bound)
        if found is not None and any(
            part.namespace in ("*", found.id.namespace) and overlaps(host, part.host) is not None
            for part in server.rule.hosts
            for host in found.hosts
        ):
            yield found


def _chains(server: Server, routings: Iterable[Routing], by_host: ByHost) -> Iterator[Chain]:
    passed_on = declared_protocol(server.rule.spec.port.protocol).is_tls and not terminates_tls(server.rule)
    for routing in routings:
        yield from _by_name(server, routing, by_host) if passed_on else _by_port(server, routing, by_host)


def _by_name(server: Server, routing: Routing, by_host: ByHost) -> Iterator[Chain]:
    """TLS routes; a server name outside the server's hosts is none of its business."""
    for rule in routing.tls:
        for match in rule.spec.match:
            names = (overlaps(name.lower(), part.host) for name in match.sni_hosts for part in server.rule.hosts)
            agreed = tuple(dict.fromkeys(name for name in names if name is not None))
            if match.port in (0, server.number) and agreed:
                yield Chain(
                    server_names=agreed,
                    subnets=match.destination_subnets,
                    targets=weighted(rule.spec.route, by_host, server.number),
                    origins=(rule.origin, server.rule.origin),
                )


def _by_port(server: Server, routing: Routing, by_host: ByHost) -> Iterator[Chain]:
    """TCP routes: of plain TCP, and of TLS that ends at the server, told apart by its hosts."""
    ended = terminates_tls(server.rule)
    for rule in routing.tcp:
        for match in rule.spec.match or (L4MatchAttributes(),):
            if match.port not in (0, server.number):
                continue
            yield Chain(
                server_names=tuple(part.host for part in server.rule.hosts) if ended else (),
                subnets=match.destination_subnets,
                sources=(match.source_subnet,) if match.source_subnet else (),
                targets=weighted(rule.spec.route, by_host, server.number),
                origins=(rule.origin, server.rule.origin),
            )
