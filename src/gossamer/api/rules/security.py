"""AuthorizationPolicy and PeerAuthentication.

Rules: Istio's documentation of both, and what their CRDs enforce. A rule that says nothing by mistake (an empty list,
an empty value) is refused, because what it then matches is not what its author meant.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, Final

from gossamer.api import names
from gossamer.api.authorization_policy import Action, AuthorizationPolicy, Condition, Operation, Source
from gossamer.api.common import json_name
from gossamer.api.findings import At
from gossamer.api.peer_authentication import PeerAuthentication
from gossamer.api.resource import Resource
from gossamer.api.rules.common import BOOLEAN_TRUE, check, is_written, require, written
from gossamer.api.rules.targets import check_targets, check_workload_selector
from gossamer.api.structure import closest

DRY_RUN: Final = "istio.io/dry-run"
BOOLEANS: Final = {*BOOLEAN_TRUE, "0", "f", "F", "false", "FALSE", "False"}
_CONDITIONS: Final = (
    "source.ip", "remote.ip", "source.namespace", "source.principal", "source.serviceAccount", "source.trustDomain",
    "destination.ip", "destination.port", "connection.sni", "request.auth.principal", "request.auth.audiences",
    "request.auth.presenter",
)  # fmt: skip
_KEYED: Final = re.compile(
    r"request\.headers\[[^\[\]]+\]|request\.auth\.claims(\[[^\[\]]+\])+|experimental\.envoy\.filters\..+"
)


def check_peer_authentication(resource: Resource[PeerAuthentication], raw: Any, at: At) -> None:
    spec = resource.spec
    check_workload_selector(spec.selector, at["selector"])
    if not is_written(raw, "portLevelMtls"):
        return
    here = at["portLevelMtls"]
    if not spec.port_level_mtls:
        here.error(
            "required", "spec.portLevelMtls in body should have at least 1 properties: name a port, or leave it out"
        )
    elif not (spec.selector and spec.selector.match_labels):
        here.error("invalid-value", "portLevelMtls requires selector", "say with matchLabels whose ports are meant")
    for port in spec.port_level_mtls:
        if not 0 < port <= 65535:
            here[str(port)].error("invalid-port", f"port must be between 1-65535, not {port}")


def check_authorization_policy(resource: Resource[AuthorizationPolicy], raw: Any, at: At) -> None:
    spec = resource.spec
    check_workload_selector(spec.selector, at["selector"])
    check_targets(spec, raw, at, strict=True)
    dry_run = resource.annotations.get(DRY_RUN)
    if dry_run is not None and dry_run not in BOOLEANS:
        message = f'annotation {DRY_RUN} must be "true" or "false", not "{dry_run}"'
        At(("metadata", "annotations", DRY_RUN), at.findings).error("invalid-value", message)
    if spec.action is Action.CUSTOM:
        named = spec.provider is not None and spec.provider.name
        require(named, at["provider"], "action CUSTOM needs the name of a provider")
        if dry_run in BOOLEAN_TRUE:
            message = "a dry run asks no authorizer: with action CUSTOM this policy has no effect"
            At(("metadata", "annotations", DRY_RUN), at.findings).warning("no-effect", message)
    elif spec.provider is not None:
        at["provider"].error("invalid-value", f"provider goes with action CUSTOM, not with {spec.action}")
    if spec.action is not Action.ALLOW and not spec.rules:
        message = f"{spec.action} without rules is meaningless, because it never matches"
        at["rules"].error("required", message, "write an empty rule {} to match every request")
    if spec.action is Action.DENY:
        _warn_of_streams(spec, at["rules"])
    raw_rules = written(raw, "rules") or []
    for index, rule in enumerate(spec.rules):
        here = at["rules", index]
        _check_lists(raw_rules[index], here)
        for number, source in enumerate(rule.from_):
            _check_source(source.source, here["from", number, "source"])
        for number, operation in enumerate(rule.to):
            _check_operation(operation.operation, here["to", number, "operation"])
        for number, condition in enumerate(rule.when):
            _check_condition(condition, here["when", number])


def _warn_of_streams(spec: AuthorizationPolicy, at: At) -> None:
    """On TCP ports what only HTTP can tell is taken for a match (Istio's webhook warns of it too)."""
    for index, rule in enumerate(spec.rules):
        operations = [one.operation for one in rule.to if one.operation is not None]
        sources = [one.source for one in rule.from_ if one.source is not None]
        wide = any(not (one.ports or one.not_ports) for one in operations)
        by_token = bool(sources) and not operations and all(_is_by_token(one) for one in sources)
        if (wide or by_token) and all(condition.key.startswith("request.") for condition in rule.when):
            message = "on a TCP port this rule denies what HTTP alone could tell apart"
            at[index].warning("denies-tcp", message, "say with ports which are meant")


def _is_by_token(source: Source) -> bool:
    return source == Source(
        request_principals=source.request_principals, not_request_principals=source.not_request_principals
    )


def _check_lists(raw_rule: Any, at: At) -> None:
    """`from: []` matches nothing in one reading and everything in another."""
    for name in ("from", "to", "when"):
        if written(raw_rule, name) == []:
            at[name].error("required", f"{name} must not be empty; leave it out to match anything")


def _values(message: Source | Operation, at: At) -> list[tuple[str, tuple[str, ...]]]:
    """The lists of a source or operation that are written. Says which of their values are empty."""
    lists = [(json_name(field.name), getattr(message, field.name)) for field in fields(message)]
    for name, values in lists:
        for index, value in enumerate(values):
            require(value, at[name, index], f"{name} must not have empty values")
    return [(name, values) for name, values in lists if values]


def _check_source(source: Source | None, at: At) -> None:
    if source is None or not (lists := _values(source, at)):
        at.error("required", "source must say at least one of principals, namespaces, ipBlocks and so on")
        return
    accounts = source.service_accounts or source.not_service_accounts
    if accounts and (source.principals or source.not_principals or source.namespaces or source.not_namespaces):
        at.error("exclusive-fields", "Cannot set serviceAccounts with namespaces or principals")
    for name, values in lists:
        if name.lower().endswith("ipblocks"):
            _check_each(values, at[name], names.subnet_problem)
        elif name.lower().endswith("serviceaccounts"):
            _check_each(values, at[name], _service_account_problem)


def _check_each(values: Sequence[str], at: At, problem_of: Callable[[str], str]) -> None:
    for index, value in enumerate(values):
        if value:
            check(problem_of(value), at[index])


def _service_account_problem(value: str) -> str:
    if "*" in value:
        return f'"{value}": wildcards are not allowed in service accounts'
    if value.count("/") > 1 or value.startswith("/") or value.endswith("/"):
        return f'"{value}" is neither ACCOUNT nor NAMESPACE/ACCOUNT'
    return "" if len(value) <= 320 else "a service account has at most 320 characters"


def _check_operation(operation: Operation | None, at: At) -> None:
    if operation is None or not (lists := _values(operation, at)):
        at.error("required", "operation must say at least one of hosts, ports, methods and paths")
        return
    for name, values in lists:
        if name.lower().endswith("ports"):
            _check_each(values, at[name], _port_problem)
        elif name.lower().endswith("paths"):
            _check_each(values, at[name], _path_problem)


def _port_problem(value: str) -> str:
    valid = value.isascii() and value.isdigit() and len(value) < 6 and 0 < int(value) <= 65535
    return "" if valid else f'"{value}" is not a port; port must be between 1-65535'


_TEMPLATE_SEGMENT: Final = re.compile(r"[A-Za-z0-9\-._~%!$&'()+,;:@=]+")


def _path_problem(path: str) -> str:
    """Exact, prefix* and *suffix take any path; a template, which has {*} or {**}, has rules of its own."""
    if "{" not in path and "}" not in path:
        return ""
    if "{*}" not in path and "{**}" not in path:
        return f'"{path}": a template is made of {{*}} and {{**}}; other braces are not allowed in a path'
    rest = ""
    for segment in path.removeprefix("/").split("/"):
        if rest and segment in ("{*}", "{**}") and segment == "{**}":
            return f'"{path}": only one {{**}} is allowed in a path, and no {{**}} may follow it'
        if segment == "{**}":
            rest = segment
        elif segment != "{*}" and not _TEMPLATE_SEGMENT.fullmatch(segment):
            return f'"{path}": {{*}} and {{**}} stand for whole segments, and * cannot be mixed with them'
    return ""


def _check_condition(condition: Condition, at: At) -> None:
    key = condition.key
    if not require(key, at["key"], "key must not be empty"):
        return
    if key not in _CONDITIONS and not _KEYED.fullmatch(key):
        hint = closest(key, (*_CONDITIONS, "request.headers[name]", "request.auth.claims[name]"))
        at["key"].error("invalid-value", f'unknown condition "{key}"', hint)
    if not condition.values and not condition.not_values:
        at.error("required", "at least one of values or notValues must be set")
    for name, values in (("values", condition.values), ("notValues", condition.not_values)):
        for index, value in enumerate(values):
            require(value, at[name, index], f"{name} must not have empty values")
        if key in ("source.ip", "remote.ip", "destination.ip"):
            _check_each(values, at[name], names.subnet_problem)
        elif key == "destination.port":
            _check_each(values, at[name], _port_problem)
        elif key == "source.serviceAccount":
            _check_each(values, at[name], _service_account_problem)
