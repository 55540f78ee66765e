"""What an RBAC filter, of HTTP or of a connection, does with what its rules say.

Invariant: shadow rules are reported and never decide.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from envoy.config.rbac.v3.rbac_pb2 import RBAC
from envoy.extensions.filters.http.ext_authz.v3 import ext_authz_pb2 as http_ext_authz_pb2
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_rbac_pb2
from envoy.extensions.filters.network.ext_authz.v3 import ext_authz_pb2 as network_ext_authz_pb2
from envoy.extensions.filters.network.rbac.v3 import rbac_pb2 as network_rbac_pb2

from gossamer.compile.policies.rbac import ASKED
from gossamer.core.ids import Origin
from gossamer.simulate.connection import Trace
from gossamer.simulate.index import Filter
from gossamer.simulate.matchers import value_at
from gossamer.simulate.notes import NotSimulatedError
from gossamer.simulate.origins import merged, origin_of_policy
from gossamer.simulate.outcome import Considered, Outcome, PolicyDecision, Verdict
from gossamer.simulate.rbac import Facts, decide, matches_metadata, missed_part

_HTTP: Final = "envoy.filters.http.rbac"
_NETWORK: Final = "envoy.filters.network.rbac"
"""Where the filters leave what they found, whatever they are called."""


def judge(found: Filter, facts: Facts, trace: Trace) -> Outcome | None:
    """Note what the filter says; an Outcome when it turns the request or connection away."""
    config = found.config
    assert isinstance(config, (http_rbac_pb2.RBAC, network_rbac_pb2.RBAC))
    if config.HasField("matcher") or config.HasField("shadow_matcher"):
        raise NotSimulatedError("RBAC by a matcher tree")
    if config.HasField("shadow_rules"):
        said = _said(found, config.shadow_rules, facts, shadow=True)
        if config.shadow_rules_stat_prefix != ASKED:  # those are for the filter that asks, and no dry run
            trace.policies.append(said)
        _record(said, config.shadow_rules_stat_prefix, facts, tcp=isinstance(config, network_rbac_pb2.RBAC))
    if not config.HasField("rules"):
        return None
    decision = _said(found, config.rules, facts, shadow=False)
    trace.policies.append(decision)
    if decision.allowed:
        return None
    status = 403 if isinstance(config, http_rbac_pb2.RBAC) else 0
    return trace.end(Verdict.DENIED, _reason(decision), status=status)


def ask(found: Filter, facts: Facts, trace: Trace) -> None:
    """Note that an external authorizer is asked, if it is."""
    config = found.config
    assert isinstance(config, (http_ext_authz_pb2.ExtAuthz, network_ext_authz_pb2.ExtAuthz))
    if isinstance(config, http_ext_authz_pb2.ExtAuthz) and config.HasField("filter_enabled"):
        raise NotSimulatedError("an authorizer that is asked about some requests by chance")
    if config.HasField("filter_enabled_metadata") and not matches_metadata(config.filter_enabled_metadata, facts):
        return
    if isinstance(config, http_ext_authz_pb2.ExtAuthz) and config.HasField("http_service"):
        cluster = config.http_service.server_uri.cluster
    else:
        cluster = config.grpc_service.envoy_grpc.cluster_name
    asked = config.filter_enabled_metadata
    recorded = value_at(facts.metadata, asked.filter, [segment.key for segment in asked.path])
    policy = recorded if isinstance(recorded, str) else ""
    origins = origin_of_policy(policy) or found.origins
    trace.policies.append(
        PolicyDecision(filter=found.name, action="CUSTOM", allowed=True, policy=policy, origins=origins, asks=cluster)
    )
    who = f"{origins[0]} asks the authorizer" if origins else "asks the authorizer"
    trace.note(f"{who} {cluster}" + ("; should that fail, it is allowed" if config.failure_mode_allow else ""))
    trace.asked = f"the authorizer {cluster}"


def _record(said: PolicyDecision, prefix: str, facts: Facts, *, tcp: bool) -> None:
    """What the filter leaves for those after it."""
    space = _NETWORK if tcp else _HTTP
    left = {f"{prefix}shadow_engine_result": "allowed" if said.allowed else "denied"}
    if said.policy:
        left[f"{prefix}shadow_effective_policy_id"] = said.policy
    before = facts.metadata.get(space)
    facts.metadata = {**facts.metadata, space: {**(before if isinstance(before, Mapping) else {}), **left}}


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
        considered=tuple(
            Considered(policy=name, missed=missed_part(rules.policies[name], facts), origins=origin_of_policy(name))
            for name in sorted(rules.policies)
        ),
    )


def _reason(decision: PolicyDecision) -> str:
    if decision.action == "DENY":
        who = str(decision.origins[0]) if decision.origins else decision.policy
        return f"denied by {who}"
    if decision.origins:
        resources = dict.fromkeys(str(origin.resource) for origin in decision.origins)
        return f"no rule of {', '.join(resources)} allows it"
    return "no policy allows it"
