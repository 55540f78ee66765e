"""Which of a listener's filter chains takes a connection.

Invariant: criteria are asked in Envoy's order (destination port, destination address, server name, transport protocol,
application protocols, then the source); at each one only the chains with the best match stay, those without a wish if
none matches, and there is no going back. When none is left the default chain takes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from envoy.config.core.v3.address_pb2 import CidrRange
from envoy.config.listener.v3.listener_components_pb2 import FilterChainMatch

from gossamer.simulate.connection import Connection, Trace
from gossamer.simulate.index import ChainConfig, ListenerConfig
from gossamer.simulate.matchers import parse_ip, prefix_length
from gossamer.simulate.notes import NotSimulatedError

Rank = Callable[[FilterChainMatch, Connection], int]
"""How well a chain's wish fits: the higher the better, 0 for a chain without a wish, -1 for one that does not fit."""


def find_chain(listener: ListenerConfig, connection: Connection, trace: Trace) -> ChainConfig | None:
    """The filter chain that takes the connection, None when none does."""
    if listener.message.HasField("filter_chain_matcher"):
        raise NotSimulatedError("a listener's filter_chain_matcher")
    chains: list[ChainConfig] = list(listener.chains)
    for rank in _RANKS:
        ranked = [(rank(chain.message.filter_chain_match, connection), chain) for chain in chains]
        best = max((found for found, _ in ranked), default=-1)
        if best < 0:
            return listener.default_chain
        chains = [chain for found, chain in ranked if found == best]
    if len(chains) > 1:
        twins = ", ".join(chain.name or "(unnamed)" for chain in chains)
        trace.note(f"filter chains with equal matches, a listener that Envoy rejects: {twins}")
    return chains[0] if chains else listener.default_chain


def _port(match: FilterChainMatch, connection: Connection) -> int:
    if not match.HasField("destination_port"):
        return 0
    return 1 if match.destination_port.value == connection.destination.port else -1


def _in_ranges(ranges: Iterable[CidrRange], ip: str) -> int:
    """Bits that the best of the ranges fixes; none at all is any address: the same as a range of no bits."""
    listed = list(ranges)
    if not listed:
        return 0
    return max(
        (bits for bits in (prefix_length(block, ip) for block in listed) if bits is not None),
        default=-1,
    )


def _address(match: FilterChainMatch, connection: Connection) -> int:
    return _in_ranges(match.prefix_ranges, connection.destination.ip)


def _server_name(match: FilterChainMatch, connection: Connection) -> int:
    """The exact name, or the longest `*.suffix`."""
    if not match.server_names:
        return 0
    return max(_server_name_rank(name.lower(), connection.server_name) for name in match.server_names)


def _server_name_rank(wanted: str, name: str) -> int:
    if wanted == name:
        return 1 << 20
    if wanted.startswith("*.") and name.endswith(wanted[1:]) and len(name) > len(wanted) - 1:
        return len(wanted)
    return -1


def _transport(match: FilterChainMatch, connection: Connection) -> int:
    if not match.transport_protocol:
        return 0
    return 1 if match.transport_protocol == connection.transport else -1


def _application(match: FilterChainMatch, connection: Connection) -> int:
    """The client's first protocol that any chain asks for decides."""
    if not match.application_protocols:
        return 0
    offered = connection.alpn
    places = [len(offered) - offered.index(wanted) for wanted in match.application_protocols if wanted in offered]
    return max(places, default=-1)


def _direct_source(match: FilterChainMatch, connection: Connection) -> int:
    return _in_ranges(match.direct_source_prefix_ranges, connection.source.ip)


def _source_type(match: FilterChainMatch, connection: Connection) -> int:
    if match.source_type == FilterChainMatch.ANY:
        return 0
    source, destination = parse_ip(connection.source.ip), parse_ip(connection.destination.ip)
    local = source is not None and (source.is_loopback or source == destination)
    return 1 if local == (match.source_type == FilterChainMatch.SAME_IP_OR_LOOPBACK) else -1


def _source(match: FilterChainMatch, connection: Connection) -> int:
    return _in_ranges(match.source_prefix_ranges, connection.source.ip)


def _source_port(match: FilterChainMatch, connection: Connection) -> int:
    if not match.source_ports:
        return 0
    return 1 if connection.source.port in match.source_ports else -1


_RANKS: Final[tuple[Rank, ...]] = (
    *(_port, _address, _server_name, _transport, _application),
    *(_direct_source, _source_type, _source, _source_port),
)
