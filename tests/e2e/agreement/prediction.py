"""What the simulator says of a call, put so that it can be compared with what a client got."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gossamer.simulate.call import Call, Hop
from gossamer.simulate.outcome import Outcome, Verdict

TURNED_AWAY = frozenset({Verdict.REFUSED, Verdict.UNAVAILABLE})


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """One way in which a call may end. `by`: the workload that answers; empty where a proxy does, and `outside` for a
    server that is not of the mesh. Empty `path` and `authority` where nobody is said to get the request."""

    status: int
    by: str = ""
    path: str = ""
    authority: str = ""
    location: str = ""


def ends_of(call: Call) -> frozenset[End]:
    """All ends that the simulator thinks possible."""
    first = call.first
    if first.verdict is not Verdict.SERVED:
        return frozenset({End(status=first.status, location=first.location)})
    if not call.hops:
        return frozenset({_served(first, "outside")})
    return frozenset(_end(sent, hop) for sent, hop in _leaves(first, call.hops))


def _leaves(sent: Outcome, hops: tuple[Hop, ...]) -> Iterator[tuple[Outcome, Hop]]:
    """The places where it may end, each with the outcome at the proxy that sends it there."""
    for hop in hops:
        if hop.endpoint.share <= 0:
            continue
        if hop.hops and hop.outcome is not None and hop.verdict is Verdict.SERVED:
            yield from _leaves(hop.outcome, hop.hops)
        else:
            yield sent, hop


def _end(first: Outcome, hop: Hop) -> End:
    if hop.problem:
        return End(status=503 if first.protocol == "http" else 0)
    if hop.outcome is None:
        return _served(first, "outside")
    if hop.outcome.verdict is Verdict.SERVED:
        return _served(hop.outcome, hop.name.partition("/")[2])
    if hop.outcome.verdict in TURNED_AWAY and first.protocol == "http":
        return End(status=503)  # what the caller's proxy says of a connection that is closed on it
    return End(status=hop.outcome.status, location=hop.outcome.location)


def _served(last: Outcome, by: str) -> End:
    sent = last.forwarded
    if sent is None:
        return End(status=200, by=by)
    return End(status=200, by=by, path=sent.path, authority=sent.authority)


def end_of(reply: dict[str, Any]) -> End:
    """How a call did end, as its client saw it."""
    headers = reply["headers"]
    if "x-from" in headers:
        said = reply["json"]
        authority = dict(said["headers"]).get("host", "")
        return End(status=reply["status"], by=said["name"], path=said["path"], authority=authority)
    if not headers and reply["status"] == 200:
        return End(status=200, by=reply["body"].partition(":")[0])
    return End(status=reply["status"], location=headers.get("location", ""))


def agrees(end: End, predicted: frozenset[End]) -> bool:
    """Whether it was predicted; where TLS hides the request from the proxies, its path could not be."""
    hidden = End(status=end.status, by=end.by)
    return end in predicted or (bool(end.by) and hidden in predicted)


def received(reply: dict[str, Any]) -> dict[str, str]:
    """The headers that the answering application got; empty when none did."""
    return dict(reply["json"]["headers"]) if "x-from" in reply["headers"] else {}
