"""A whole call: through the caller's proxy, then through the sidecar of each workload that may answer, or through a
gateway that sends it on.

Invariant: what one proxy sends is what the next one receives: the second hop's request is made of the first one's
outcome and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from gossamer.simulate.outcome import EndpointChoice, Outcome, Verdict
from gossamer.simulate.request import Address, Arrival, Certificate, HttpRequest, Request, Tls
from gossamer.simulate.simulator import Simulator


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Peer:
    """A workload of the mesh: its name, its proxy, who it is, and the address that its connections come from."""

    name: str
    simulator: Simulator
    identity: Certificate
    address: str
    gateway: bool = False
    """Whether it is its proxy that is called: what that sends on goes further."""


Peers = Callable[[EndpointChoice], Peer | None]
"""Who answers at an endpoint; None where nobody of the mesh does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """One endpoint that may be chosen, and what becomes of the request there.

    `outcome` is None where no proxy of the mesh stands before the endpoint; `problem` says why the caller's proxy
    breaks off (then nothing arrives).
    """

    endpoint: EndpointChoice
    name: str = ""
    request: Request | None = None
    outcome: Outcome | None = None
    problem: str = ""
    gateway: bool = False
    hops: tuple[Hop, ...] = ()
    """Where a gateway sends it on to."""

    def leaves(self, share: float = 1.0) -> Iterator[tuple[Hop, float]]:
        """The places where it may end, each with its part of the calls that come here."""
        if not self.hops or self.verdict is not Verdict.SERVED:
            yield self, share
            return
        for hop in self.hops:
            yield from hop.leaves(share * hop.endpoint.share)

    @property
    def verdict(self) -> Verdict:
        if self.problem:
            return Verdict.UNAVAILABLE
        return self.outcome.verdict if self.outcome is not None else Verdict.SERVED

    @property
    def reason(self) -> str:
        return self.problem or (self.outcome.reason if self.outcome is not None else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request at its first proxy and, if that sends it on, at each place where it may arrive."""

    request: Request
    first: Outcome
    hops: tuple[Hop, ...] = ()

    def leaves(self) -> Iterator[tuple[Hop, float]]:
        """The places where it may end, each with its part of the calls."""
        for hop in self.hops:
            yield from hop.leaves(hop.endpoint.share)

    @property
    def verdicts(self) -> tuple[tuple[Verdict, float], ...]:
        """How the call ends, with the part of calls that do (from 0 to 1), the most frequent first."""
        if self.first.verdict is not Verdict.SERVED or not self.hops:
            return ((self.first.verdict, 1.0),)
        parts: dict[Verdict, float] = {}
        for hop, share in self.leaves():
            parts[hop.verdict] = parts.get(hop.verdict, 0.0) + share
        return tuple(sorted(parts.items(), key=lambda part: -part[1]))


def simulate_call(caller: Peer, request: Request, peers: Peers) -> Call:
    """The call that `caller`'s proxy gets as `request`, followed to everywhere that it may go."""
    first = caller.simulator.simulate(request)
    if first.verdict is not Verdict.SERVED:
        return Call(request=request, first=first)
    return Call(request=request, first=first, hops=_hops(caller, request, first, peers, _GATEWAYS))


_GATEWAYS: Final = 4
"""How many gateways a call goes through at most: two that send it to one another are a ring."""


def _hops(caller: Peer, request: Request, first: Outcome, peers: Peers, left: int) -> tuple[Hop, ...]:
    found = []
    for endpoint in first.endpoints:
        peer = peers(endpoint)
        if peer is None:
            found.append(Hop(endpoint=endpoint))
            continue
        hop = _hop(caller, request, first, endpoint, peer)
        if peer.gateway and left and hop.request and hop.outcome and hop.verdict is Verdict.SERVED:
            hop = replace(hop, hops=_hops(peer, hop.request, hop.outcome, peers, left - 1))
        found.append(hop)
    return tuple(found)


def _hop(caller: Peer, request: Request, first: Outcome, endpoint: EndpointChoice, peer: Peer) -> Hop:
    problem = _wrong_server(endpoint, peer.identity)
    direct = peer.gateway or peer.simulator.listens_at(endpoint.address)
    arriving = Request(
        arrival=Arrival.DIRECT if direct else Arrival.INBOUND,
        destination=endpoint.address,
        source=Address(ip=caller.address, port=request.source.port),
        tls=_tls(caller, request, first, endpoint),
        http=_http(request, first, endpoint),
        chance=request.chance,
        check=request.check,
    )
    if problem:
        return Hop(endpoint=endpoint, name=peer.name, request=arriving, problem=problem, gateway=peer.gateway)
    outcome = peer.simulator.simulate(arriving)
    unread = endpoint.tls is not None and outcome.transport == "tls passthrough" and not peer.gateway
    return Hop(
        endpoint=endpoint,
        name=peer.name,
        request=arriving,
        outcome=outcome,
        problem=_NO_TLS_THERE if unread else "",
        gateway=peer.gateway,
    )


_NO_TLS_THERE = "TLS is sent to a port that does not take the mesh's: the application itself would have to answer it"


def _wrong_server(endpoint: EndpointChoice, identity: Certificate) -> str:
    """Why the caller's proxy does not believe the server, the empty string when it does."""
    wanted = endpoint.tls.subject_alt_names if endpoint.tls is not None else ()
    shown = (*identity.uris, *identity.dns_names)
    if not wanted or any(_same(name, other) for name in wanted for other in shown):
        return ""
    return f"the server is {', '.join(identity.uris)}, and the caller accepts only {', '.join(wanted)}"


def _same(wanted: str, shown: str) -> bool:
    return shown.startswith(wanted[:-1]) if wanted.endswith("*") else shown == wanted


def _tls(caller: Peer, request: Request, first: Outcome, endpoint: EndpointChoice) -> Tls | None:
    """What the next proxy sees of TLS: the sending proxy's, or else the client's own that was passed through."""
    sent = endpoint.tls
    if sent is None:
        return request.tls if first.transport == "tls passthrough" else None
    identity = caller.identity if sent.mutual else None
    return Tls(server_name=sent.server_name, alpn=sent.alpn, certificate=identity)


def _http(request: Request, first: Outcome, endpoint: EndpointChoice) -> HttpRequest | None:
    if first.protocol == "http":
        return first.forwarded
    hidden = first.transport == "tls passthrough" and endpoint.tls is not None
    return None if hidden else request.http
