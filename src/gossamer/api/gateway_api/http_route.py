"""HTTPRoute: how requests that come to a Gateway, or to a Service in the mesh, are routed.

Invariant: every field of `v1`, experimental ones included, is here, under its JSON name in snake_case, with the Gateway
API's default; nothing is interpreted.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gossamer.api.common import STRICT, Boolean, Duration, Int32
from gossamer.api.gateway_api.common import BackendObjectReference, LocalObjectReference, ParentReference


class PathMatchType(StrEnum):
    EXACT = "Exact"
    PATH_PREFIX = "PathPrefix"
    REGULAR_EXPRESSION = "RegularExpression"


class ValueMatchType(StrEnum):
    EXACT = "Exact"
    REGULAR_EXPRESSION = "RegularExpression"


class HTTPMethod(StrEnum):
    GET = "GET"
    HEAD = "HEAD"
    POST = "POST"
    PUT = "PUT"
    DELETE = "DELETE"
    CONNECT = "CONNECT"
    OPTIONS = "OPTIONS"
    TRACE = "TRACE"
    PATCH = "PATCH"


class FilterType(StrEnum):
    REQUEST_HEADER_MODIFIER = "RequestHeaderModifier"
    RESPONSE_HEADER_MODIFIER = "ResponseHeaderModifier"
    REQUEST_MIRROR = "RequestMirror"
    REQUEST_REDIRECT = "RequestRedirect"
    URL_REWRITE = "URLRewrite"
    CORS = "CORS"
    EXTERNAL_AUTH = "ExternalAuth"
    EXTENSION_REF = "ExtensionRef"


class PathModifierType(StrEnum):
    REPLACE_FULL_PATH = "ReplaceFullPath"
    REPLACE_PREFIX_MATCH = "ReplacePrefixMatch"


class SessionPersistenceType(StrEnum):
    COOKIE = "Cookie"
    HEADER = "Header"


class CookieLifetimeType(StrEnum):
    SESSION = "Session"
    PERMANENT = "Permanent"


class ExternalAuthProtocol(StrEnum):
    HTTP = "HTTP"
    GRPC = "GRPC"


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPRoute:
    """`HTTPRoute`. Without rules there is one that matches everything and goes nowhere."""

    __pydantic_config__ = STRICT
    parent_refs: tuple[ParentReference, ...] = ()
    use_default_gateways: str = ""
    hostnames: tuple[str, ...] = ()
    rules: tuple[HTTPRouteRule, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPRouteRule:
    """`HTTPRoute.rules[]`. Without matches it matches every path; `backend_refs` is empty for a rule that redirects,
    and else means 500."""

    name: str = ""
    matches: tuple[HTTPRouteMatch, ...] = ()
    filters: tuple[HTTPRouteFilter, ...] = ()
    backend_refs: tuple[HTTPBackendRef, ...] = ()
    timeouts: HTTPRouteTimeouts | None = None
    retry: HTTPRouteRetry | None = None
    session_persistence: SessionPersistence | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPPathMatch:
    """`HTTPRoute.rules[].matches[].path`."""

    type: PathMatchType = PathMatchType.PATH_PREFIX
    value: str = "/"


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPRouteMatch:
    """`HTTPRoute.rules[].matches[]`."""

    path: HTTPPathMatch = HTTPPathMatch()
    headers: tuple[ValueMatch, ...] = ()
    query_params: tuple[ValueMatch, ...] = ()
    method: HTTPMethod | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueMatch:
    """`HTTPRoute.rules[].matches[].headers[]`."""

    type: ValueMatchType = ValueMatchType.EXACT
    name: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPRouteFilter:
    """`HTTPRoute.rules[].filters[]`: the field that `type` names is set."""

    type: FilterType
    request_header_modifier: HTTPHeaderFilter | None = None
    response_header_modifier: HTTPHeaderFilter | None = None
    request_mirror: HTTPRequestMirrorFilter | None = None
    request_redirect: HTTPRequestRedirectFilter | None = None
    url_rewrite: HTTPURLRewriteFilter | None = None
    cors: HTTPCORSFilter | None = None
    external_auth: HTTPExternalAuthFilter | None = None
    extension_ref: LocalObjectReference | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPHeaderFilter:
    """`HTTPRoute.rules[].filters[].requestHeaderModifier`."""

    set: tuple[HTTPHeader, ...] = ()
    add: tuple[HTTPHeader, ...] = ()
    remove: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPHeader:
    """`HTTPRoute.rules[].filters[].requestHeaderModifier.set[]`."""

    name: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPRequestMirrorFilter:
    """`HTTPRoute.rules[].filters[].requestMirror`; all requests without percent or fraction."""

    backend_ref: BackendObjectReference
    percent: Int32 | None = None
    fraction: Fraction | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fraction:
    """`HTTPRoute.rules[].filters[].requestMirror.fraction`."""

    numerator: Int32
    denominator: Int32 = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPRequestRedirectFilter:
    """`HTTPRoute.rules[].filters[].requestRedirect`."""

    scheme: str = ""
    hostname: str = ""
    path: HTTPPathModifier | None = None
    port: Int32 | None = None
    status_code: Int32 = 302


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPPathModifier:
    """`HTTPRoute.rules[].filters[].urlRewrite.path`."""

    type: PathModifierType
    replace_full_path: str | None = None
    replace_prefix_match: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPURLRewriteFilter:
    """`HTTPRoute.rules[].filters[].urlRewrite`."""

    hostname: str = ""
    path: HTTPPathModifier | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPCORSFilter:
    """`HTTPRoute.rules[].filters[].cors`; `max_age` is in seconds."""

    allow_origins: tuple[str, ...] = ()
    allow_credentials: Boolean | None = None
    allow_methods: tuple[str, ...] = ()
    allow_headers: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    max_age: Int32 = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPExternalAuthFilter:
    """`HTTPRoute.rules[].filters[].externalAuth`."""

    protocol: ExternalAuthProtocol
    backend_ref: BackendObjectReference
    grpc: GRPCAuthConfig | None = None
    http: HTTPAuthConfig | None = None
    forward_body: ForwardBodyConfig | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GRPCAuthConfig:
    """`HTTPRoute.rules[].filters[].externalAuth.grpc`."""

    allowed_headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPAuthConfig:
    """`HTTPRoute.rules[].filters[].externalAuth.http`."""

    path: str = ""
    allowed_headers: tuple[str, ...] = ()
    allowed_response_headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardBodyConfig:
    """`HTTPRoute.rules[].filters[].externalAuth.forwardBody`."""

    max_size: Int32 = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPBackendRef(BackendObjectReference):
    """`HTTPRoute.rules[].backendRefs[]`."""

    weight: Int32 = 1
    filters: tuple[HTTPRouteFilter, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPRouteTimeouts:
    """`HTTPRoute.rules[].timeouts`; zero is no limit."""

    request: Duration | None = None
    backend_request: Duration | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPRouteRetry:
    """`HTTPRoute.rules[].retry`."""

    codes: tuple[Int32, ...] = ()
    attempts: Int32 | None = None
    backoff: Duration | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionPersistence:
    """`HTTPRoute.rules[].sessionPersistence`."""

    session_name: str = ""
    absolute_timeout: Duration | None = None
    idle_timeout: Duration | None = None
    type: SessionPersistenceType = SessionPersistenceType.COOKIE
    cookie_config: CookieConfig | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CookieConfig:
    """`HTTPRoute.rules[].sessionPersistence.cookieConfig`."""

    lifetime_type: CookieLifetimeType = CookieLifetimeType.SESSION
