"""What a sidecar opens for a workload whose traffic nobody redirects: a loopback port for each service port, an HTTP
proxy for all services that speak HTTP, and an address by which these are called without a proxy.

Invariant: only what the agent chose a port for is opened. Which address was dialled is not known here, so a call leads
to a service that is named, or nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from gossamer.core.memo import Memo
from gossamer.model.binds import chains_of
from gossamer.model.chains import Taken, untaken
from gossamer.model.proxy import Capture
from gossamer.model.route_tables import Speaking, rest_of
from gossamer.model.service import Protocol, Resolution, Service
from gossamer.model.settings import MeshSettings
from gossamer.model.sidecars import redirected
from gossamer.model.targets import behind
from gossamer.model.view import Bind, HostRoutes, Outbound, Rest, RouteTable

PROXY_TABLE: Final = "http_proxy"


def explicit_binds(outbound: Outbound, capture: Capture) -> tuple[Bind, ...]:
    """A bind for each service port that the agent chose a local port for, if the workload sees the service."""
    by_host = {found.service.hostname: found for found in outbound.services}
    speaking = Speaking(outbound.routings)
    binds = []
    for name, local in sorted(capture.outbound_ports.items()):
        hostname, _, number = name.rpartition(":")
        real = behind(by_host[hostname], by_host) if hostname in by_host else None
        port = real.service.port(int(number)) if real else None
        if real is None or port is None or port.protocol is Protocol.UDP:
            continue
        if not redirected(outbound.client.egress, by_host[hostname].service, port.number):
            continue
        draft = Bind(address=capture.service_addresses.get(hostname, capture.address), port=local, opened=True)
        if port.protocol.is_http or port.protocol is Protocol.AUTO:
            draft = replace(draft, table=_table_name(hostname, port.number))
        if not port.protocol.is_http:
            chains = tuple(chains_of(real, port, speaking.for_host(real.service.hostname), by_host))
            taken: Taken = set()
            parted = (part for chain in chains if not chain.takes_everything for part in untaken(chain, taken))
            rest = next((chain for chain in chains if chain.takes_everything), None)
            draft = replace(draft, chains=tuple(parted), rest=rest)
        binds.append(draft)
    for table in _web_tables(outbound, capture):
        binds.append(Bind(address=capture.web_address, port=table.port, table=_web_name(table), opened=True))
    return tuple(binds)


def explicit_tables(outbound: Outbound, capture: Capture, settings: MeshSettings, memo: Memo) -> tuple[RouteTable, ...]:
    """The route tables of those binds, and of the HTTP proxy."""
    hosts = [host for table in outbound.tables if table.name == str(table.port) for host in table.hosts]
    tables = [
        RouteTable(
            name=_table_name(host.host, host.port),
            port=host.port,
            hosts=(memo(_everything, host),),
            rest=Rest.BLOCK,
        )
        for host in hosts
        if f"{host.host}:{host.port}" in capture.outbound_ports
    ]
    tables += [replace(table, name=_web_name(table), rest=Rest.BLOCK) for table in _web_tables(outbound, capture)]
    if capture.http_proxy_port:
        proxied = tuple(memo(_with_port, host) for host in hosts)
        rest = rest_of(settings)
        if rest is Rest.ALLOW and settings.outbound.egress_proxy is None:
            rest = Rest.FORWARD
        tables.append(
            RouteTable(name=PROXY_TABLE, port=capture.http_proxy_port, hosts=proxied, rest=rest, with_ports=True)
        )
    return tuple(tables)


def _web_tables(outbound: Outbound, capture: Capture) -> list[RouteTable]:
    """The tables of the ports that are opened at the address of services that speak HTTP alone."""
    return [table for table in outbound.tables if table.name == str(table.port) and table.port in capture.web_ports]


def _web_name(table: RouteTable) -> str:
    return f"web:{table.port}"


def named_addresses(services: Iterable[Service], capture: Capture) -> dict[str, str]:
    """The address by which each service can be called, by hostname: without those of which some port is not opened."""
    found = {}
    for service in services:
        ports = [port for port in service.ports if port.protocol is not Protocol.UDP]
        own = capture.service_addresses.get(service.hostname, "")
        if not ports or service.wildcard or service.resolution is Resolution.NONE:
            continue
        if own:
            if all(capture.outbound_ports.get(f"{service.hostname}:{port.number}") == port.number for port in ports):
                found[service.hostname] = own
        elif all(port.protocol.is_http and port.number in capture.web_ports for port in ports):
            found[service.hostname] = capture.web_address
    return found


def _table_name(hostname: str, port: int) -> str:
    return f"{hostname}:{port}"


def _everything(host: HostRoutes) -> HostRoutes:
    return replace(host, everything=True)


def _with_port(host: HostRoutes) -> HostRoutes:
    """The host as an HTTP proxy is asked for it: with its port, which may be left out where it is 80."""
    names = (host.host, *host.aliases)
    aliases = [f"{name}:{host.port}" for name in names[1:]] + ([*names] if host.port == 80 else [])
    return replace(host, host=f"{host.host}:{host.port}", aliases=tuple(aliases))
