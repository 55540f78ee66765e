"""Security policy as it applies to one workload, already selected, merged and ordered.

Everything that could not be understood has become a policy that denies: this room knows no half-valid policy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from gossamer.api.authorization_policy import AuthorizationPolicy, Rule
from gossamer.core.frozen import FrozenMap, Value
from gossamer.core.ids import Origin
from gossamer.model.authorizers import Authorizer
from gossamer.model.tokens import TokenRule


class MutualTls(StrEnum):
    """What a server port accepts."""

    STRICT = "STRICT"
    PERMISSIVE = "PERMISSIVE"
    DISABLE = "DISABLE"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PeerPolicy(Value):
    """The merged PeerAuthentication of one workload: mesh < namespace < workload < port."""

    default: MutualTls = MutualTls.PERMISSIVE
    ports: FrozenMap[int, MutualTls] = field(default_factory=FrozenMap)
    origins: tuple[Origin, ...] = ()

    def on(self, port: int) -> MutualTls:
        """What the workload's port of this number accepts."""
        return self.ports.get(port, self.default)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SelectedPolicy(Value):
    """One AuthorizationPolicy that selects the workload. `fail_closed`: it was not valid and now denies."""

    origin: Origin
    spec: AuthorizationPolicy
    fail_closed: bool = False

    @property
    def namespace(self) -> str:
        return self.origin.resource.namespace

    @property
    def name(self) -> str:
        return self.origin.resource.name

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules; one that matches everything for a policy that fails closed and has none."""
        return self.spec.rules or ((Rule(),) if self.fail_closed else ())

    def rule_name(self, index: int) -> str:
        """The name, as Istio writes it, by which a verdict on the wire names one rule. Other kinds that fail closed
        stand beside AuthorizationPolicies of the same name, so theirs say which kind they are."""
        kind = self.origin.resource.kind
        word = "policy" if kind == "AuthorizationPolicy" else kind
        return f"ns[{self.namespace}]-{word}[{self.name}]-rule[{index}]"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ShadowPolicies(Value):
    """Policies in a dry run: what they would say is recorded, and decides nothing."""

    audit: tuple[SelectedPolicy, ...] = ()
    deny: tuple[SelectedPolicy, ...] = ()
    allow: tuple[SelectedPolicy, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WorkloadPolicies(Value):
    """All that decides who may call one workload, in Istio's order: custom, deny, allow, and beside them audit; each
    group sorted by namespace and name (root namespace's first). Dry runs stand apart."""

    peer: PeerPolicy = field(default_factory=PeerPolicy)
    tokens: tuple[TokenRule, ...] = ()
    """Which tokens are taken. Without any rule, none is looked at."""
    audit: tuple[SelectedPolicy, ...] = ()
    custom: tuple[SelectedPolicy, ...] = ()
    authorizer: Authorizer | None = None
    """Who is asked about what `custom` matches; there is one exactly if that is not empty."""
    deny: tuple[SelectedPolicy, ...] = ()
    allow: tuple[SelectedPolicy, ...] = ()
    shadow: ShadowPolicies = field(default_factory=ShadowPolicies)
    trust_domains: tuple[str, ...] = ("cluster.local",)
    """The mesh's own trust domain and its aliases: a principal of one matches as one of each."""
