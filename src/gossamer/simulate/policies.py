"""What an RBAC filter, of HTTP or of a connection, does with what its rules say.

Invariant: shadow rules are reported and never decide.
"""

from __future__ import annotations

from envoy.config.rbac.v3.rbac_pb2 import RBAC
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_rbac_pb2
from envoy.extensions.filters.network.rbac.v3 import rbac_pb2 as network_rbac_pb2

from gossamer.core.ids import Origin
from gossamer.simulate.connection import Trace
from gossamer.simulate.index import Filter
from gossamer.simulate.notes import NotSimulatedError
from gossamer.simulate.origins import merged, origin_of_policy
from gossamer.simulate.outcome import Outcome, PolicyDecision, Verdict
from gossamer.simulate.rbac import Facts, decide


def judge(found: Filter, facts: Facts, trace: Trace) -> Outcome | None:
    """Note what the filter says; an Outcome when it turns the request or connection away."""
    config = found.config
    assert isinstance(config, (http_rbac_pb2.RBAC, network_rbac_pb2.RBAC))
    if config.HasField("matcher") or config.HasField("shadow_matcher"):
        raise NotSimulatedError("RBAC by a matcher tree")
    if config.HasField("shadow_rules"):
        trace.policies.append(_said(found, config.shadow_rules, facts, shadow=True))
    if not config.HasField("rules"):
        return None
    decision = _said(found, config.rules, facts, shadow=False)
    trace.policies.append(decision)
    if decision.allowed:
        return None
    status = 403 if isinstance(config, http_rbac_pb2.RBAC) else 0
    return trace.end(Verdict.DENIED, _reason(decision), status=status)


def _said(found: Filter, rules: RBAC, facts: Facts, *, shadow: bool) -> PolicyDecision:
    decision = decide(rules, facts)
    origins: tuple[Origin, ...] = origin_of_policy(decision.policy)
    if not decision.policy and not decision.allowed:
        candidates = merged(*(origin_of_policy(name) for name in sorted(rules.policies)))
        origins = candidates or found.origins
    return PolicyDecision(
        filter=found.name,
        action=decision.action,
        allowed=decision.allowed,
        policy=decision.policy,
        shadow=shadow,
        origins=origins,
    )


def _reason(decision: PolicyDecision) -> str:
    if decision.action == "DENY":
        who = str(decision.origins[0]) if decision.origins else decision.policy
        return f"denied by {who}"
    if decision.origins:
        resources = dict.fromkeys(str(origin.resource) for origin in decision.origins)
        return f"no rule of {', '.join(resources)} allows it"
    return "no policy allows it"
