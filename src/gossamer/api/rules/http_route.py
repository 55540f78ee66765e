"""What an HTTP route does with a request: which actions exclude one another, and what each must say.

Rules: Istio's documentation of HTTPRoute and of the messages it holds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from gossamer.api import names
from gossamer.api.common import Exact, Prefix
from gossamer.api.findings import At
from gossamer.api.rules.common import (
    check,
    check_duration,
    check_one_of,
    check_percent,
    check_range,
    check_regex,
    check_string_match,
    require,
)
from gossamer.api.rules.format_commands import COMMANDS
from gossamer.api.structure import closest
from gossamer.api.virtual_service import (
    CorsPolicy,
    Headers,
    HTTPDirectResponse,
    HTTPFaultInjection,
    HTTPRedirect,
    HTTPRetry,
    HTTPRewrite,
    HTTPRoute,
)

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE")
REDIRECT_CODES: Final = (301, 302, 303, 307, 308)
MAX_BODY: Final = 1024 * 1024
RETRY_CONDITIONS: Final = (
    "5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "envoy-ratelimited", "retriable-4xx",
    "refused-stream", "retriable-status-codes", "retriable-headers", "http3-post-connect-failure",
    "cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable",
)  # fmt: skip
"""Envoy's `x-envoy-retry-on` and `x-envoy-retry-grpc-on`; a status code may stand among them."""
GRPC_STATUSES: Final = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
    "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip
_FORMAT: Final = re.compile(r"%%|%([A-Z][A-Z0-9_]*)(?:\([^()]*(?:\([^()]*\)[^()]*)*\))?(?::[0-9]+)?%")


def check_actions(route: HTTPRoute, at: At) -> None:
    """The route's action, and everything that goes with it."""
    _check_exclusions(route, at)
    if route.redirect:
        _check_redirect(route.redirect, route, at["redirect"])
    if route.direct_response:
        _check_direct_response(route.direct_response, at["directResponse"])
    if route.rewrite:
        _check_rewrite(route.rewrite, at["rewrite"])
    if route.fault:
        _check_fault(route.fault, at["fault"])
    if route.retries:
        _check_retries(route.retries, at["retries"])
    if route.cors_policy:
        _check_cors(route.cors_policy, at["corsPolicy"])
    check_duration(route.timeout, at["timeout"])
    check_header_edits(route.headers, at["headers"])
    _check_mirrors(route, at)
    if route.delegate:
        check(names.object_name_problem(route.delegate.name), at["delegate", "name"])
        if route.delegate.namespace:
            check(names.namespace_problem(route.delegate.namespace), at["delegate", "namespace"])


def _check_exclusions(route: HTTPRoute, at: At) -> None:
    actions = {
        "route": bool(route.route),
        "redirect": route.redirect is not None,
        "directResponse": route.direct_response is not None,
        "delegate": route.delegate is not None,
    }
    given = [name for name, present in actions.items() if present]
    if not given:
        at.error("required", "one of route, redirect, directResponse or delegate must be set")
    elif len(given) > 1:
        at[given[1]].error(
            "exclusive-fields", f"an HTTP route cannot contain both {given[0]} and {given[1]}", on_key=True
        )
    extras = {"rewrite": route.rewrite is not None, "fault": route.fault is not None}
    for answer in ("redirect", "directResponse"):
        for extra, present in extras.items():
            if actions[answer] and present:
                message = f"an HTTP route cannot contain both {extra} and {answer}"
                at[extra].error("exclusive-fields", message, on_key=True)


def _check_redirect(redirect: HTTPRedirect, route: HTTPRoute, at: At) -> None:
    check_one_of(at, {"port": redirect.port is not None, "derivePort": redirect.derive_port is not None})
    check_one_of(at, {"uri": bool(redirect.uri), "prefixRewrite": bool(redirect.prefix_rewrite)})
    says = (
        redirect.uri,
        redirect.authority,
        redirect.port,
        redirect.derive_port,
        redirect.scheme,
        redirect.prefix_rewrite,
    )
    if not any(says) and not redirect.redirect_code:
        at.error("required", "redirect must say a uri, authority, scheme, port or redirectCode")
    if redirect.redirect_code and redirect.redirect_code not in REDIRECT_CODES:
        hint = f"expected one of {', '.join(map(str, REDIRECT_CODES))}"
        at["redirectCode"].error("invalid-value", f"{redirect.redirect_code} is not a redirect that can be sent", hint)
    if redirect.port is not None:
        check_range(redirect.port, 1, 65535, at["port"])
    if redirect.scheme and redirect.scheme not in ("http", "https"):
        at["scheme"].error("invalid-value", 'scheme must be "http" or "https"')
    if redirect.prefix_rewrite and any(match.uri and not isinstance(match.uri, Prefix) for match in route.match):
        at["prefixRewrite"].error("invalid-value", "prefixRewrite needs matches by uri prefix")


def _check_direct_response(response: HTTPDirectResponse, at: At) -> None:
    check_range(response.status, 200, 599, at["status"])
    body = response.body
    if body is None:
        return
    check_one_of(at["body"], {"string": body.string is not None, "bytes": body.bytes is not None})
    size = len((body.string or "").encode()) if body.bytes is None else len(body.bytes)
    if size > MAX_BODY:
        at["body"].error("too-large", f"the body has {size} bytes; at most {MAX_BODY} are allowed")


def _check_rewrite(rewrite: HTTPRewrite, at: At) -> None:
    pattern = rewrite.uri_regex_rewrite
    if not (rewrite.uri or rewrite.authority or pattern):
        at.error("required", "rewrite must say a uri, uriRegexRewrite or authority")
    check_one_of(at, {"uri": bool(rewrite.uri), "uriRegexRewrite": pattern is not None})
    if pattern:
        here = at["uriRegexRewrite"]
        if require(pattern.match, here["match"], "uriRegexRewrite requires both match and rewrite"):
            check_regex(pattern.match, here["match"])
        require(pattern.rewrite, here["rewrite"], "uriRegexRewrite requires both match and rewrite")


def _check_fault(fault: HTTPFaultInjection, at: At) -> None:
    if not (fault.delay or fault.abort):
        at.error("required", "fault must have a delay or an abort")
    if fault.delay:
        here = at["delay"]
        kinds = {"fixedDelay": fault.delay.fixed_delay, "exponentialDelay": fault.delay.exponential_delay}
        check_one_of(here, {name: value is not None for name, value in kinds.items()})
        require(any(value is not None for value in kinds.values()), here["fixedDelay"], "fixedDelay must be set")
        check_duration(fault.delay.fixed_delay, here["fixedDelay"])
        if fault.delay.exponential_delay is not None:
            _refuse_reserved(here["exponentialDelay"], "fixedDelay")
        check_percent(fault.delay.percentage, here["percentage"])
        check_range(fault.delay.percent, 0, 100, here["percent"])
    if fault.abort:
        here = at["abort"]
        status, grpc, http2 = fault.abort.http_status, fault.abort.grpc_status, fault.abort.http2_error
        given = {"httpStatus": status is not None, "grpcStatus": grpc is not None, "http2Error": http2 is not None}
        check_one_of(here, given)
        require(any(given.values()), here["httpStatus"], "abort must say an httpStatus or a grpcStatus")
        if http2 is not None:
            _refuse_reserved(here["http2Error"], "httpStatus or grpcStatus")
        if status is not None:
            check_range(status, 200, 599, here["httpStatus"])
        if grpc is not None and grpc not in GRPC_STATUSES:
            here["grpcStatus"].error("invalid-value", f'"{grpc}" is not a gRPC status', closest(grpc, GRPC_STATUSES))
        check_percent(fault.abort.percentage, here["percentage"])


def _refuse_reserved(at: At, instead: str) -> None:
    message = f"{at.path[-1]} is reserved by Istio's API and has no meaning; Istio refuses it too"
    at.error("reserved-field", message, f"use {instead}", on_key=True)


def _check_retries(retries: HTTPRetry, at: At) -> None:
    if retries.attempts < 0:
        at["attempts"].error("out-of-range", "attempts must not be negative")
    says_more = (
        retries.per_try_timeout, retries.retry_on, retries.backoff, retries.retry_remote_localities,
        retries.retry_ignore_previous_hosts,
    )  # fmt: skip
    if retries.attempts == 0 and any(value is not None and value != "" for value in says_more):
        message = "attempts is 0, which disables retries; the rest of the policy says otherwise"
        at["attempts"].error("invalid-value", message, "set attempts to 1 or more")
    check_duration(retries.per_try_timeout, at["perTryTimeout"])
    check_duration(retries.backoff, at["backoff"])
    for condition in filter(None, (part.strip() for part in retries.retry_on.split(","))):
        if condition.isdigit():
            if not 100 <= int(condition[:9]) <= 599:
                at["retryOn"].error("invalid-value", f"{condition} is not an HTTP status")
        elif condition not in RETRY_CONDITIONS:
            hint = closest(condition, RETRY_CONDITIONS)
            at["retryOn"].error("invalid-value", f'"{condition}" is not a retry condition', hint)


def _check_cors(cors: CorsPolicy, at: At) -> None:
    for index, origin in enumerate(cors.allow_origins):
        check_string_match(origin, at["allowOrigins", index])
        if isinstance(origin, Exact) and not origin.value:
            at["allowOrigins", index].error("empty-match", "an origin must not be empty")
    for index, method in enumerate(cors.allow_methods):
        if method not in (*METHODS, "*"):
            at["allowMethods", index].error(
                "invalid-value", f'"{method}" is not an HTTP method', closest(method, METHODS)
            )
    for name, headers in (("allowHeaders", cors.allow_headers), ("exposeHeaders", cors.expose_headers)):
        for index, header in enumerate(headers):
            check(names.header_problem(header), at[name, index], "invalid-header")
    if cors.max_age is not None:
        if cors.max_age % timedelta(seconds=1):
            at["maxAge"].error("invalid-duration", "maxAge is told in whole seconds")
        elif cors.max_age < timedelta(0):
            at["maxAge"].error("invalid-duration", "maxAge must not be negative")


def _check_mirrors(route: HTTPRoute, at: At) -> None:
    if route.mirror and route.mirrors:
        at["mirrors"].error("exclusive-fields", "an HTTP route cannot contain both mirror and mirrors", on_key=True)
    check_percent(route.mirror_percentage, at["mirrorPercentage"])
    if route.mirror_percent is not None:
        check_range(route.mirror_percent, 0, 100, at["mirrorPercent"])
    for index, mirror in enumerate(route.mirrors):
        check_percent(mirror.percentage, at["mirrors", index, "percentage"])


def check_header_edits(headers: Headers | None, at: At) -> None:
    """Names of headers, and values that Envoy can format (a literal % is written %%)."""
    if headers is None:
        return
    for name, edits in (("request", headers.request), ("response", headers.response)):
        if edits is None:
            continue
        _check_header_values(edits.set, at[name, "set"], request=name == "request")
        _check_header_values(edits.add, at[name, "add"], request=name == "request")
        for index, header in enumerate(edits.remove):
            here = at[name, "remove", index]
            if check(names.header_problem(header), here, "invalid-header") and header.lower() == "host":
                here.error("invalid-header", "the Host header cannot be removed")


def _check_header_values(values: Mapping[str, str], at: At, *, request: bool) -> None:
    for header, value in values.items():
        here = at[header]
        if not (request and header == ":authority"):
            check(names.header_problem(header), here, "invalid-header")
        if "%" in _FORMAT.sub("", value):
            hint = "write %% for a percent sign, or a command such as %START_TIME%"
            here.error("invalid-header", "the value has a % that begins no command", hint)
        elif unknown := next((name for name in _FORMAT.findall(value) if name and name not in COMMANDS), ""):
            here.error("invalid-header", f"Envoy knows no command %{unknown}%", closest(unknown, COMMANDS))
        elif "\n" in value or "\r" in value or "\0" in value:
            here.error("invalid-header", "a header's value is one line")
