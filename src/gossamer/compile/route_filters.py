"""What HTTP filters do for one route: faults, CORS; and routes that answer by themselves."""

from __future__ import annotations

from typing import Final

from envoy.config.core.v3.base_pb2 import DataSource, RuntimeFractionalPercent
from envoy.config.route.v3.route_components_pb2 import DirectResponseAction, RedirectAction
from envoy.extensions.filters.common.fault.v3.fault_pb2 import FaultDelay
from envoy.extensions.filters.http.cors.v3.cors_pb2 import CorsPolicy
from envoy.extensions.filters.http.fault.v3.fault_pb2 import FaultAbort, HTTPFault
from envoy.type.matcher.v3.regex_pb2 import RegexMatcher
from envoy.type.matcher.v3.string_pb2 import StringMatcher
from google.protobuf.any_pb2 import Any
from google.protobuf.wrappers_pb2 import BoolValue

from gossamer.api import virtual_service as api
from gossamer.compile.draft import pack
from gossamer.compile.limits import seconds
from gossamer.compile.route_action import percentage
from gossamer.compile.strings import string_matcher

FAULT: Final = "envoy.filters.http.fault"
CORS: Final = "envoy.filters.http.cors"
_GRPC_CODES: Final = [
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
    *("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED"),
    *("INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"),
]
"""By their numbers."""
_ANYTHING: Final = StringMatcher(safe_regex=RegexMatcher(regex=".*"))
_REDIRECTS: Final = {
    301: RedirectAction.MOVED_PERMANENTLY,
    302: RedirectAction.FOUND,
    303: RedirectAction.SEE_OTHER,
    307: RedirectAction.TEMPORARY_REDIRECT,
    308: RedirectAction.PERMANENT_REDIRECT,
}


def per_route(rule: api.HTTPRoute) -> dict[str, Any]:
    """Configuration of HTTP filters for a rule, by filter name."""
    filters = {}
    if rule.fault is not None:
        filters[FAULT] = pack(_fault(rule.fault))
    if rule.cors_policy is not None:
        filters[CORS] = pack(_cors(rule.cors_policy))
    return filters


def _fault(fault: api.HTTPFaultInjection) -> HTTPFault:
    """Without a percentage a fault befalls no request, as Istio documents it."""
    result = HTTPFault()
    delay, abort = fault.delay, fault.abort
    if delay is not None and delay.fixed_delay is not None:
        share = delay.percentage.value if delay.percentage is not None else float(delay.percent)
        result.delay.CopyFrom(
            FaultDelay(fixed_delay=seconds(delay.fixed_delay.total_seconds()), percentage=percentage(share))
        )
    if abort is not None:
        share = abort.percentage.value if abort.percentage is not None else 0.0
        result.abort.CopyFrom(FaultAbort(percentage=percentage(share)))
        if abort.grpc_status in _GRPC_CODES:
            result.abort.grpc_status = _GRPC_CODES.index(abort.grpc_status)
        else:
            result.abort.http_status = abort.http_status or 500
    return result


def _cors(policy: api.CorsPolicy) -> CorsPolicy:
    origins = [matcher for origin in policy.allow_origins if (matcher := string_matcher(origin)) is not None]
    origins += [_ANYTHING if name == "*" else StringMatcher(exact=name) for name in policy.allow_origin]
    result = CorsPolicy(
        allow_origin_string_match=origins,
        allow_methods=",".join(policy.allow_methods),
        allow_headers=",".join(policy.allow_headers),
        expose_headers=",".join(policy.expose_headers),
        max_age=str(int(policy.max_age.total_seconds())) if policy.max_age is not None else "",
        filter_enabled=RuntimeFractionalPercent(default_value=percentage(100.0)),
        forward_not_matching_preflights=BoolValue(
            value=policy.unmatched_preflights is not api.UnmatchedPreflights.IGNORE
        ),
    )
    if policy.allow_credentials is not None:
        result.allow_credentials.CopyFrom(BoolValue(value=policy.allow_credentials))
    return result


def redirect(rule: api.HTTPRedirect, *, tls: bool, port: int, brief: bool = False) -> RedirectAction:
    """The redirect of requests that came to `port`, over TLS or not, by which `derivePort` chooses; a prefix apart.
    `brief`: a scheme's own port is not told where nobody could take it for another one (the Gateway API's wish)."""
    action = RedirectAction(
        host_redirect=rule.authority,
        response_code=_REDIRECTS.get(rule.redirect_code or 301, RedirectAction.MOVED_PERMANENTLY),
    )
    if rule.scheme:
        action.scheme_redirect = rule.scheme
    if rule.uri:
        action.path_redirect = rule.uri
    default = 443 if rule.scheme == "https" or (tls and not rule.scheme) else 80
    untold = brief and (rule.authority or port in (80, 443))
    if rule.port is not None:
        if not (untold and rule.port == default):
            action.port_redirect = rule.port
    elif rule.derive_port is api.RedirectPortSelection.FROM_PROTOCOL_DEFAULT:
        if not untold:
            action.port_redirect = default
    elif rule.derive_port is api.RedirectPortSelection.FROM_REQUEST_PORT and rule.authority and port != default:
        action.port_redirect = port  # without an authority Envoy keeps the request's, port and all
    return action


def direct_response(rule: api.HTTPDirectResponse) -> DirectResponseAction:
    """The answer that a route gives by itself."""
    action = DirectResponseAction(status=rule.status)
    if rule.body is not None and rule.body.string is not None:
        action.body.CopyFrom(DataSource(inline_string=rule.body.string))
    elif rule.body is not None and rule.body.bytes is not None:
        action.body.CopyFrom(DataSource(inline_bytes=rule.body.bytes))
    return action
