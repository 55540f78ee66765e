"""AuthorizationPolicies as the rules of Envoy's RBAC filter.

Invariant: a policy's name on the wire is its name and rule (`ns[foo]-policy[bar]-rule[0]`), so that a denial, a log
line and a NACK name the YAML to blame. Rules are compiled in the order of their policies and change with nothing else.
"""

from __future__ import annotations

from envoy.config.rbac.v3.rbac_pb2 import RBAC, Permission, Policy, Principal

from gossamer.api.authorization_policy import Rule
from gossamer.compile.policies.permissions import NEVER, Destinations, permission_of
from gossamer.compile.policies.ports import LocalPorts
from gossamer.compile.policies.principals import Callers, principal_of
from gossamer.compile.policies.tcp import without_http
from gossamer.model.policy import SelectedPolicy, WorkloadPolicies


def compile_deny(policies: WorkloadPolicies, ports: LocalPorts, *, tcp: bool) -> RBAC | None:
    """What is denied; None when nothing is."""
    rules = _policies(policies.deny, policies.trust_domains, ports, tcp=tcp, denies=True)
    return RBAC(action=RBAC.DENY, policies=rules) if rules else None


def compile_allow(policies: WorkloadPolicies, ports: LocalPorts, *, tcp: bool) -> RBAC | None:
    """What is allowed; None when no policy allows anything, which allows all. A policy without rules allows nothing."""
    if not policies.allow:
        return None
    rules = _policies(policies.allow, policies.trust_domains, ports, tcp=tcp, denies=False)
    return RBAC(action=RBAC.ALLOW, policies=rules)


def _policies(
    selected: tuple[SelectedPolicy, ...], trust_domains: tuple[str, ...], ports: LocalPorts, *, tcp: bool, denies: bool
) -> dict[str, Policy]:
    found = {}
    destinations = Destinations(ports)
    for policy in selected:
        callers = Callers(policy.namespace, trust_domains)
        read = without_http(policy.rules, denies=denies) if tcp else dict(enumerate(policy.rules))
        for index, rule in read.items():
            found[policy.rule_name(index)] = _rule(rule, callers, destinations, denies=denies)
    return found


def _rule(rule: Rule, callers: Callers, destinations: Destinations, *, denies: bool) -> Policy:
    """One rule: any of its sources, any of its operations, all of its conditions. A condition that nobody knows is left
    out of a DENY, which denies more, and keeps an ALLOW from ever matching."""
    unknown = [] if denies else [NEVER]
    of_caller: list[Principal] = []
    of_destination: list[Permission] = []
    for condition in rule.when:
        asks = callers.condition(condition)
        if asks is not None:
            of_caller += asks
        else:
            asks_of_destination = destinations.condition(condition)
            of_destination += unknown if asks_of_destination is None else asks_of_destination
    sources = [callers.source(item.source) for item in rule.from_ if item.source is not None]
    operations = [destinations.operation(item.operation) for item in rule.to if item.operation is not None]
    return Policy(
        permissions=[permission_of([part, *of_destination]) for part in operations] or [permission_of(of_destination)],
        principals=[principal_of([part, *of_caller]) for part in sources] or [principal_of(of_caller)],
    )
