"""Where a sidecar takes in its workload's connections, and where those go that are not read as HTTP.

Invariant: no two binds have one address and port, and no connection fits two chains of a bind; what two services claim
the older one has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from gossamer.api.virtual_service import RouteDestination
from gossamer.core.ids import Origin
from gossamer.model.chains import Taken, untaken
from gossamer.model.route_tables import Speaking, has_own_table
from gossamer.model.routing import Routing
from gossamer.model.service import Port, Protocol, Resolution, Service
from gossamer.model.sight import Sight
from gossamer.model.targets import ByHost, resolve, target_of
from gossamer.model.view import Bind, Chain, OutboundService, Target


def build_binds(sight: Sight, *, allocated: bool, six: bool, other_hosts: bool) -> tuple[Bind, ...]:
    """The binds of all services, by port and address. `allocated` says whether workloads come to know, by DNS, the
    addresses that were given to services without any; `other_hosts` whether hosts that are no service's are served."""
    by_host, speaking = sight.by_host, Speaking(sight.routings)
    drafts: dict[tuple[int, str], _Draft] = {}
    for outbound in sorted(sight.services, key=_age):
        service = outbound.service
        for port in () if service.resolution is Resolution.ALIAS else service.ports:
            if port.protocol.is_http:
                _at(drafts, port, "").table = str(port.number)
            elif port.protocol is not Protocol.UDP:
                chains = tuple(chains_of(outbound, port, speaking.for_host(service.hostname), by_host))
                given = service.allocated_six if six else service.allocated
                _claim(drafts, service, port, chains, given=given if allocated else "")
    if other_hosts:
        _at(drafts, Port(number=sight.other_port), "").table = str(sight.other_port)
    return tuple(drafts[key].done() for key in sorted(drafts))


def bind_at(sight: Sight, bind: Bind) -> Bind:
    """A bind of a Sidecar's own choice, with the chains of all that is exposed there and is not read as HTTP. What is
    plain TCP goes to the oldest service: nothing tells them apart."""
    by_host, speaking = sight.by_host, Speaking(sight.routings)
    draft = _Draft(port=bind.port, address=bind.address)
    for outbound in sorted(sight.services, key=_age):
        for port in outbound.service.ports:
            if not port.protocol.is_http and port.protocol is not Protocol.UDP:
                chains = chains_of(outbound, port, speaking.for_host(outbound.service.hostname), by_host)
                named = port.protocol.is_tls
                draft.add(_by_name(chain, outbound.service) if named else chain for chain in chains)
    return replace(bind, chains=tuple(draft.chains), rest=draft.rest)


def _age(outbound: OutboundService) -> tuple[str, str, str, str]:
    service = outbound.service
    return (service.created, service.name, service.namespace, service.hostname)


def _claim(
    drafts: dict[tuple[int, str], _Draft], service: Service, port: Port, chains: tuple[Chain, ...], *, given: str
) -> None:
    """Put a port's chains where its connections arrive: its own addresses, else its networks, else any address."""
    known = (*service.addresses, given)
    single = [address for address in known if address and "/" not in address]
    networks = tuple(address for address in known if "/" in address)
    for address in (*single, *service.external_ips):
        if (port.number, address) not in drafts:
            draft = _at(drafts, port, address)
            draft.add(chains)
            draft.table = f"{service.hostname}:{port.number}" if has_own_table(service, port) else ""
    if single and not networks:
        return
    anywhere = _at(drafts, port, "")
    if networks:
        anywhere.add(chain.within(networks) for chain in chains)
    else:
        anywhere.add(chains if not port.protocol.is_tls else (_by_name(chain, service) for chain in chains))
        if port.protocol is Protocol.AUTO:
            anywhere.table = str(port.number)


def _by_name(chain: Chain, service: Service) -> Chain:
    """Without an address only its name tells TLS to this service from others'."""
    return chain if chain.server_names else chain.named((service.hostname,))


def chains_of(outbound: OutboundService, port: Port, routing: Routing | None, by_host: ByHost) -> Iterator[Chain]:
    """The chains of a port: VirtualServices' TLS or TCP routes, and the service itself where they leave something."""
    service = outbound.service
    own = Chain(
        targets=((target_of(outbound, service.hostname, "", port.number), 1),),
        origins=(service.origin,) if service.origin else (),
    )
    if port.protocol.is_tls:
        chains = list(_tls_chains(routing, port, by_host))
        yield from chains or (own,)
        return
    for rule in routing.tcp if routing else ():
        targets = weighted(rule.spec.route, by_host, port.number)
        for match in rule.spec.match:
            if match.port in (0, port.number):
                chain = Chain(
                    subnets=match.destination_subnets,
                    sources=(match.source_subnet,) if match.source_subnet else (),
                    targets=targets,
                    origins=(rule.origin,),
                )
                yield chain
                if chain.takes_everything:
                    return
        if not rule.spec.match:
            yield Chain(targets=targets, origins=(rule.origin,))
            return
    if service.resolution is not Resolution.DYNAMIC_DNS:
        yield own
    elif port.protocol is Protocol.AUTO:
        yield own.named((service.hostname,))  # what is neither TLS nor HTTP names no host that could be looked up


def _tls_chains(routing: Routing | None, port: Port, by_host: ByHost) -> Iterator[Chain]:
    for rule in routing.tls if routing else ():
        targets = weighted(rule.spec.route, by_host, port.number)
        for match in rule.spec.match:
            if match.port in (0, port.number):
                yield Chain(
                    server_names=tuple(name.lower() for name in match.sni_hosts),
                    subnets=match.destination_subnets,
                    targets=targets,
                    origins=(rule.origin,),
                )


def weighted(route: Iterable[RouteDestination], by_host: ByHost, port: int) -> tuple[tuple[Target, int], ...]:
    """The targets of a TCP or TLS route with their weights."""
    return tuple((resolve(part.destination, by_host, port), part.weight) for part in route)


def _at(drafts: dict[tuple[int, str], _Draft], port: Port, address: str) -> _Draft:
    return drafts.setdefault((port.number, address), _Draft(port=port.number, address=address))


@dataclass(slots=True, kw_only=True)
class _Draft:
    """A bind in the making."""

    port: int
    address: str
    table: str = ""
    chains: list[Chain] = field(default_factory=list)
    rest: Chain | None = None
    taken: Taken = field(default_factory=set)

    def add(self, chains: Iterable[Chain]) -> None:
        """Take what of these chains nobody took before; one that fits everything is the rest."""
        for chain in chains:
            if chain.takes_everything:
                self.rest = self.rest or chain
            else:
                self.chains.extend(untaken(chain, self.taken))

    def done(self) -> Bind:
        return Bind(address=self.address, port=self.port, table=self.table, chains=tuple(self.chains), rest=self.rest)


def origins_of(bind: Bind) -> tuple[Origin, ...]:
    """The user resources behind a bind's connections that are not read as HTTP."""
    chains = (*bind.chains, *((bind.rest,) if bind.rest else ()))
    own = (bind.origin,) if bind.origin else ()
    return tuple(dict.fromkeys((*own, *(origin for chain in chains for origin in chain.origins))))
