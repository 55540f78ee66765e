"""Which protocol a port speaks, by Istio's rules of protocol selection.

Invariant: what nobody declared is AUTO, told apart by the first bytes, except on ports where servers speak first.
"""

from __future__ import annotations

from typing import Final

from gossamer.model.service import Protocol

_BY_NAME: Final = {protocol.value.lower(): protocol for protocol in Protocol if protocol is not Protocol.AUTO}
_KUBERNETES: Final = {
    "kubernetes.io/h2c": Protocol.HTTP2,
    "kubernetes.io/ws": Protocol.HTTP,
    "kubernetes.io/wss": Protocol.HTTPS,
}
SERVER_FIRST: Final = frozenset({25, 53, 3306, 27017})
"""SMTP, DNS, MySQL and MongoDB: waiting for the client's first bytes would wait for ever."""


def declared_protocol(text: str) -> Protocol:
    """Protocol of a ServiceEntry's or Gateway's port; AUTO when it is empty or unknown."""
    return _BY_NAME.get(text.lower(), Protocol.AUTO)


def kubernetes_protocol(number: int, name: str, app_protocol: str, transport: str) -> Protocol:
    """Protocol of a Service's port: `appProtocol`, else the port name up to its first dash (`grpc-web` whole)."""
    if transport == "UDP":
        return Protocol.UDP
    if app_protocol:
        known = _KUBERNETES.get(app_protocol.lower()) or _BY_NAME.get(app_protocol.lower())
        return known or Protocol.AUTO
    lowered = name.lower()
    if lowered == "grpc-web" or lowered.startswith("grpc-web-"):
        return Protocol.GRPC_WEB
    named = _BY_NAME.get(lowered.partition("-")[0])
    if named is not None:
        return named
    return Protocol.TCP if number in SERVER_FIRST else Protocol.AUTO
