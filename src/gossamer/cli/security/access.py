"""Who may do what: deny by default, users' credentials, how paths are read.

Invariant: pure functions of the facts. What is judged are the policies in force at each workload, not their names: a
mesh without the profile that says the same holds the control too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gossamer.api.authorization_policy import From, Rule, To
from gossamer.api.mesh_config import NormalizationType
from gossamer.api.request_authentication import Presence
from gossamer.cli.security.facts import Facts, Member
from gossamer.cli.security.finding import Finding, finding
from gossamer.core.ids import Origin
from gossamer.model.policy import SelectedPolicy

_ANYBODY: Final = (From(),)


def deny_by_default(facts: Facts) -> Finding:
    """Whether every workload has a policy of ALLOW, by which the rest is denied, and none that allows everything."""
    problems = [text for member in facts.members for text in _open(facts, member)]
    rules = {policy.origin: len(policy.rules) for member in facts.members for policy in member.policies.allow}
    evidence = [
        f"{len(facts.members)} workloads, whose {len(rules)} policies of ALLOW have {sum(rules.values())} rules",
        *_deciders(facts),
    ]
    return finding(problems, evidence, nobody=not facts.members)


def _open(facts: Facts, member: Member) -> Iterator[str]:
    if not member.policies.allow:
        yield f"{member.name} has no policy of ALLOW: everything passes that no DENY denies"
    for policy in member.policies.allow:
        for index, rule in enumerate(policy.rules):
            if _matches_all(rule):
                yield f"{facts.placed(_rule(policy, index))} allows everything, at {member.name}"


def _deciders(facts: Facts) -> Iterator[str]:
    for policy in dict.fromkeys(p.origin for m in facts.members for p in m.policies.allow if not p.rules):
        yield f"{facts.placed(policy)} allows nothing, and so closes what it selects"


def _matches_all(rule: Rule) -> bool:
    return not rule.when and all(_any_source(one) for one in rule.from_) and all(_any_operation(one) for one in rule.to)


def _any_source(one: From) -> bool:
    return one.source is None or one.source == type(one.source)()


def _any_operation(one: To) -> bool:
    return one.operation is None or one.operation == type(one.operation)()


def end_user(facts: Facts) -> Finding:
    """Whether every workload denies what carries no verified token, and what is excepted from that."""
    problems, evidence, exceptions = [], [], dict[str, None]()
    for member in facts.members:
        found = list(_demands(facts, member))
        if not found:
            problems.append(f"{member.name} takes requests without a user's token")
        elif all(found):
            exceptions.update(dict.fromkeys(filter(None, found)))
    issuers = sorted({rule.rule.issuer for member in facts.members for rule in member.policies.tokens})
    evidence.append(
        f"tokens are taken of {', '.join(issuers)}" if issuers else "tokens are taken of nobody: none passes"
    )
    return finding(problems, (*exceptions, *evidence), nobody=not facts.members)


def _demands(facts: Facts, member: Member) -> Iterator[str]:
    """What makes a workload demand a token, each as the exceptions that it makes; empty for none."""
    if any(rule.rule.presence is Presence.REQUIRED for rule in member.policies.tokens):
        yield ""
    for policy in member.policies.deny:
        for index, rule in enumerate(policy.rules):
            if policy.fail_closed and _matches_all(rule):
                yield f"{facts.placed(policy.origin)} is broken and denies everything"
            elif rule.from_ and not rule.when and all(_without_user(one) for one in rule.from_):
                limits = _limits(rule)
                yield f"{facts.placed(_rule(policy, index))} excepts {limits}" if limits else ""


def _without_user(one: From) -> bool:
    """Whether a source is everybody who brings no token, save those whom it leaves out by name."""
    source = one.source
    if source is None or "*" not in source.not_request_principals:
        return False
    wanted = (source.principals, source.namespaces, source.service_accounts, source.trust_domains)
    return not any((*wanted, source.request_principals, source.ip_blocks, source.remote_ip_blocks))


def _limits(rule: Rule) -> str:
    """Whom and what a rule leaves out, in the words of its fields."""
    found = []
    for part in (*(one.source for one in rule.from_), *(one.operation for one in rule.to)):
        for name in () if part is None else type(part).__dataclass_fields__:
            values = getattr(part, name)
            if values and name != "not_request_principals":
                found.append(f"{name.replace('_', ' ')} {', '.join(values)}")
    return "; ".join(found)


def _rule(policy: SelectedPolicy, index: int) -> Origin:
    return Origin(resource=policy.origin.resource, rule=f"spec.rules[{index}]")


def paths(facts: Facts) -> Finding:
    """How paths are brought into the form that policies see."""
    given = facts.config.mesh.path_normalization
    how = given.normalization if given is not None else NormalizationType.DEFAULT
    text = f"MeshConfig pathNormalization is {how.value}"
    return Finding(holds=how is NormalizationType.DECODE_AND_MERGE_SLASHES, evidence=(text,))
