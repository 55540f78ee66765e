"""Whom a policy is for: labels that select workloads, or objects that it is attached to.

Rules: Istio's documentation of `WorkloadSelector` and `PolicyTargetReference`, and what the CRDs enforce.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from gossamer.api.common import PolicyTargetReference, WorkloadSelector
from gossamer.api.findings import At
from gossamer.api.rules.common import check_count, check_length, check_pattern, check_selector, is_written
from gossamer.api.service_entry import WorkloadSelector as LabelSelector

TARGETS: Final = {
    "Gateway": "gateway.networking.k8s.io",
    "GatewayClass": "gateway.networking.k8s.io",
    "Service": "",
    "ServiceEntry": "networking.istio.io",
}
"""What a policy can be attached to, and the API group of each."""
_GROUP: Final = r"|[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_KIND: Final = r"[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?"


class Targeted(Protocol):
    """A spec that says with `targetRefs` what it is attached to."""

    @property
    def target_refs(self) -> tuple[PolicyTargetReference, ...]: ...


def check_workload_selector(selector: WorkloadSelector | None, at: At) -> None:
    if selector:
        check_count(selector.match_labels, 4096, at["matchLabels"])
        check_selector(selector.match_labels, at["matchLabels"])


def check_label_selector(selector: LabelSelector | None, at: At) -> None:
    """For the `workloadSelector` of Sidecar, ServiceEntry and EnvoyFilter."""
    if selector:
        check_count(selector.labels, 256, at["labels"])
        message = "wildcard is not supported in selector"
        check_selector(selector.labels, at["labels"], wildcard_message=message)


def check_targets(spec: Targeted, raw: Any, at: At, *, strict: bool = False, selector: str = "selector") -> None:
    """At most one way of saying whom the spec is for, and references that can be right. A reference to a kind that
    carries no policy has no effect; `strict` refuses it, as one must where somebody relies on the policy."""
    given = [name for name in (selector, "targetRef", "targetRefs") if is_written(raw, name)]
    if len(given) > 1:
        at[given[1]].error("exclusive-fields", f"only one of targetRefs or {selector} can be set", on_key=True)
    check_count(spec.target_refs, 16, at["targetRefs"])
    references = [(at["targetRefs", index], reference) for index, reference in enumerate(spec.target_refs)]
    single: PolicyTargetReference | None = getattr(spec, "target_ref", None)
    for here, reference in ([(at["targetRef"], single)] if single else []) + references:
        _check_reference(reference, here, strict=strict)
        _check_waypoint(reference, here, selector)


def _check_waypoint(reference: PolicyTargetReference, at: At, selector: str) -> None:
    """What is attached to a service is for waypoints, which nobody runs here."""
    if reference.kind in ("Service", "ServiceEntry"):
        message = f"what is attached to a {reference.kind} is for waypoints, of which this mesh has none"
        at.warning("no-effect", message, f"nobody acts on it; name the workloads of the service with {selector}")


def _check_reference(reference: PolicyTargetReference, at: At, *, strict: bool) -> None:
    check_length(reference.name, 1, 253, at["name"])
    if reference.namespace:
        at["namespace"].error("invalid-target", "cross namespace referencing is not currently supported")
    group = "" if reference.group == "core" else reference.group
    well_formed = (
        check_length(group, 0, 253, at["group"])
        and check_pattern(group, _GROUP, at["group"])
        and check_length(reference.kind, 1, 63, at["kind"])
        and check_pattern(reference.kind, _KIND, at["kind"])
    )
    if well_formed and TARGETS.get(reference.kind) != group:
        expected = ", ".join(f"{group or 'core'}/{kind}" for kind, group in TARGETS.items())
        message = f"a policy cannot be attached to {reference.group or 'core'}/{reference.kind}"
        say = at.error if strict else at.warning
        say("invalid-target", message, f"expected one of {expected}")
