"""When policy has to end connections that are already open.

RBAC decides when a connection or a request's headers arrive. What was let in before (a TCP connection, a stream that is
still open) is never asked again, so a new slot does not reach it; a new filter chain does, since Envoy drains the
connections of the old one and closes them when the drain time is over. A chain therefore carries a revision that
differs when what it may have let in might not be let in any more:

- TCP: when any rule that can match on its port changes. A connection may live for days, and an ALLOW that was taken
  back must end it as a DENY does.
- HTTP: when a DENY or CUSTOM that can match on its port changes. Requests are short and the slot reaches the next one
  at once; an ALLOW edit, far more frequent, is not worth every long stream of the port.

Invariant: a revision depends on the rules that count for the port and on nothing else; without any, it is empty.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from gossamer.api.authorization_policy import Rule
from gossamer.compile.policies.tcp import without_http
from gossamer.core.frozen import FrozenMap
from gossamer.model.policy import SelectedPolicy, WorkloadPolicies


@dataclass(frozen=True, slots=True, kw_only=True)
class PortRevisions:
    """Revisions of the chains of one kind: by port where rules tell ports apart, `elsewhere` for all other ports, and
    `unnamed` for the chain that takes whatever port nobody named."""

    by_port: FrozenMap[int, str] = field(default_factory=FrozenMap)
    elsewhere: str = ""
    unnamed: str = ""

    def of(self, port: int) -> str:
        """The revision of the chain on this port; 0 is the unnamed one."""
        return self.by_port.get(port, self.elsewhere) if port else self.unnamed


@dataclass(frozen=True, slots=True, kw_only=True)
class Revisions:
    """The revisions of one workload's chains."""

    http: PortRevisions = field(default_factory=PortRevisions)
    tcp: PortRevisions = field(default_factory=PortRevisions)


def compile_revisions(policies: WorkloadPolicies) -> Revisions:
    """The revisions of a workload's chains. Costs one pass over its rules."""
    trust = ",".join(policies.trust_domains)
    denying = (*policies.custom, *policies.deny)
    deny = list(_rules(denying, trust, tcp=False, denies=True))
    who = f"{trust} {_asked(policies)}"
    tcp_rules = [
        *_rules(policies.custom, who, tcp=True, denies=True),
        *_rules(policies.deny, trust, tcp=True, denies=True),
        *_rules(policies.allow, trust, tcp=True, denies=False),
    ]
    if policies.allow:
        tcp_rules.append((frozenset(), "allow"))  # that there is any ALLOW denies by itself
    return Revisions(http=_by_port(deny), tcp=_by_port(tcp_rules))


def _asked(policies: WorkloadPolicies) -> str:
    """Who let in what `custom` matches: for connections that another would not have let in."""
    authorizer = policies.authorizer
    return "" if authorizer is None else f"{authorizer.host}:{authorizer.port} {authorizer.can_decide(tcp=True)}"


def _rules(
    selected: Iterable[SelectedPolicy], trust: str, *, tcp: bool, denies: bool
) -> Iterable[tuple[frozenset[int], str]]:
    """Each rule's ports (none: all) and its text."""
    for policy in selected:
        rules = without_http(policy.rules, denies=denies) if tcp else dict(enumerate(policy.rules))
        for rule in rules.values():
            yield _ports(rule), f"{denies} {policy.namespace} {trust} {rule!r}"


def _ports(rule: Rule) -> frozenset[int]:
    """The ports on which a rule can match; empty when it is not for certain ports."""
    found: set[int] | None = None
    if rule.to and all(item.operation is not None and item.operation.ports for item in rule.to):
        found = {int(port) for item in rule.to if item.operation for port in item.operation.ports}
    for condition in rule.when:
        if condition.key == "destination.port" and condition.values:
            asked = {int(value) for value in condition.values}
            found = asked if found is None else found & asked
    return frozenset(found or ())


def _by_port(rules: list[tuple[frozenset[int], str]]) -> PortRevisions:
    general = [text for ports, text in rules if not ports]
    particular: dict[int, list[str]] = {}
    for ports, text in rules:
        for port in ports:
            particular.setdefault(port, []).append(text)
    return PortRevisions(
        by_port=FrozenMap({port: _digest([*general, *texts]) for port, texts in sorted(particular.items())}),
        elsewhere=_digest(general),
        unnamed=_digest([text for _, text in rules]),
    )


def _digest(texts: list[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16] if texts else ""
