"""What is wrong with an EnvoyFilter, as far as it takes Envoy's types, and no Envoy, to see it; the rest is `api`'s.

Invariant: an error is said of a patch that could not be applied as it is written; a warning of one that would change
nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gossamer.api.common import PolicyTargetReference
from gossamer.api.envoy_filter import ApplyTo, EnvoyConfigObjectPatch, EnvoyFilter, Operation, PatchContext
from gossamer.api.resource import Resource
from gossamer.compile.patches.filters import protected
from gossamer.compile.patches.patch import MERGES
from gossamer.compile.patches.value import MESSAGES, NotThat, build_value
from gossamer.core.diagnostics import Diagnostic, Severity, diagnostic_about

_FILTERS: Final = frozenset({ApplyTo.HTTP_FILTER, ApplyTo.NETWORK_FILTER, ApplyTo.LISTENER_FILTER})
_WITHOUT_EFFECT: Final[dict[ApplyTo, frozenset[Operation]]] = {
    ApplyTo.HTTP_ROUTE: frozenset({Operation.ADD}),
    ApplyTo.ROUTE_CONFIGURATION: frozenset({Operation.ADD, Operation.REMOVE}),
    ApplyTo.BOOTSTRAP: frozenset({Operation.ADD, Operation.REMOVE}),
}
_INSTEAD: Final = {
    ApplyTo.HTTP_ROUTE: "a route's place matters: use INSERT_FIRST, INSERT_BEFORE or INSERT_AFTER, or MERGE",
    ApplyTo.ROUTE_CONFIGURATION: "use MERGE, or patch a VIRTUAL_HOST or an HTTP_ROUTE",
    ApplyTo.BOOTSTRAP: "use MERGE",
}
_POLICIES: Final = (
    "policies are delivered apart from the listener and cannot be patched: change the AuthorizationPolicy or "
    "RequestAuthentication; INSERT_BEFORE and INSERT_AFTER find their place by this name"
)


def check_envoy_filter(resource: Resource[EnvoyFilter]) -> tuple[Diagnostic, ...]:
    """What is wrong with it; positions are for whoever knows the source."""
    return tuple(
        diagnostic_about(resource.id, code, path, message, severity=severity)
        for severity, code, path, message in _findings(resource.spec)
    )


_Finding = tuple[Severity, str, str, str]


def _findings(spec: EnvoyFilter) -> Iterator[_Finding]:
    for index, reference in enumerate(spec.target_refs):
        if not _reaches_somebody(reference):
            message = f"a {reference.kind} is served by waypoints, which this mesh has none of: no proxy is selected"
            yield Severity.WARNING, "patch-without-effect", f"spec.targetRefs[{index}]", message
    for index, patch in enumerate(spec.config_patches):
        for severity, code, path, message in _of_patch(patch):
            yield severity, code, f"spec.configPatches[{index}]{path}", message


def _reaches_somebody(reference: PolicyTargetReference) -> bool:
    return reference.kind in ("Gateway", "GatewayClass")


def _of_patch(patch: EnvoyConfigObjectPatch) -> Iterator[_Finding]:
    if patch.patch is None or patch.apply_to.value not in MESSAGES:
        return
    operation, kind = patch.patch.operation, patch.apply_to
    if patch.patch.value is not None:
        built = build_value(kind.value, patch.patch.value)
        if isinstance(built, NotThat):
            message = f"this is not the Envoy configuration of a {kind.value}: {built.message}"
            yield Severity.ERROR, "invalid-patch", ".patch.value", message
    if operation in _WITHOUT_EFFECT.get(kind, ()):
        message = f"{operation.value} does nothing to a {kind.value}; {_INSTEAD[kind]}"
        yield Severity.WARNING, "patch-without-effect", ".patch.operation", message
    yield from _of_match(patch, operation)


def _of_match(patch: EnvoyConfigObjectPatch, operation: Operation) -> Iterator[_Finding]:
    match = patch.match
    if match is None:
        return
    if match.context is PatchContext.WAYPOINT:
        message = "this mesh has no waypoints: no proxy has anything in this context"
        yield Severity.WARNING, "patch-without-effect", ".match.context", message
    name, path = _filter_name(patch)
    if protected(name) and (operation in MERGES or operation in (Operation.REMOVE, Operation.REPLACE)):
        yield Severity.ERROR, "policy-not-patchable", path, f"{operation.value} of {name}: {_POLICIES}"


def _filter_name(patch: EnvoyConfigObjectPatch) -> tuple[str, str]:
    """The name of the filter that a patch selects, and where that is written."""
    listener = patch.match.listener if patch.match else None
    found = listener.filter_chain.filter if listener and listener.filter_chain else None
    path = ".match.listener.filterChain.filter"
    if found is None or patch.apply_to not in _FILTERS:
        return "", path
    if patch.apply_to is ApplyTo.HTTP_FILTER:
        return (found.sub_filter.name if found.sub_filter else ""), f"{path}.subFilter.name"
    return found.name, f"{path}.name"
