"""Which servers of which Gateways a gateway proxy runs, on which ports, and what they route.

Invariant: a server's route table holds only hosts that the server and a VirtualService bound to its Gateway both name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from gossamer.api.gateway import ServerTLSMode
from gossamer.core.memo import Memo
from gossamer.model.build_endpoints import Instance
from gossamer.model.gateways import GatewayRule, GatewayServer
from gossamer.model.names import overlaps
from gossamer.model.protocols import declared_protocol
from gossamer.model.proxy import Proxy
from gossamer.model.routing import Client, HttpRule, Routing, loaded
from gossamer.model.targets import ByHost, rules_on, targets_of
from gossamer.model.view import HostRoutes, OutboundService, Rest, RouteTable, Server

KEEP_PORTS: Final = "experimental.istio.io/disable-gateway-port-translation"
"""Label of a service whose `targetPort` does not change the port that a gateway binds."""


def servers_for(gateways: tuple[GatewayRule, ...], proxy: Proxy, instances: tuple[Instance, ...]) -> tuple[Server, ...]:
    """The servers that this proxy runs, oldest Gateway first.

    A server binds the port that `gateway_ports` says; else the target port of the proxy's own service on that port
    (callers dial the service); else its own.
    """
    found = []
    for gateway in gateways:
        if not gateway.services and not _selects(gateway, proxy):
            continue
        for rule in gateway.servers:
            if rule.spec.bind.startswith("unix:///") and not proxy.binds_paths:
                continue
            number = rule.spec.port.number
            for port in _bound_ports(gateway, number, proxy, instances):
                mapped = number in proxy.gateway_ports
                found.append(Server(gateway=gateway.name, rule=rule, port=port, number=number, mapped=mapped))
    return tuple(found)


def _selects(gateway: GatewayRule, proxy: Proxy) -> bool:
    return gateway.namespace in ("", proxy.namespace) and gateway.selector.items() <= proxy.labels.items()


def _bound_ports(gateway: GatewayRule, number: int, proxy: Proxy, instances: tuple[Instance, ...]) -> list[int]:
    if number in proxy.gateway_ports:
        return [proxy.gateway_ports[number]]
    own = [it for it in instances if it.port.number == number]
    if gateway.services:
        own = [it for it in own if it.service.namespace == proxy.namespace and it.service.hostname in gateway.services]
        return sorted({it.workload_port for it in own})
    translated = {it.workload_port for it in own if it.service.labels.get(KEEP_PORTS) != "true"}
    return sorted(translated) or [number]


def table_name(server: Server) -> str:
    """Istio's name of the route table of a server that speaks HTTP."""
    spec = server.rule.spec
    if terminates_tls(server.rule):
        namespace, _, name = server.gateway.partition("/")
        return f"https.{server.port}.{spec.port.name}.{name}.{namespace}"
    return f"http.{server.port}" + (f".{spec.bind}" if spec.bind else "")


def speaks_http(rule: GatewayServer) -> bool:
    """Whether requests can be read: plain HTTP, or HTTPS that ends here."""
    protocol = declared_protocol(rule.spec.port.protocol)
    return protocol.is_http or (protocol.value == "HTTPS" and terminates_tls(rule))


def terminates_tls(rule: GatewayServer) -> bool:
    """Whether TLS ends here; `tls` on a plain HTTP port is there for `httpsRedirect` alone."""
    protocol, tls = declared_protocol(rule.spec.port.protocol), rule.spec.tls
    return protocol.is_tls and tls is not None and tls.mode not in ("PASSTHROUGH", "AUTO_PASSTHROUGH")


def is_auto(rule: GatewayServer) -> bool:
    """Whether the mesh's own TLS is passed on by its server name, without any VirtualService."""
    return rule.spec.tls is not None and rule.spec.tls.mode is ServerTLSMode.AUTO_PASSTHROUGH


def build_gateway_tables(
    servers: tuple[Server, ...],
    services: tuple[OutboundService, ...],
    routings: tuple[Routing, ...],
    client: Client,
    memo: Memo,
) -> tuple[RouteTable, ...]:
    """The route tables of all servers that speak HTTP; plain servers of one port share one."""
    by_host = {outbound.service.hostname: outbound for outbound in services}
    by_name: dict[str, list[Server]] = {}
    for server in servers:
        if speaks_http(server.rule):
            by_name.setdefault(table_name(server), []).append(server)
    return tuple(
        memo.keep(
            (client, name),
            RouteTable,
            name=name,
            port=group[0].port,
            hosts=tuple(_hosts(group, routings, client, by_host, memo)),
            rest=Rest.NOT_FOUND,
            http3_port=_http3_port(group[0]),
        )
        for name, group in sorted(by_name.items())
    )


def _http3_port(server: Server) -> int:
    """The port that callers dial: what an agent maps to another is dialled there, what a service does is not."""
    if not server.rule.http3:
        return 0
    return server.port if server.mapped else server.number


def _hosts(
    servers: Iterable[Server], routings: tuple[Routing, ...], client: Client, by_host: ByHost, memo: Memo
) -> Iterator[HostRoutes]:
    """A virtual host for every host that a server and a VirtualService agree on; where several VirtualServices do, the
    rules of the oldest come first and those that take everything last."""
    rules: dict[str, dict[HttpRule, Server]] = {}
    first: dict[str, Server] = {}
    redirected: set[str] = set()
    for server in servers:
        bound = replace(client, gateways=frozenset({server.gateway}))
        served = [routing for routing in (memo(loaded, routing, bound) for routing in routings) if routing]
        for host, routing in _agreed(server, served):
            first.setdefault(host, server)
            rules.setdefault(host, {}).update(dict.fromkeys(rules_on(routing, server.number), server))
        tls = server.rule.spec.tls
        if tls is not None and tls.https_redirect:
            for part in server.rule.hosts:
                redirected.add(part.host)
                first.setdefault(part.host, server)
    for host in sorted(first):
        number = first[host].number
        ordered = tuple(sorted(rules.get(host, ()), key=_takes_everything))
        yield HostRoutes(
            name=f"{host}:{number}",
            port=number,
            host=host,
            rules=ordered,
            targets=targets_of(ordered, by_host, number),
            tls=terminates_tls(first[host].rule),
            https_redirect=any(overlaps(host, pattern) == host for pattern in redirected),
        )


def _agreed(server: Server, routings: Iterable[Routing]) -> Iterator[tuple[str, Routing]]:
    for routing in routings:
        agreed: dict[str, None] = {}
        for part in server.rule.hosts:
            if part.namespace in ("*", routing.id.namespace):
                agreed |= dict.fromkeys(host for h in routing.hosts if (host := overlaps(h, part.host)) is not None)
        yield from ((host, routing) for host in agreed)


def _takes_everything(rule: HttpRule) -> bool:
    return not rule.spec.match
