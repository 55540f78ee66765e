"""What stands in for a security resource that cannot be used: a policy that denies.

Bad rules deny the workloads that the selector names; a bad selector denies the namespace (the whole mesh, in the root
namespace).

Invariant: whatever the author meant to let through, and more, is denied.
"""

from __future__ import annotations

from typing import Any

from gossamer.api.authorization_policy import Action, AuthorizationPolicy, Rule
from gossamer.api.common import WorkloadSelector
from gossamer.api.findings import At
from gossamer.api.peer_authentication import MutualTLS, MutualTLSMode, PeerAuthentication
from gossamer.api.rules.common import written
from gossamer.api.rules.targets import check_workload_selector
from gossamer.api.structure import build_typed


def deny_selected(raw_spec: Any) -> AuthorizationPolicy:
    """Denies every request to what the spec selects."""
    return AuthorizationPolicy(selector=_selector(raw_spec), action=Action.DENY, rules=(Rule(),))


def require_mutual_tls(raw_spec: Any) -> PeerAuthentication:
    """STRICT on every port of what the spec selects."""
    return PeerAuthentication(selector=_selector(raw_spec), mtls=MutualTLS(mode=MutualTLSMode.STRICT))


def _selector(raw_spec: Any) -> WorkloadSelector | None:
    """The selector when it is certain whom it means, else None: the namespace."""
    if not isinstance(raw_spec, dict):
        return None
    if any(written(raw_spec, name) is not None for name in ("targetRef", "targetRefs")):
        return None
    at = At()
    selector = build_typed(WorkloadSelector, written(raw_spec, "selector"), at)
    check_workload_selector(selector, at)
    return None if at.findings else selector
