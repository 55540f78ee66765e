"""Which virtual host answers for a Host header.

Invariant: Envoy's order: the exact domain, the longest `*.suffix`, the longest `prefix.*`, then `*`; a star stands for
at least one character.
"""

from __future__ import annotations

import re
from typing import Final

from envoy.config.route.v3.route_components_pb2 import VirtualHost
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)

from gossamer.simulate.index import RouteTable
from gossamer.simulate.notes import NotSimulatedError

_WITH_PORT: Final = re.compile(r"(?P<name>\[[^\]]*\]|[^:]*):(?P<port>\d+)")


def split_port(authority: str) -> tuple[str, int]:
    """Host and port of an authority; port 0 when it names none."""
    found = _WITH_PORT.fullmatch(authority)
    return (found["name"], int(found["port"])) if found else (authority, 0)


def normal_authority(authority: str, manager: HttpConnectionManager, port: int) -> str:
    """The authority as the connection manager passes it on: its port or last dot may go."""
    name, given = split_port(authority)
    match manager.WhichOneof("strip_port_mode"):
        case "strip_any_host_port":
            strip = manager.strip_any_host_port and given > 0
        case _:
            strip = manager.strip_matching_host_port and given == port
    kept = 0 if strip else given
    if manager.strip_trailing_host_dot:
        name = name.removesuffix(".")
    return f"{name}:{kept}" if kept else name


def find_virtual_host(table: RouteTable, authority: str) -> VirtualHost | None:
    """The virtual host for this authority, None when there is none."""
    host = authority.lower()
    if table.message.ignore_port_in_host_matching:
        host = split_port(host)[0]
    found = table.by_domain.get(host) or _by_wildcard(table, host) or table.by_domain.get("*")
    if found is not None and found.HasField("matcher"):
        raise NotSimulatedError(f"the matcher tree of virtual host {found.name}")
    return found


def _by_wildcard(table: RouteTable, host: str) -> VirtualHost | None:
    for length in table.suffix_lengths:
        if length < len(host) and (found := table.by_domain.get(f"*{host[-length:]}")):
            return found
    for length in table.prefix_lengths:
        if length < len(host) and (found := table.by_domain.get(f"{host[:length]}*")):
            return found
    return None
