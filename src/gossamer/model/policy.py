"""Security policy as it applies to one workload, already selected, merged and ordered.

Everything that could not be understood has become a policy that denies: this room knows no half-valid policy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from gossamer.api.authorization_policy import AuthorizationPolicy
from gossamer.core.frozen import FrozenMap
from gossamer.core.ids import Origin


class MutualTls(StrEnum):
    """What a server port accepts."""

    STRICT = "STRICT"
    PERMISSIVE = "PERMISSIVE"
    DISABLE = "DISABLE"


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerPolicy:
    """The merged PeerAuthentication of one workload: mesh < namespace < workload < port."""

    default: MutualTls = MutualTls.PERMISSIVE
    ports: FrozenMap[int, MutualTls] = field(default_factory=FrozenMap)
    origins: tuple[Origin, ...] = ()

    def on(self, port: int) -> MutualTls:
        return self.ports.get(port, self.default)


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectedPolicy:
    """One AuthorizationPolicy that selects the workload. `fail_closed`: it was not valid and now denies everything."""

    origin: Origin
    spec: AuthorizationPolicy
    fail_closed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadPolicies:
    """All that decides who may call one workload, in Istio's order: deny before allow; each group sorted by
    namespace and name (root namespace's first). Later groups (custom, audit, JWT) join here."""

    peer: PeerPolicy = field(default_factory=PeerPolicy)
    deny: tuple[SelectedPolicy, ...] = ()
    allow: tuple[SelectedPolicy, ...] = ()
    trust_domains: tuple[str, ...] = ("cluster.local",)
    """The mesh's own trust domain and its aliases: a principal of one matches as one of each."""
