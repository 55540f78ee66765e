"""One question to a mesh: who asks, what, and what becomes of it.

Invariant: `simulate` and `explain` ask here, so that they say the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from gossamer.cli.cast import Cast, find_workload
from gossamer.cli.question import Question, gateway_request, inbound_request, outbound_request
from gossamer.cli.simulate_view import Answer
from gossamer.core.errors import UsageError
from gossamer.model.proxy import ProxyType
from gossamer.model.service import Workload
from gossamer.simulate.call import Call, Peer, simulate_call
from gossamer.simulate.outcome import Verdict
from gossamer.simulate.request import Address, Arrival

GOOD: Final = frozenset({Verdict.SERVED, Verdict.REDIRECTED, Verdict.ANSWERED})


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """Who is asked about, as the command line names them; empty for nobody."""

    caller: str = ""
    target: str = ""
    gateway: str = ""
    service_account: str = ""
    client: str = ""

    def check(self) -> None:
        """UsageError if it makes no sense together."""
        if self.gateway and (self.caller or self.target):
            raise UsageError("--gateway is a way of its own into the mesh: leave out --from and --to")
        if not (self.gateway or self.caller or self.target):
            raise UsageError("who is calling? give --from namespace/workload, or --gateway for a request from outside")


def ask(cast: Cast, question: Question, people: People) -> Answer:
    """Simulate what was asked."""
    if people.gateway:
        return _through_gateway(cast, question, people)
    if people.target:
        return _inbound(cast, question, people)
    caller = _caller(cast, people)
    namespace = caller.name.partition("/")[0]
    request, assumptions = outbound_request(cast, question, namespace)
    call = simulate_call(caller, request, cast.at)
    if cast.bypassable(caller.name):
        assumptions += (f"{caller.name} is bypassable: it is taken to call by way of its sidecar",)
    return Answer(question=question.text, proxy=f"sidecar of {caller.name}", call=call, assumptions=assumptions)


def ask_outside(cast: Cast, question: Question, gateways: Sequence[str], client: str) -> Answer:
    """What becomes of a request from outside the mesh: at the first of the gateways that takes it; where none does,
    straight at a workload that answers for the host, as anybody might try."""
    refused: Answer | None = None
    for gateway in gateways:
        answer = _through_gateway(cast, question, People(gateway=gateway, client=client))
        if answer.call.first.verdict not in (Verdict.REFUSED, Verdict.NOT_FOUND):
            return answer
        refused = refused or answer
    found = cast.answering(question.host, question.port)
    if found is None:
        if refused is None:
            raise UsageError(
                f"no gateway is known, and no workload that answers for {question.host}; see --gateway and --to"
            )
        return refused
    return _straight(cast, question, *found, client)


def _straight(cast: Cast, question: Question, workload: Workload, address: Address, client: str) -> Answer:
    """To the sidecar of a workload, at the address by which other sidecars call it."""
    target = cast.peer(workload)
    direct = target.simulator.listens_at(address)
    arriving = inbound_request(question, target, None, client)
    request = replace(arriving, arrival=Arrival.DIRECT if direct else Arrival.INBOUND, destination=address)
    told = ["no gateway serves it: it is taken to go straight to a workload, past every gateway"]
    if cast.bypassable(target.name):
        told.append(f"{target.name} is bypassable: its host keeps nobody from its application's own port")
    call = Call(request=request, first=target.simulator.simulate(request))
    text = f"{question.text}, called from outside the mesh"
    return Answer(question=text, proxy=f"sidecar of {target.name}", call=call, assumptions=tuple(told))


def _caller(cast: Cast, people: People) -> Peer:
    workload = find_workload(cast, people.caller, "--from")
    if people.service_account:
        workload = replace(workload, service_account=people.service_account)
    return cast.caller(workload)


def _inbound(cast: Cast, question: Question, people: People) -> Answer:
    target = cast.peer(find_workload(cast, people.target, "--to"))
    caller = _caller(cast, people) if people.caller else None
    request = inbound_request(question, target, caller, people.client)
    first = target.simulator.simulate(request)
    who = f", called by {caller.name}" if caller is not None else ", called from outside the mesh"
    return Answer(
        question=f"{question.text}{who}",
        proxy=f"sidecar of {target.name}",
        call=Call(request=request, first=first),
    )


def _through_gateway(cast: Cast, question: Question, people: People) -> Answer:
    workload = find_workload(cast, people.gateway, "--gateway")
    gateway = cast.peer(workload, ProxyType.ROUTER)
    port = cast.gateway_port(workload, question.port)
    request = gateway_request(cast, question, gateway, port, people.client)
    call = simulate_call(gateway, request, cast.at)
    return Answer(question=f"{question.text} from outside", proxy=f"gateway {gateway.name}", call=call)
