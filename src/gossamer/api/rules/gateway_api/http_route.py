"""HTTPRoute: its parents, matches, backends and timeouts.

Rules: the Gateway API reference, as its schemas enforce it.
"""

from __future__ import annotations

import re
from typing import Any, Final

from gossamer.api.findings import At
from gossamer.api.gateway_api.common import ParentReference
from gossamer.api.gateway_api.http_route import (
    CookieLifetimeType,
    FilterType,
    HTTPPathMatch,
    HTTPRoute,
    HTTPRouteMatch,
    HTTPRouteRule,
    HTTPRouteTimeouts,
    PathMatchType,
    SessionPersistence,
    ValueMatch,
    ValueMatchType,
)
from gossamer.api.resource import Resource
from gossamer.api.rules.common import (
    check,
    check_count,
    check_length,
    check_pattern,
    check_port,
    check_range,
    check_regex,
    check_unique,
    is_written,
    written,
)
from gossamer.api.rules.gateway_api.common import (
    check_backend,
    check_hostname,
    check_reference,
    check_section_name,
    check_written_durations,
)
from gossamer.api.rules.gateway_api.http_filter import check_filters
from gossamer.api.rules.ingress import path_problem

HEADER_NAME: Final = r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+"
_PATH: Final = re.compile(r"(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})+")
MAX_WEIGHT: Final = 1_000_000


def check_http_route(resource: Resource[HTTPRoute], raw: Any, at: At) -> None:
    spec = resource.spec
    _check_parents(spec.parent_refs, at["parentRefs"])
    check_count(spec.hostnames, 16, at["hostnames"])
    for index, host in enumerate(spec.hostnames):
        check_hostname(host, at["hostnames", index])
    check_count(spec.rules, 16, at["rules"])
    raw_rules = written(raw, "rules") or []
    for index, rule in enumerate(spec.rules):
        _check_rule(rule, raw_rules[index], at["rules", index])
    named = ((rule.name, at["rules", i, "name"]) for i, rule in enumerate(spec.rules) if rule.name)
    check_unique(named, "rule name")
    if sum(max(len(rule.matches), 1) for rule in spec.rules) > 128:
        at["rules"].error(
            "out-of-range", "the total number of matches across all rules in a route must be less than 128"
        )


def _check_parents(parents: tuple[ParentReference, ...], at: At) -> None:
    check_count(parents, 32, at)
    seen: set[ParentReference] = set()
    for index, parent in enumerate(parents):
        here = at[index]
        check_reference(parent.group, parent.kind, parent.name, parent.namespace, here)
        if parent.section_name:
            check_section_name(parent.section_name, here["sectionName"])
        if parent.port is not None:
            check_port(parent.port, here["port"])
        if parent in seen:
            message = (
                "sectionName or port must be unique when parentRefs includes 2 or more references to the same parent"
            )
            here.error("duplicate-value", message)
        seen.add(parent)


def _check_rule(rule: HTTPRouteRule, raw: Any, at: At) -> None:
    if rule.name:
        check_section_name(rule.name, at["name"])
    check_count(rule.matches, 64, at["matches"])
    for index, match in enumerate(rule.matches):
        _check_match(match, at["matches", index])
    prefixes = sum(match.path.type is PathMatchType.PATH_PREFIX for match in rule.matches)
    check_filters(rule.filters, at["filters"], prefix_only=not rule.matches or prefixes == len(rule.matches) == 1)
    redirects = any(found.type is FilterType.REQUEST_REDIRECT for found in rule.filters)
    if redirects and rule.backend_refs:
        at["backendRefs"].error("exclusive-fields", "RequestRedirect filter must not be used together with backendRefs")
    check_count(rule.backend_refs, 16, at["backendRefs"])
    for index, backend in enumerate(rule.backend_refs):
        here = at["backendRefs", index]
        check_backend(backend, here)
        check_range(backend.weight, 0, MAX_WEIGHT, here["weight"])
        check_filters(backend.filters, here["filters"], prefix_only=True)
    if rule.timeouts:
        _check_timeouts(rule.timeouts, written(raw, "timeouts"), at["timeouts"])
    if rule.retry:
        here = at["retry"]
        for index, code in enumerate(rule.retry.codes):
            check_range(code, 400, 599, here["codes", index])
        check_written_durations(written(raw, "retry"), {"backoff": here["backoff"]})
    if rule.session_persistence:
        _check_session(rule.session_persistence, written(raw, "sessionPersistence"), at["sessionPersistence"])


def _check_match(match: HTTPRouteMatch, at: At) -> None:
    _check_path(match.path, at["path"])
    for name, values, longest in (("headers", match.headers, 4096), ("queryParams", match.query_params, 1024)):
        here = at[name]
        check_count(values, 16, here)
        for index, value in enumerate(values):
            _check_value(value, longest, here[index])
        check_unique(((value.name, here[i, "name"]) for i, value in enumerate(values)), name)


def _check_value(value: ValueMatch, longest: int, at: At) -> None:
    if check_length(value.name, 1, 256, at["name"]):
        check_pattern(value.name, HEADER_NAME, at["name"])
    if check_length(value.value, 1, longest, at["value"]) and value.type is ValueMatchType.REGULAR_EXPRESSION:
        check_regex(value.value, at["value"])


def _check_path(path: HTTPPathMatch, at: At) -> None:
    here = at["value"]
    check_length(path.value, 0, 1024, here)
    if path.type is PathMatchType.REGULAR_EXPRESSION:
        check_regex(path.value, here)
    elif check(path_problem(path.value), here, "invalid-path") and not _PATH.fullmatch(path.value):
        here.error("invalid-path", f'"{path.value}" has characters that a path cannot have; write them as %XX')


def _check_timeouts(timeouts: HTTPRouteTimeouts, raw: Any, at: At) -> None:
    check_written_durations(raw, {name: at[name] for name in ("request", "backendRequest")})
    if timeouts.request and timeouts.backend_request and timeouts.backend_request > timeouts.request:
        message = "backendRequest timeout cannot be longer than request timeout"
        at["backendRequest"].error("out-of-range", message)


def _check_session(session: SessionPersistence, raw: Any, at: At) -> None:
    check_length(session.session_name, 0, 128, at["sessionName"])
    check_written_durations(raw, {name: at[name] for name in ("absoluteTimeout", "idleTimeout")})
    permanent = session.cookie_config and session.cookie_config.lifetime_type is CookieLifetimeType.PERMANENT
    if permanent and not is_written(raw, "absoluteTimeout"):
        message = "AbsoluteTimeout must be specified when cookie lifetimeType is Permanent"
        at["absoluteTimeout"].error("required", message)
