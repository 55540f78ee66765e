"""The filter chains of one inbound port: which connections it takes, and what they pass through.

Invariant: every chain that leads to the application holds the policy slots of its kind. Which chains there are depends
on the port's protocol and on what its PeerAuthentication accepts, and the conditions of any two differ.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from envoy.config.core.v3.base_pb2 import Metadata, TransportSocket
from envoy.config.listener.v3.listener_components_pb2 import Filter, FilterChain, FilterChainMatch
from envoy.config.route.v3.route_components_pb2 import Route, RouteAction, RouteMatch, VirtualHost
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import BoolValue, UInt32Value

from gossamer.api.gateway import ServerTLSSettings
from gossamer.compile.hcm import Direction, connection_manager
from gossamer.compile.names import METADATA
from gossamer.compile.origins import metadata_of
from gossamer.compile.policies.revision import Revisions
from gossamer.compile.policies.slots import network_filters
from gossamer.compile.route_action import RESENT
from gossamer.compile.source import early_source
from gossamer.compile.streams import PLAINTEXT_HTTP, cidr, pass_to
from gossamer.compile.tls import HTTP_PEER_ALPN, PEER_ALPN, TCP_ALPN, mesh_server_context, server_context
from gossamer.core.ids import Origin
from gossamer.model.policy import MutualTls
from gossamer.model.service import Protocol
from gossamer.model.settings import MeshSettings

_HTTP: Final = ("h2", "http/1.1")
_PLAIN, _TLS = "raw_buffer", "tls"
_HANDSHAKE: Final = 15
"""Seconds that a client has for its TLS handshake."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedPort:
    """One port of the workload, or with `number` 0 all that are not named, as one listener serves it.

    `matched` says whether its chains have to ask for the port, because the listener takes others too.
    """

    number: int
    protocol: Protocol
    accepts: MutualTls
    cluster: str
    matched: bool = True
    bind: str = ""
    """The one address of the workload that it is for."""
    tls: ServerTLSSettings | None = None
    """What is terminated for callers from outside the mesh."""
    idle_timeout: timedelta | None = None
    stat_name: str = ""
    """Under which name its TCP connections are counted, if not under its cluster's."""
    origin: Origin | None = None
    decided: bool = False
    """Its routes, named as its cluster, are delivered by themselves, and ask who calls."""

    @property
    def sniffs_tls(self) -> bool:
        """Whether connections are told apart by their TLS handshake."""
        return self.accepts is not MutualTls.DISABLE or self.tls is not None

    @property
    def sniffs_http(self) -> bool:
        """Whether plaintext connections are told apart by whether they carry HTTP."""
        return self.shape == "auto" and self.accepts is not MutualTls.STRICT and not self.only_own_tls

    @property
    def shape(self) -> str:
        """Whether it is `http`, `tcp` or either (`auto`): HTTPS that ends here is HTTP."""
        if self.protocol.is_http or (self.protocol is Protocol.HTTPS and self.tls is not None):
            return "http"
        return "auto" if self.protocol is Protocol.AUTO else "tcp"

    @property
    def only_own_tls(self) -> bool:
        """Whether nothing but TLS with the port's own certificate is taken."""
        return self.tls is not None and self.accepts is MutualTls.DISABLE


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """One kind of connection that a port takes: the condition, and how it is treated."""

    transport: str = ""
    alpn: tuple[str, ...] = ()
    mutual: bool = False
    http: bool = False
    own: bool = False
    """TLS with the port's own certificate."""


_KINDS: Final = {
    ("http", MutualTls.STRICT): (_Kind(transport=_TLS, mutual=True, http=True),),
    ("http", MutualTls.PERMISSIVE): (
        _Kind(transport=_TLS, alpn=PEER_ALPN, mutual=True, http=True),
        _Kind(transport=_PLAIN, http=True),
    ),
    ("http", MutualTls.DISABLE): (_Kind(http=True),),
    ("tcp", MutualTls.STRICT): (_Kind(transport=_TLS, mutual=True),),
    ("tcp", MutualTls.PERMISSIVE): (
        _Kind(transport=_TLS, alpn=PEER_ALPN, mutual=True),
        _Kind(transport=_TLS),
        _Kind(transport=_PLAIN),
    ),
    ("tcp", MutualTls.DISABLE): (_Kind(),),
    # under STRICT all TLS is mutual TLS that ends here, so any name for HTTP will do
    ("auto", MutualTls.STRICT): (
        _Kind(transport=_TLS, alpn=(*HTTP_PEER_ALPN, *_HTTP), mutual=True, http=True),
        _Kind(transport=_TLS, mutual=True),
    ),
    ("auto", MutualTls.PERMISSIVE): (
        _Kind(transport=_TLS, alpn=HTTP_PEER_ALPN, mutual=True, http=True),
        _Kind(transport=_TLS, alpn=TCP_ALPN, mutual=True),
        _Kind(transport=_TLS),
        _Kind(transport=_PLAIN, alpn=PLAINTEXT_HTTP, http=True),
        _Kind(transport=_PLAIN),
    ),
    ("auto", MutualTls.DISABLE): (
        _Kind(transport=_TLS),
        _Kind(transport=_PLAIN, alpn=PLAINTEXT_HTTP, http=True),
        _Kind(transport=_PLAIN),
    ),
}
"""TLS that is not the mesh's is the application's own, and passes unread: it is TCP to us."""

_OWN: Final = {
    "http": (_Kind(transport=_TLS, own=True, http=True),),
    "tcp": (_Kind(transport=_TLS, own=True),),
    "auto": (_Kind(transport=_TLS, alpn=_HTTP, own=True, http=True), _Kind(transport=_TLS, own=True)),
}
"""TLS from outside the mesh, where a Sidecar has it end here (`ingress[].tls`)."""


def _kinds(port: ServedPort) -> tuple[_Kind, ...]:
    """What a port takes. A certificate of its own is for callers that are not asked for the mesh's: under STRICT there
    are none, and where mutual TLS is off nobody comes without TLS either."""
    kinds = _KINDS[port.shape, port.accepts]
    if port.tls is None or port.accepts is MutualTls.STRICT:
        return kinds
    if port.only_own_tls:
        return _OWN[port.shape]
    passed = tuple(kind for kind in kinds if kind.mutual or kind.transport == _PLAIN)
    return (*passed, *_OWN[port.shape])


class ChainCompiler:
    """Compiles the chains of one proxy's inbound listeners; holds what all of them have in common."""

    __slots__ = ("_http_tls", "_origins", "_revisions", "_settings", "_tcp_tls")

    def __init__(self, settings: MeshSettings, revisions: Revisions, origins: tuple[Origin, ...]) -> None:
        self._settings = settings
        self._origins = origins
        self._revisions = revisions
        self._http_tls = mesh_server_context(settings.peer_domains, _HTTP, settings.tls.mesh)
        self._tcp_tls = mesh_server_context(settings.peer_domains, (TCP_ALPN[0], *_HTTP), settings.tls.mesh)

    def compile(self, port: ServedPort) -> list[FilterChain]:
        """The chains of one port."""
        kinds = _kinds(port)
        filters = {
            (http, mutual): self._filters(port, http=http, mutual=mutual)
            for http, mutual in {(kind.http, kind.mutual) for kind in kinds}
        }
        return [self._chain(port, kind, filters[kind.http, kind.mutual]) for kind in kinds]

    def _chain(self, port: ServedPort, kind: _Kind, filters: Iterable[Filter]) -> FilterChain:
        revisions = self._revisions.http if kind.http else self._revisions.tcp
        chain = FilterChain(
            name=chain_name(port.number, http=kind.http),
            filter_chain_match=_match(port, kind),
            filters=filters,
            metadata=_metadata(
                (*self._origins, port.origin) if port.origin else self._origins,
                revisions.of(port.number),
                self._settings.revoked if kind.mutual else "",
            ),
        )
        if kind.mutual:
            chain.transport_socket.CopyFrom(self._socket(http=kind.http))
        elif kind.own and port.tls is not None:
            alpn = _HTTP if kind.http else ()
            settings = self._settings
            chain.transport_socket.CopyFrom(server_context(port.tls, settings.peer_domains, alpn, settings.tls))
        if kind.mutual or kind.own:
            chain.transport_socket_connect_timeout.CopyFrom(Duration(seconds=_HANDSHAKE))
        return chain

    def _socket(self, *, http: bool) -> TransportSocket:
        return self._http_tls if http else self._tcp_tls

    def _filters(self, port: ServedPort, *, http: bool, mutual: bool) -> list[Filter]:
        if http:
            stat_prefix = f"inbound_{chain_name(port.number, http=True)}"
            routes = port.cluster if port.decided else inbound_routes(port)
            early = early_source(verified=mutual) if port.decided else None
            return [connection_manager(Direction.INBOUND, stat_prefix, routes, self._settings, early)]
        return [*network_filters(), pass_to(port.cluster, self._settings, port.idle_timeout, port.stat_name)]


def chain_name(port: int, *, http: bool) -> str:
    """Istio's names; a port's chains share one."""
    if port:
        return f"0.0.0.0_{port}"
    return "virtualInbound-catchall-http" if http else "virtualInbound"


def inbound_routes(port: ServedPort) -> RouteConfiguration:
    """One route to the application."""
    action = RouteAction(
        cluster=port.cluster,
        timeout=Duration(),
        retry_policy=RESENT,
    )
    route = Route(name="default", match=RouteMatch(prefix="/"), route=action)
    host = VirtualHost(name=f"inbound|http|{port.number}", domains=["*"], routes=[route])
    return RouteConfiguration(name=port.cluster, virtual_hosts=[host], validate_clusters=BoolValue(value=False))


def _match(port: ServedPort, kind: _Kind) -> FilterChainMatch:
    match = FilterChainMatch(transport_protocol=kind.transport, application_protocols=kind.alpn)
    if port.number and port.matched:
        match.destination_port.CopyFrom(UInt32Value(value=port.number))
    if port.bind and port.matched:
        match.prefix_ranges.append(cidr(port.bind))
    return match


def _metadata(origins: tuple[Origin, ...], revision: str, revoked: str) -> Metadata | None:
    """Who decided what the port accepts, the policy revision, and the last revocation of a certificate: where these
    differ, Envoy takes the chain for another one and drains the old."""
    metadata = metadata_of(origins)
    for key, value in (("policy_revision", revision), ("revoked", revoked)):
        if value:
            metadata = metadata or Metadata()
            metadata.filter_metadata[METADATA].update({key: value})
    return metadata
