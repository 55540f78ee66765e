"""An explanation on paper: the verdict, the way with every rule that was considered, what a dry run would have said,
and the YAML that decided.

Invariant: every rule that is shown comes with the file and line where it stands, if it stands in the files at all.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, Final

from gossamer.api.source_index import SourceIndex
from gossamer.cli.inputs import Inputs
from gossamer.cli.render import paint_for, where
from gossamer.cli.simulate_view import Answer, Row, deciding, ending, located, sources, stations, walk
from gossamer.core.diagnostics import Position
from gossamer.core.ids import Origin
from gossamer.simulate.outcome import Considered, Missed, Outcome, PolicyDecision, plain

_MISSED: Final = {
    Missed.NOTHING: "matches",
    Missed.CALLER: "does not match who calls",
    Missed.REQUEST: "does not match what is asked for",
    Missed.UNKNOWN: "uses what is not simulated",
}


def explain_json(answer: Answer, index: SourceIndex) -> dict[str, Any]:
    """The published object: that of `simulate`, and beside it `decided` (proxy, filter, action, policy and origins of
    what turned the request away; null where nothing did) and `dry_run` (what shadow policies would have said)."""
    found = answer.to_json(index)
    decided = _decided(answer)
    found["decided"] = located({"proxy": decided[0], **_decision(decided[1])}, index) if decided is not None else None
    found["dry_run"] = [
        located({"proxy": proxy, **_decision(decision)}, index)
        for proxy, outcome in walk(answer)
        for decision in outcome.policies
        if decision.shadow
    ]
    return found


def _decision(decision: PolicyDecision) -> dict[str, Any]:
    found = plain(decision)
    assert isinstance(found, dict)
    return {key: found[key] for key in ("filter", "action", "allowed", "policy", "origins")}


def _decided(answer: Answer) -> tuple[str, PolicyDecision] | None:
    """The proxy and the decision that turned the request away."""
    decisions = ((proxy, outcome.decided_by) for proxy, outcome in walk(answer))
    return next(((proxy, decision) for proxy, decision in decisions if decision is not None), None)


def print_explanation(answer: Answer, inputs: Inputs) -> None:
    """Print it on standard output."""
    paint = paint_for(sys.stdout)
    index = inputs.loaded.index
    lines = [paint(answer.question, "cyan", bold=True), ""]
    why = _why(answer)
    lines += [f"{ending(answer.call, paint)}{f': {why}' if why else ''}", ""]
    lines += stations(answer, paint, lambda decision: _rows(decision, index))
    lines += sources(deciding(answer.call), inputs, paint)
    trial = list(_trials(answer, index))
    if trial:
        lines += ["", "in a dry run", *(f"  {text}" for text in trial)]
    sys.stdout.write("\n".join(lines).rstrip() + "\n")


def _why(answer: Answer) -> str:
    """The reason of the worst end that it may have."""
    if len(answer.call.verdicts) > 1:
        return ""
    verdict = answer.call.verdicts[0][0]
    reasons = [hop.reason for hop, _ in answer.call.leaves() if hop.verdict is verdict]
    return next(filter(None, reasons), answer.call.first.reason)


def _rows(decision: PolicyDecision, index: SourceIndex) -> Iterator[Row]:
    """What one access filter says, and each rule that it considered."""
    kind = f"{decision.action}{', dry run' if decision.shadow else ''}"
    yield "policy", f"{kind}: {_said(decision)}"
    for considered in decision.considered:
        yield "", f"  {_considered(considered, index)}"
    if not decision.considered:
        for origin in decision.origins:
            yield "", f"  {_placed(origin, index)}"


def _said(decision: PolicyDecision) -> str:
    who = str(decision.origins[0]) if decision.policy and decision.origins else decision.policy or "no rule matches"
    if decision.asks:
        return f"{who} asks {decision.asks}"
    if decision.action == "JWT":
        return f"the token is {'good' if decision.allowed else 'refused'}"
    if decision.action == "LOG":
        return f"{who} marks it for the log" if decision.policy else who
    if not decision.policy:
        return who if decision.allowed else f"{who}, and without one it {_ENDS[decision.shadow]}"
    return f"{who} {_VERBS[decision.allowed, decision.shadow]}"


_VERBS: Final = {
    (True, False): "lets it pass",
    (True, True): "would let it pass",
    (False, False): "turns it away",
    (False, True): "would turn it away",
}
_ENDS: Final = {False: "is turned away", True: "would be turned away"}


def _considered(considered: Considered, index: SourceIndex) -> str:
    name = _placed(considered.origins[0], index) if considered.origins else considered.policy
    return f"{_MISSED[considered.missed]}: {name}"


def _placed(origin: Origin, index: SourceIndex) -> str:
    position = index.position(origin.resource, origin.rule)
    return f"{origin}{f'  {where(position)}' if position.file else ''}"


def _trials(answer: Answer, index: SourceIndex) -> Iterator[str]:
    for proxy, outcome in walk(answer):
        for decision in _shadows(outcome):
            position = _position(decision, index)
            yield f"{proxy}: {decision.action}: {_said(decision)}{f'  {where(position)}' if position.file else ''}"


def _shadows(outcome: Outcome) -> Iterator[PolicyDecision]:
    """What shadow policies said, if they said anything."""
    yield from (one for one in outcome.policies if one.shadow and (one.policy or not one.allowed))


def _position(decision: PolicyDecision, index: SourceIndex) -> Position:
    if not decision.policy or not decision.origins:
        return Position()
    return index.position(decision.origins[0].resource, decision.origins[0].rule)
