"""AuthorizationPolicies as the rules of Envoy's RBAC filter.

Invariant: a policy's name on the wire is its name and rule (`ns[foo]-policy[bar]-rule[0]`), so that a denial, a log
line and a NACK name the YAML to blame. Rules are compiled in the order of their policies and change with nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from envoy.config.rbac.v3.rbac_pb2 import RBAC, Permission, Policy, Principal

from gossamer.api.authorization_policy import Rule
from gossamer.compile.policies.permissions import NEVER, Destinations, permission_of
from gossamer.compile.policies.ports import LocalPorts
from gossamer.compile.policies.principals import Callers, principal_of
from gossamer.compile.policies.tcp import without_http
from gossamer.model.policy import SelectedPolicy, WorkloadPolicies


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What one filter enforces, and what it only records (under `prefix`); None for nothing of either."""

    rules: RBAC | None = None
    shadow: RBAC | None = None
    prefix: str = ""


NO_ACCESS: Final = Access()
ASKED: Final = "istio_ext_authz_"
"""What a filter puts before the names under which it records that an authorizer has to be asked."""
CUSTOM: Final = "istio-ext-authz-"
_BAD: Final = "-deny-due-to-bad-CUSTOM-action"


class PolicyCompiler:
    """Compiles the policies of one workload for its HTTP chains, or for its chains without HTTP (`tcp`)."""

    __slots__ = ("_destinations", "_policies", "_tcp")

    def __init__(self, policies: WorkloadPolicies, ports: LocalPorts, *, tcp: bool) -> None:
        self._policies = policies
        self._destinations = Destinations(ports)
        self._tcp = tcp

    def audit(self) -> Access:
        """What is marked to be audited."""
        found = self._policies
        return Access(
            rules=self._rules(RBAC.LOG, found.audit),
            shadow=self._rules(RBAC.LOG, found.shadow.audit),
            prefix="istio_dry_run_audit_",
        )

    def custom(self) -> Access:
        """What an authorizer decides: recorded for the filter that asks it. Denied where nobody can be asked."""
        found = self._policies
        if found.authorizer is None:
            return NO_ACCESS
        named = f"{CUSTOM}{found.authorizer.name}-"
        if found.authorizer.can_decide(tcp=self._tcp):
            return Access(shadow=self._rules(RBAC.DENY, found.custom, named), prefix=ASKED)
        return Access(rules=self._rules(RBAC.DENY, found.custom, named, _BAD))

    def deny(self) -> Access:
        """What is denied."""
        found = self._policies
        return Access(
            rules=self._rules(RBAC.DENY, found.deny),
            shadow=self._rules(RBAC.DENY, found.shadow.deny),
            prefix="istio_dry_run_deny_",
        )

    def allow(self) -> Access:
        """What is allowed; without any policy that allows, all is. A policy without rules allows nothing."""
        found = self._policies
        return Access(
            rules=self._rules(RBAC.ALLOW, found.allow),
            shadow=self._rules(RBAC.ALLOW, found.shadow.allow),
            prefix="istio_dry_run_allow_",
        )

    def _rules(
        self, action: RBAC.Action.ValueType, selected: tuple[SelectedPolicy, ...], before: str = "", behind: str = ""
    ) -> RBAC | None:
        """The rules of these policies, None when there are none to be had."""
        denies = action == RBAC.DENY
        found: dict[str, Policy] = {}
        for policy in selected:
            callers = Callers(policy.namespace, self._policies.trust_domains)
            read = without_http(policy.rules, denies=denies) if self._tcp else dict(enumerate(policy.rules))
            for index, rule in read.items():
                name = f"{before}{policy.rule_name(index)}{behind}"
                found[name] = _rule(rule, callers, self._destinations, denies=denies)
        needed = bool(selected) if action == RBAC.ALLOW else bool(found)
        return RBAC(action=action, policies=found) if needed else None


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
