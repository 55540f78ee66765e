"""Which listener takes a connection, and what its listener filters find out.

Invariant: follows Envoy's connection handler: a redirected connection arrives at the capture listener, which hands it
to the listener of its original destination (that very address first, then any address on that port) or keeps it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from envoy.config.core.v3.base_pb2 import TrafficDirection
from envoy.config.listener.v3.listener_components_pb2 import ListenerFilterChainMatchPredicate

from gossamer.simulate.connection import Connection, Trace
from gossamer.simulate.decode import canonical
from gossamer.simulate.index import ListenerConfig
from gossamer.simulate.notes import NotSimulatedError
from gossamer.simulate.request import Address, Arrival, Request

_CAPTURE: Final = {
    Arrival.OUTBOUND: ("virtualOutbound", TrafficDirection.OUTBOUND),
    Arrival.INBOUND: ("virtualInbound", TrafficDirection.INBOUND),
}
_SILENT: Final = frozenset({"LocalRateLimit", "ProxyProtocol", "SetFilterState", "Config"})
"""Listener filters that never choose a filter chain."""


def find_listener(listeners: Sequence[ListenerConfig], request: Request) -> tuple[ListenerConfig, Address] | None:
    """The listener that decides about a connection, with the destination address that it sees."""
    wanted = Address(ip=canonical(request.destination.ip), port=request.destination.port)
    over_udp = request.http is not None and request.http.http3
    listeners = [listener for listener in listeners if listener.udp == over_udp]
    if request.arrival is Arrival.DIRECT:
        found = _at_address([listener for listener in listeners if listener.bound], wanted)
        return None if found is None else (found, wanted)
    first = _capture_listener(listeners, request.arrival)
    if first is None:
        return None
    if not _restores_destination(first):
        return first, first.addresses[0]
    if first.message.use_original_dst.value:
        others = [listener for listener in listeners if listener is not first]
        return _at_address(others, wanted) or first, wanted
    return first, wanted


def _capture_listener(listeners: Sequence[ListenerConfig], arrival: Arrival) -> ListenerConfig | None:
    name, direction = _CAPTURE[arrival]
    named = next((listener for listener in listeners if listener.name == name), None)
    if named is not None:
        return named
    capturing = (listener for listener in listeners if listener.bound and _restores_destination(listener))
    return next((listener for listener in capturing if listener.message.traffic_direction == direction), None)


def _restores_destination(listener: ListenerConfig) -> bool:
    by_filter = any(f.type == "OriginalDst" or f.name.endswith("original_dst") for f in listener.filters)
    return listener.message.use_original_dst.value or by_filter


def _at_address(listeners: Sequence[ListenerConfig], wanted: Address) -> ListenerConfig | None:
    wildcards = ("::",) if ":" in wanted.ip else ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
    for ip in (wanted.ip, *wildcards):
        for listener in listeners:
            if Address(ip=ip, port=wanted.port) in listener.addresses and _takes(listener, ip, wanted):
                return listener
    return None


def _takes(listener: ListenerConfig, ip: str, wanted: Address) -> bool:
    """An IPv6 wildcard takes IPv4 only where it is told to."""
    if ip != "::" or ":" in wanted.ip:
        return True
    addresses = [listener.message.address, *(extra.address for extra in listener.message.additional_addresses)]
    return any(a.socket_address.ipv4_compat for a in addresses if a.socket_address.address == "::")


def inspect(listener: ListenerConfig, connection: Connection, trace: Trace) -> None:
    """Let the listener's filters look at the connection's first bytes."""
    tls, http = connection.request.tls, connection.request.http
    if listener.udp and tls is not None:  # QUIC's own handshake says it, without a filter
        connection.transport = "quic"
        connection.server_name = tls.server_name.lower()
        connection.alpn = tls.alpn
    for position, found in enumerate(listener.filters):
        if _disabled(listener.message.listener_filters[position].filter_disabled, connection):
            continue
        if found.type == "TlsInspector":
            if tls is not None:
                connection.transport = "tls"
                connection.server_name = tls.server_name.lower()
                connection.alpn = tls.alpn
        elif found.type == "HttpInspector":
            if connection.transport == "raw_buffer" and tls is None and http is not None:
                connection.alpn = ("h2c",) if http.http2 else ("http/1.1",)
        elif found.type != "OriginalDst" and found.type not in _SILENT:
            trace.note(f"the listener filter {found.name} ({found.type}) was passed over")


def _disabled(predicate: ListenerFilterChainMatchPredicate, connection: Connection) -> bool:
    match predicate.WhichOneof("rule"):
        case None:
            return False
        case "any_match":
            return predicate.any_match
        case "not_match":
            return not _disabled(predicate.not_match, connection)
        case "or_match":
            return any(_disabled(rule, connection) for rule in predicate.or_match.rules)
        case "and_match":
            return all(_disabled(rule, connection) for rule in predicate.and_match.rules)
        case "destination_port_range":
            span = predicate.destination_port_range
            return span.start <= connection.destination.port < span.end
    raise NotSimulatedError("a listener filter that is disabled by an unknown rule")
