"""A gateway's listeners: the servers of its Gateways, by the port that they bind.

Invariant: of servers that claim the same connections the older Gateway's has them. A server whose connections lead
nowhere has no chain: what it would take is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from envoy.config.core.v3.base_pb2 import OUTBOUND
from envoy.config.listener.v3.listener_components_pb2 import Filter, FilterChain, FilterChainMatch
from envoy.config.listener.v3.listener_pb2 import Listener

from gossamer.compile.draft import Draft, references
from gossamer.compile.hcm import Direction, connection_manager
from gossamer.compile.names import target_name
from gossamer.compile.origins import metadata_of
from gossamer.compile.policies.slots import HTTP_SLOTS, TCP_SLOTS, network_filters, slot_references
from gossamer.compile.streams import cidr, inspect, socket, tcp_proxy
from gossamer.compile.tls import server_context
from gossamer.core.ids import Origin
from gossamer.core.resources import CLUSTER, LISTENER, ROUTE, Reference
from gossamer.model.servers import speaks_http, table_name, terminates_tls
from gossamer.model.settings import MeshSettings
from gossamer.model.view import Chain, Server


def compile_gateway(servers: tuple[Server, ...], address: str, settings: MeshSettings) -> tuple[Draft, ...]:
    """The listeners of a gateway, on `address` where a server names none."""
    binds: dict[tuple[int, str], _Listener] = {}
    for server in servers:
        bind = server.rule.spec.bind or address
        binds.setdefault((server.port, bind), _Listener(settings=settings)).take(server)
    drafts = (listener.done(bind, port) for (port, bind), listener in sorted(binds.items(), key=lambda item: item[0]))
    return tuple(draft for draft in drafts if draft is not None)


@dataclass(slots=True, kw_only=True)
class _Listener:
    """A listener in the making. `names` are the server names that are taken, `plain` whether plaintext is."""

    settings: MeshSettings
    chains: list[FilterChain] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    plain: bool = False
    references: frozenset[Reference] = frozenset()
    origins: dict[Origin, None] = field(default_factory=dict)

    def take(self, server: Server) -> None:
        if speaks_http(server.rule):
            self._http(server)
        for chain in server.chains:
            self._stream(server, chain)

    def _http(self, server: Server) -> None:
        """Plain servers of a port share one chain and one route table; each TLS server has its own."""
        name, ended = table_name(server), terminates_tls(server.rule)
        names = self._free([part.host for part in server.rule.hosts]) if ended else ()
        if (self.plain and not ended) or (ended and not names):
            return
        prefix = f"outbound_0.0.0.0_{server.port}"
        manager = connection_manager(Direction.GATEWAY, prefix, name, self.settings)
        self._add(name, names, (), [manager], server, (server.rule.origin,))
        self.plain |= not ended
        self.references |= references(ROUTE, [name]) | slot_references(*HTTP_SLOTS)

    def _stream(self, server: Server, chain: Chain) -> None:
        names = self._free(chain.server_names)
        if not names and (chain.server_names or self.plain):
            return
        self.plain |= not names
        filters = [*network_filters(), tcp_proxy(chain.targets, self.settings)]
        self._add(f"{server.gateway}:{server.number}", names, chain.subnets, filters, server, chain.origins)
        clusters = [target_name(target) for target, _ in chain.targets]
        self.references |= references(CLUSTER, clusters) | slot_references(*TCP_SLOTS)

    def _free(self, names: Iterable[str]) -> tuple[str, ...]:
        """Takes those of these server names that nobody has yet."""
        wanted = tuple(name for name in dict.fromkeys(names) if name not in self.names)
        self.names.update(wanted)
        return wanted

    def _add(
        self,
        name: str,
        names: tuple[str, ...],
        subnets: tuple[str, ...],
        filters: list[Filter],
        server: Server,
        origins: tuple[Origin, ...],
    ) -> None:
        match = FilterChainMatch(prefix_ranges=[cidr(subnet) for subnet in subnets])
        if names:
            match.transport_protocol = "tls"
        if names and "*" not in names:
            match.server_names.extend(names)
        chain = FilterChain(name=name, filter_chain_match=match, filters=filters, metadata=metadata_of(origins))
        if terminates_tls(server.rule) and server.rule.spec.tls is not None:
            chain.transport_socket.CopyFrom(server_context(server.rule.spec.tls, self.settings.trust_domains))
        self.chains.append(chain)
        self.origins |= dict.fromkeys(origins)

    def done(self, address: str, port: int) -> Draft | None:
        if not self.chains:
            return None
        name, origins = f"{address}_{port}", tuple(self.origins)
        listener = Listener(
            name=name,
            address=socket(address, port),
            traffic_direction=OUTBOUND,
            filter_chains=self.chains,
            metadata=metadata_of(origins),
        )
        inspect(listener, self.settings, tls=bool(self.names), http=False)
        return Draft(type_url=LISTENER, name=name, message=listener, references=self.references, origins=origins)
