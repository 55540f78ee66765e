"""A gateway's listeners: the servers of its Gateways, by the port that they bind.

Invariant: of servers that claim the same connections the older Gateway's has them. A server whose connections lead
nowhere has no chain: what it would take is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from envoy.config.core.v3.base_pb2 import OUTBOUND
from envoy.config.listener.v3.listener_components_pb2 import Filter, FilterChain, FilterChainMatch, ListenerFilter
from envoy.config.listener.v3.listener_pb2 import AdditionalAddress, Listener
from envoy.extensions.filters.listener.proxy_protocol.v3.proxy_protocol_pb2 import ProxyProtocol

from gossamer.compile.draft import Draft, pack, references
from gossamer.compile.endpoints import address_of
from gossamer.compile.hcm import Direction, connection_manager
from gossamer.compile.limits import seconds
from gossamer.compile.names import target_name
from gossamer.compile.origins import metadata_of
from gossamer.compile.policies.slots import HTTP_SLOTS, TCP_SLOTS, network_filters, slot_references
from gossamer.compile.quic import quic_chain, quic_listener
from gossamer.compile.serving import buffer_listener
from gossamer.compile.streams import TLS_INSPECTOR, cidr, tcp_filters
from gossamer.compile.tls import PEER_ALPN, server_context
from gossamer.core.ids import Origin
from gossamer.core.resources import CLUSTER, LISTENER, ROUTE, Reference
from gossamer.model.chains import Taken, untaken
from gossamer.model.protocols import declared_protocol
from gossamer.model.servers import is_auto, speaks_http, table_name, terminates_tls
from gossamer.model.service import Protocol
from gossamer.model.settings import MeshSettings
from gossamer.model.view import Chain, Server

_HTTP_ALPN: Final = ("h2", "http/1.1")
_HANDSHAKE_S: Final = 15.0
"""How long a client has for its TLS handshake: a gateway faces clients that nobody knows."""

_PROXY_PROTOCOL: Final = ListenerFilter(
    name="envoy.filters.listener.proxy_protocol", typed_config=pack(ProxyProtocol())
)
"""A connection without its header is refused: otherwise anyone could say where it comes from."""


def compile_gateway(
    servers: tuple[Server, ...], addresses: tuple[str, ...], settings: MeshSettings
) -> tuple[Draft, ...]:
    """The listeners of a gateway, on `addresses` where a server names none."""
    binds: dict[tuple[int, tuple[str, ...]], list[Server]] = {}
    for server in servers:
        named = server.rule.spec.bind
        own = bool(named) and named not in addresses  # who names what all have shares it
        binds.setdefault((server.port, (named,) if own else addresses), []).append(server)
    listeners = [
        _Listener(settings=settings, addresses=bound, port=port, web=any(map(_is_web, found))).taking(found)
        for (port, bound), found in sorted(binds.items(), key=lambda item: item[0])
    ]
    over_tcp = [listener.done() for listener in listeners]
    over_udp = [listener.over_quic() for listener in listeners]
    return tuple(draft for draft in (*over_tcp, *over_udp) if draft is not None)


def _is_web(server: Server) -> bool:
    return declared_protocol(server.rule.spec.port.protocol) is Protocol.GRPC_WEB


@dataclass(slots=True, kw_only=True)
class _Listener:
    """A listener in the making. `taken` are the (server name, network, source) that somebody has; without a name it is
    plaintext, and without a network all that no other has."""

    settings: MeshSettings
    addresses: tuple[str, ...]
    port: int
    web: bool = False
    """Whether gRPC-Web is spoken."""
    chains: list[FilterChain] = field(default_factory=list)
    quic: list[FilterChain] = field(default_factory=list)
    """Those of the chains that are served by HTTP/3 too, as they are over QUIC."""
    taken: Taken = field(default_factory=set)
    references: frozenset[Reference] = frozenset()
    origins: dict[Origin, None] = field(default_factory=dict)

    def taking(self, servers: Iterable[Server]) -> _Listener:
        for server in servers:
            if speaks_http(server.rule):
                self._http(server)
            for chain in server.chains:
                self._stream(server, chain)
        return self

    def _http(self, server: Server) -> None:
        """Plain servers of a port share one chain and one route table; each TLS server has its own."""
        name, ended = table_name(server), terminates_tls(server.rule)
        for match in self._free(Chain(server_names=tuple(part.host for part in server.rule.hosts) if ended else ())):
            prefix = server.rule.spec.name or f"outbound_0.0.0.0_{server.port}"
            manager = connection_manager(Direction.GATEWAY, prefix, name, self.settings, grpc_web=self.web)
            self._add(name, match, [manager], server, (server.rule.origin,))
            if server.rule.http3 and server.rule.spec.tls is not None:
                self.quic.append(quic_chain(self.chains[-1], server.rule.spec.tls))
            self.references |= references(ROUTE, [name]) | slot_references(*HTTP_SLOTS)

    def _stream(self, server: Server, chain: Chain) -> None:
        for match in self._free(chain):
            if is_auto(server.rule):
                match.application_protocols.extend(PEER_ALPN)
            filters = [*network_filters(), *tcp_filters(chain.targets, self.settings)]
            self._add(f"{server.gateway}:{server.number}", match, filters, server, chain.origins)
            clusters = [target_name(target) for target, _ in chain.targets]
            self.references |= references(CLUSTER, clusters) | slot_references(*TCP_SLOTS)

    def _free(self, wanted: Chain) -> list[FilterChainMatch]:
        """Takes what of these connections nobody has yet: matches for just that."""
        return [
            FilterChainMatch(
                prefix_ranges=[cidr(net) for net in part.subnets],
                source_prefix_ranges=[cidr(net) for net in part.sources],
                transport_protocol="tls" if part.server_names else "",
                server_names=part.server_names if "*" not in part.server_names else (),
            )
            for part in untaken(wanted, self.taken)
        ]

    def _add(
        self, name: str, match: FilterChainMatch, filters: list[Filter], server: Server, origins: tuple[Origin, ...]
    ) -> None:
        chain = FilterChain(name=name, filter_chain_match=match, filters=filters, metadata=metadata_of(origins))
        if terminates_tls(server.rule) and server.rule.spec.tls is not None:
            alpn = _HTTP_ALPN if speaks_http(server.rule) else ()
            domains, choices = self.settings.peer_domains, self.settings.tls
            chain.transport_socket.CopyFrom(server_context(server.rule.spec.tls, domains, alpn, choices))
            chain.transport_socket_connect_timeout.CopyFrom(seconds(_HANDSHAKE_S))
        self.chains.append(chain)
        self.origins |= dict.fromkeys(origins)

    def done(self) -> Draft | None:
        if not self.chains:
            return None
        name, origins = f"{self.addresses[0]}_{self.port}", tuple(self.origins)
        first, *more = (address_of(address.removeprefix("unix://"), self.port) for address in self.addresses)
        listener = Listener(
            name=name,
            address=first,
            additional_addresses=[AdditionalAddress(address=address) for address in more],
            traffic_direction=OUTBOUND,
            filter_chains=self.chains,
            metadata=metadata_of(origins),
        )
        if self.settings.topology.proxy_protocol is not None:
            listener.listener_filters.append(_PROXY_PROTOCOL)
        if any(name for name, *_ in self.taken):
            listener.listener_filters.append(TLS_INSPECTOR)
        buffer_listener(listener, self.settings.connections)
        return Draft(type_url=LISTENER, name=name, message=listener, references=self.references, origins=origins)

    def over_quic(self) -> Draft | None:
        """The listener beside it, None where nothing is served by HTTP/3."""
        if not self.quic:
            return None
        named = frozenset(one for one in self.references if one.type_url != CLUSTER)
        return quic_listener(self.addresses, self.port, self.quic, named, tuple(self.origins))
