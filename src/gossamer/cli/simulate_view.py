"""A simulated call on paper: station by station, and then the YAML that decided.

Invariant: every origin that is shown comes with the file and line where it stands, if it stands in the files at all.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gossamer.api.source_index import SourceIndex
from gossamer.cli.inputs import Inputs
from gossamer.cli.render import Paint, paint_for, where, width_of, wrapped
from gossamer.core.diagnostics import Position
from gossamer.core.ids import Origin, ResourceId
from gossamer.simulate.call import Call, Hop
from gossamer.simulate.outcome import EndpointChoice, Outcome, PolicyDecision, RouteChoice, Verdict

_GOOD: Final = frozenset({Verdict.SERVED, Verdict.REDIRECTED, Verdict.ANSWERED})
_LINES_SHOWN: Final = 4
_DECIDING: Final = 3
_INDENT: Final = 19
Row = tuple[str, str]
Describe = Callable[[PolicyDecision], Iterator[Row]]
"""Puts what one access filter says into rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What was asked, at which proxy it starts, and what becomes of it."""

    question: str
    proxy: str
    call: Call
    assumptions: tuple[str, ...] = ()

    def to_json(self, index: SourceIndex) -> dict[str, Any]:
        """The published object: verdicts with their parts, the outcome at each proxy, origins with file and line."""
        hops = [{"proxy": self.proxy, "share": 1.0, "problem": "", "outcome": self.call.first.to_json()}]
        hops += [
            {
                "proxy": _proxy(hop),
                "share": share,
                "problem": hop.problem,
                "outcome": hop.outcome.to_json() if hop.outcome is not None else None,
            }
            for hop, share in _walk(self.call.hops)
        ]
        found = {
            "request": self.question,
            "verdicts": [{"verdict": verdict.value, "share": share} for verdict, share in self.call.verdicts],
            "assumptions": list(self.assumptions),
            "hops": hops,
        }
        return {key: located(value, index) for key, value in found.items()}


def _proxy(hop: Hop) -> str:
    if not hop.name:
        return ""
    return f"gateway {hop.name}" if hop.gateway else f"sidecar of {hop.name}"


def _walk(hops: tuple[Hop, ...], share: float = 1.0) -> Iterator[tuple[Hop, float]]:
    """All hops, each before those that come after it, with its part of all calls."""
    for hop in hops:
        part = share * hop.endpoint.share
        yield hop, part
        yield from _walk(hop.hops, part)


def located(value: Any, index: SourceIndex) -> Any:
    """JSON with the file and line of every origin in it."""
    if isinstance(value, list):
        return [located(item, index) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"kind", "namespace", "name", "rule"}:
        place = index.position(_origin(value).resource, value["rule"])
        return {**value, "file": place.file, "line": place.line}
    return {key: located(item, index) for key, item in value.items()}


def _origin(value: Mapping[str, str]) -> Origin:
    return Origin(resource=ResourceId(kind=value["kind"], namespace=value["namespace"], name=value["name"]))


def print_answer(answer: Answer, inputs: Inputs) -> None:
    """Print it on standard output."""
    paint = paint_for(sys.stdout)
    lines = [paint(answer.question, "cyan", bold=True), ""]
    lines += [*stations(answer, paint, describe), "", ending(answer.call, paint)]
    lines += sources(deciding(answer.call), inputs, paint)
    sys.stdout.write("\n".join(lines).rstrip() + "\n")


def stations(answer: Answer, paint: Paint, told: Describe) -> list[str]:
    """What every proxy on the way makes of it, in order; `told` puts what a policy says."""
    lines = [f"  note: {text}" for text in answer.assumptions] + ([""] if answer.assumptions else [])
    rows = _rows(answer.call.first, answer.call, told)
    lines += _station("1", answer.proxy, rows, answer.call.first, paint)
    for number, group in enumerate(_groups(answer.call.hops), 2):
        lines += ["", *_hop(str(number), group, paint, told)]
    return lines


def walk(answer: Answer) -> Iterator[tuple[str, Outcome]]:
    """Every proxy on the way, by name, with its outcome; the caller's first."""
    yield answer.proxy, answer.call.first
    for hop, _ in _walk(answer.call.hops):
        if hop.outcome is not None:
            yield _proxy(hop), hop.outcome


def _station(number: str, proxy: str, rows: Iterator[Row], outcome: Outcome, paint: Paint) -> list[str]:
    found = [f"{paint(number, 'blue', bold=True)}  {paint(proxy, 'blue', bold=True)}"]
    for name, text in rows:
        found += _row(name, text)
    return [*found, *_verdict(outcome.verdict, outcome.status, outcome.reason, paint)]


def _row(name: str, text: str) -> list[str]:
    first, *more = wrapped(text, max(0, width_of(sys.stdout) - _INDENT), indent="")
    return [f"   {name:<15} {first}", *(f"{'':<{_INDENT}}{line}" for line in more)]


def _verdict(verdict: Verdict, status: int, reason: str, paint: Paint) -> list[str]:
    colour = "green" if verdict in _GOOD else "yellow" if verdict is Verdict.UNKNOWN else "red"
    label = f"{verdict} {status}" if status else str(verdict)
    first, *more = _row("→", f"{label}: {reason}")
    at = first.index(label)
    return [first[:at] + paint(label, colour, bold=True) + first[at + len(label) :], *more]


def _rows(outcome: Outcome, call: Call | None, told: Describe) -> Iterator[Row]:
    """What there is to say of each station; nothing of those that were not reached."""
    yield from _connection_rows(outcome)
    if outcome.route_configuration:
        yield "routes", outcome.route_configuration
    if outcome.virtual_host:
        yield "virtual host", outcome.virtual_host
    if outcome.route is not None:
        yield from _route_rows(outcome.route)
    for decision in outcome.policies:
        yield from told(decision)
    if outcome.verdict in (Verdict.SERVED, Verdict.UNAVAILABLE):
        yield from _cluster_rows(outcome, call)
    for note in outcome.notes:
        yield "note", note


def _connection_rows(outcome: Outcome) -> Iterator[Row]:
    if outcome.listener:
        same = outcome.listener == outcome.listener_address.replace(":", "_")
        yield "listener", outcome.listener + ("" if same else f" ({outcome.listener_address})")
    if outcome.filter_chain:
        yield "filter chain", outcome.filter_chain
    if outcome.transport:
        kind = f", {outcome.protocol}" if outcome.protocol else ""
        yield "accepted as", f"{_TRANSPORTS[outcome.transport]}{kind}"


_TRANSPORTS: Final = {
    "plaintext": "plaintext",
    "tls": "TLS",
    "mtls": "mutual TLS",
    "tls passthrough": "TLS, passed through unopened",
}


def _route_rows(route: RouteChoice) -> Iterator[Row]:
    yield "route", f"{route.name}: {route.match}" if route.name else route.match
    for origin in route.origins:
        yield "", str(origin)
    details = []
    if route.timeout is not None:
        details.append(f"timeout {route.timeout:g} s")
    if route.retries is not None and route.origins:
        per_try = f" of at most {route.retries.per_try_timeout:g} s" if route.retries.per_try_timeout else ""
        details.append(f"up to {route.retries.attempts} retries{per_try}")
    details += [f"{mirror.weight:.0%} mirrored to {mirror.name}" for mirror in route.mirrors]
    if details:
        yield "", "; ".join(details)
    if route.fault is not None:
        parts = [f"{route.fault.delay:g} s delay for {route.fault.delay_fraction:.1%}"] if route.fault.delay else []
        parts += [f"{route.fault.status} for {route.fault.abort_fraction:.1%}"] if route.fault.status else []
        yield "fault", ", ".join(parts).replace(".0%", "%")


def describe(decision: PolicyDecision) -> Iterator[Row]:
    """What one access filter says, in a line."""
    name = decision.policy or ("nothing matches" if decision.action == "ALLOW" else "no rule matches")
    verdict = "lets it pass" if decision.allowed else "turns it away"
    yield "policy", f"{decision.action}{' (shadow)' if decision.shadow else ''}: {name}, {verdict}"


def _cluster_rows(outcome: Outcome, call: Call | None) -> Iterator[Row]:
    names = list(outcome.clusters) if len(outcome.clusters) > 1 else []
    for part in names:
        chosen = "  (this request)" if part.name == outcome.cluster else ""
        yield "cluster", f"{part.weight:>4.0%}  {part.name}{chosen}"
    if outcome.cluster and not names:
        yield "cluster", outcome.cluster
    if outcome.forwarded is not None and outcome.route is not None and call is not None:
        sent, got = outcome.forwarded, call.request.http
        if got is not None and (sent.path, sent.authority) != (got.path, got.authority):
            yield "sent as", f"{sent.method} {sent.authority}{sent.path}"
    sockets = dict.fromkeys(_socket(choice) for choice in outcome.endpoints)
    for text in sockets:
        yield "sent over", text


def _socket(choice: EndpointChoice) -> str:
    if choice.tls is None:
        return "plaintext"
    kind = "mutual TLS" if choice.tls.mutual else "TLS"
    server = f", server name {choice.tls.server_name}" if choice.tls.server_name else ""
    return f"{kind}{server}"


def _grouped(hops: tuple[Hop, ...]) -> list[list[Hop]]:
    """Endpoints whose proxies say the same, together; the most frequent first."""
    groups: dict[tuple[str, Verdict, str], list[Hop]] = {}
    for hop in hops:
        workload = hop.name or str(hop.endpoint.address)
        groups.setdefault((workload, hop.verdict, hop.reason), []).append(hop)
    return sorted(groups.values(), key=lambda group: -sum(hop.endpoint.share for hop in group))


def _groups(hops: tuple[Hop, ...]) -> Iterator[list[Hop]]:
    """The groups of one station, each before those of the station after it."""
    for group in _grouped(hops):
        yield group
        yield from _groups(group[0].hops)


def _hop(number: str, group: list[Hop], paint: Paint, told: Describe) -> list[str]:
    hop, share = group[0], sum(one.endpoint.share for one in group)
    part = f"  ({share:.0%} of these requests)" if share < 0.995 else ""
    address = hop.endpoint.address
    if hop.outcome is None:
        title = f"{paint(number, 'blue', bold=True)}  {paint(f'{hop.name or address}{part}', 'blue', bold=True)}"
        if hop.problem:
            return [title, *_verdict(Verdict.UNAVAILABLE, 0, hop.problem, paint)]
        return [title, *_row("→", "no sidecar of the mesh is known there")]
    title = f"{_proxy(hop)}, {address}{part}"
    found = _station(number, title, _rows(hop.outcome, None, told), hop.outcome, paint)
    if hop.problem:
        found += _verdict(Verdict.UNAVAILABLE, 0, hop.problem, paint)
    return found


def ending(call: Call, paint: Paint) -> str:
    """How it ends, in a word, or in several with the part of each."""
    if len(call.verdicts) == 1:
        verdict = call.verdicts[0][0]
        return paint(str(verdict).upper(), "green" if verdict in _GOOD else "red", bold=True)
    parts = [f"{share:.0%} {verdict}" for verdict, share in call.verdicts]
    return paint(", ".join(parts), "yellow", bold=True)


def deciding(call: Call) -> tuple[Origin, ...]:
    """The origins in the order in which a reader wants them: of who turned the request away, then along its way."""
    outcomes = [call.first, *(hop.outcome for hop, _ in _walk(call.hops) if hop.outcome is not None)]
    outcomes.sort(key=lambda outcome: outcome.verdict in _GOOD)
    return tuple(dict.fromkeys(origin for outcome in outcomes for origin in outcome.origins))


def sources(origins: tuple[Origin, ...], inputs: Inputs, paint: Paint) -> list[str]:
    """The YAML of the first few, the rest by name."""
    if not origins:
        return []
    found = ["", "decided by"]
    shown = [origin for origin in origins if origin.rule][:_DECIDING] or list(origins[:1])
    for origin in shown:
        found += _source(origin, inputs, paint)
        position = inputs.loaded.index.position(origin.resource, origin.rule or "spec")
        found += _excerpt(position, inputs.texts.get(position.file, ""), paint)
    rest = [origin for origin in origins if origin not in shown and origin.resource not in {o.resource for o in shown}]
    if rest:
        found += ["", "and, besides,", *(line for origin in rest for line in _source(origin, inputs, paint))]
    return found


def _source(origin: Origin, inputs: Inputs, paint: Paint) -> list[str]:
    position = inputs.loaded.index.position(origin.resource, origin.rule)
    at = f"  {paint('-->', 'blue')} {where(position)}" if position.file else ""
    return [f"  {origin}{at}"]


def _excerpt(position: Position, text: str, paint: Paint) -> list[str]:
    """The first lines of what stands there: the line itself, and those below it that are further in."""
    lines = text.splitlines()
    if not 0 < position.line <= len(lines):
        return []
    start = position.line - 1
    depth = _indent(lines[start])
    end = start + 1
    while end < len(lines) and end - start < _LINES_SHOWN and _indent(lines[end]) > depth:
        end += 1
    width = len(str(end))
    return [
        f"    {paint(f'{n + 1:>{width}}', 'blue')} {paint('|', 'blue')} {lines[n].rstrip()}" for n in range(start, end)
    ]


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip()) if line.strip() else 10_000
