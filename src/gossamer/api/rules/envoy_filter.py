"""EnvoyFilter: what is patched, and with what.

Rules: Istio's documentation of EnvoyFilter, and what its CRD enforces. Whether a value is what Envoy takes is for Envoy
to say.
"""

from __future__ import annotations

from typing import Any, Final

from gossamer.api.envoy_filter import (
    ApplyTo,
    EnvoyConfigObjectMatch,
    EnvoyConfigObjectPatch,
    EnvoyFilter,
    FilterClass,
    FilterMatch,
    Operation,
    PatchContext,
)
from gossamer.api.findings import At
from gossamer.api.regex import regex_problem
from gossamer.api.resource import Resource
from gossamer.api.rules.common import check, check_one_of, check_port, is_written, written
from gossamer.api.rules.targets import check_label_selector, check_targets

HTTP_CONNECTION_MANAGERS: Final = (
    "envoy.filters.network.http_connection_manager",
    "envoy.http_connection_manager",
)
_FILTERS: Final = (ApplyTo.NETWORK_FILTER, ApplyTo.HTTP_FILTER)
_ROUTES: Final = (ApplyTo.ROUTE_CONFIGURATION, ApplyTo.VIRTUAL_HOST, ApplyTo.HTTP_ROUTE)
_LISTENERS: Final = (ApplyTo.LISTENER, ApplyTo.FILTER_CHAIN, *_FILTERS, ApplyTo.LISTENER_FILTER)
_MATCHES: Final = {
    **dict.fromkeys(_LISTENERS, "listener"),
    **dict.fromkeys(_ROUTES, "routeConfiguration"),
    ApplyTo.CLUSTER: "cluster",
}
"""Which match goes with what is patched."""
_ORDERED: Final = (*_FILTERS, ApplyTo.LISTENER_FILTER, ApplyTo.HTTP_ROUTE)
_INSERTS: Final = (Operation.INSERT_BEFORE, Operation.INSERT_AFTER, Operation.INSERT_FIRST)


def check_envoy_filter(resource: Resource[EnvoyFilter], raw: Any, at: At) -> None:
    spec = resource.spec
    check_label_selector(spec.workload_selector, at["workloadSelector"])
    check_targets(spec, raw, at, selector="workloadSelector")
    raw_patches = written(raw, "configPatches")
    for index, patch in enumerate(spec.config_patches):
        _check_patch(patch, raw_patches[index], at["configPatches", index])


def _check_patch(patch: EnvoyConfigObjectPatch, raw: Any, at: At) -> None:
    if patch.apply_to is ApplyTo.INVALID:
        at["applyTo"].error("required", "missing applyTo: say which kind of Envoy's objects is patched")
    elif patch.apply_to is ApplyTo.BOOTSTRAP:
        at["applyTo"].warning("deprecated-field", "patches of the bootstrap are deprecated")
    if patch.match:
        _check_match(patch.apply_to, patch.match, written(raw, "match"), at["match"])
    if patch.patch is None:
        at["patch"].error("required", "missing patch: say what is changed, with operation and value")
        return
    _check_operation(patch, at["patch"])


def _check_operation(patch: EnvoyConfigObjectPatch, at: At) -> None:
    assert patch.patch is not None
    operation, value = patch.patch.operation, patch.patch.value
    if operation is Operation.INVALID:
        at["operation"].error("required", "missing patch operation")
    elif operation is not Operation.REMOVE and value is None:
        at["value"].error("required", f"missing patch value: {operation} needs one")
    elif operation is Operation.REMOVE and value is not None:
        at["value"].warning("no-effect", "REMOVE takes no value; what is removed is said by match")
    if operation in _INSERTS and patch.apply_to not in _ORDERED:
        at["operation"].warning("no-effect", f"the order of {patch.apply_to} objects does not matter: use ADD")
    if operation is Operation.REPLACE and patch.apply_to not in _FILTERS:
        at["operation"].warning("no-effect", "REPLACE is for HTTP_FILTER and NETWORK_FILTER; use MERGE")
    if patch.patch.filter_class is not FilterClass.UNSPECIFIED and operation is not Operation.ADD:
        at["filterClass"].warning("no-effect", "filterClass goes with operation ADD")


def _check_match(apply_to: ApplyTo, match: EnvoyConfigObjectMatch, raw: Any, at: At) -> None:
    given = [name for name in ("listener", "routeConfiguration", "cluster", "waypoint") if is_written(raw, name)]
    check_one_of(at, dict.fromkeys(given, True))
    if (match.context is PatchContext.WAYPOINT) != ("waypoint" in given):
        at.error("invalid-value", 'Invalid value: "object": only support waypointMatch when context is WAYPOINT')
    elif given and given[0] not in (_MATCHES.get(apply_to), "waypoint") and apply_to in _MATCHES:
        message = f"applyTo {apply_to} cannot have a match of {given[0]}"
        at[given[0]].error("invalid-match", message, f"use {_MATCHES[apply_to]}", on_key=True)
    if match.proxy and match.proxy.proxy_version:
        problem = regex_problem(match.proxy.proxy_version)
        check(problem and f"not a regular expression of RE2: {problem}", at["proxy", "proxyVersion"], "invalid-regex")
    chain = match.listener.filter_chain if match.listener else None
    if chain and chain.filter:
        _check_filter(apply_to, chain.filter, at["listener", "filterChain", "filter"])
    if match.waypoint:
        if is_written(written(raw, "waypoint"), "portNumber"):
            check_port(match.waypoint.port_number, at["waypoint", "portNumber"])
        if match.waypoint.filter:
            _check_filter(apply_to, match.waypoint.filter, at["waypoint", "filter"])
    if match.listener and match.listener.port_name:
        at["listener", "portName"].warning("no-effect", "portName is not implemented; use portNumber")


def _check_filter(apply_to: ApplyTo, match: FilterMatch, at: At) -> None:
    """A network filter, and inside it an HTTP filter, that a patch is about."""
    if apply_to not in _FILTERS:
        at.warning("no-effect", f"a match of filters has no effect when applyTo is {apply_to}")
    if not match.name:
        at["name"].error("required", "filter match has no name to match on")
    if match.sub_filter is None:
        return
    here = at["subFilter"]
    if apply_to is not ApplyTo.HTTP_FILTER:
        here.warning("no-effect", f"subFilter has no effect when applyTo is {apply_to}")
    if match.name and match.name not in HTTP_CONNECTION_MANAGERS:
        here.error("invalid-match", f"subFilter requires a filter match with {HTTP_CONNECTION_MANAGERS[0]}")
    if not match.sub_filter.name:
        here["name"].error("required", "subFilter match has no name to match on")
