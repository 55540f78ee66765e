"""AuthorizationPolicies as the rules of Envoy's RBAC filter.

Invariant: a policy's name on the wire is its name and rule (`ns[foo]-policy[bar]-rule[0]`), so that a denial, a log
line and a NACK name the YAML to blame. Rules are compiled in the order of their policies and change with nothing else.
"""

from __future__ import annotations

from envoy.config.rbac.v3.rbac_pb2 import RBAC

from gossamer.compile.policies.ports import LocalPorts
from gossamer.model.policy import WorkloadPolicies


def compile_deny(policies: WorkloadPolicies, ports: LocalPorts, *, tcp: bool) -> RBAC | None:
    """What is denied; None when nothing is."""
    raise NotImplementedError


def compile_allow(policies: WorkloadPolicies, ports: LocalPorts, *, tcp: bool) -> RBAC | None:
    """What is allowed; None when no policy allows anything, which allows all."""
    raise NotImplementedError
