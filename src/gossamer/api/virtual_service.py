"""VirtualService: how calls to a host are routed.

Invariant: every field of Istio's API is here, under its JSON name in snake_case; nothing is interpreted.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from gossamer.api.common import (
    FROZEN,
    STRICT,
    Base64,
    Boolean,
    Duration,
    Int32,
    Percent,
    PortSelector,
    StringMatch,
    StrMap,
    UInt32,
)
from gossamer.core.frozen import EMPTY, FrozenMap


class RedirectPortSelection(StrEnum):
    FROM_PROTOCOL_DEFAULT = "FROM_PROTOCOL_DEFAULT"
    FROM_REQUEST_PORT = "FROM_REQUEST_PORT"


class UnmatchedPreflights(StrEnum):
    UNSPECIFIED = "UNSPECIFIED"
    FORWARD = "FORWARD"
    IGNORE = "IGNORE"


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualService:
    """`VirtualService`."""

    __pydantic_config__ = STRICT
    hosts: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    http: tuple[HTTPRoute, ...] = ()
    tls: tuple[TLSRoute, ...] = ()
    tcp: tuple[TCPRoute, ...] = ()
    export_to: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPRoute:
    """`VirtualService.http[]`."""

    name: str = ""
    match: tuple[HTTPMatchRequest, ...] = ()
    route: tuple[HTTPRouteDestination, ...] = ()
    redirect: HTTPRedirect | None = None
    direct_response: HTTPDirectResponse | None = None
    delegate: Delegate | None = None
    rewrite: HTTPRewrite | None = None
    timeout: Duration | None = None
    retries: HTTPRetry | None = None
    fault: HTTPFaultInjection | None = None
    mirror: Destination | None = None
    mirrors: tuple[HTTPMirrorPolicy, ...] = ()
    mirror_percent: UInt32 | None = None
    mirror_percentage: Percent | None = None
    cors_policy: CorsPolicy | None = None
    headers: Headers | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPMatchRequest:
    """`VirtualService.http[].match[]`."""

    name: str = ""
    uri: StringMatch | None = None
    scheme: StringMatch | None = None
    method: StringMatch | None = None
    authority: StringMatch | None = None
    headers: Annotated[FrozenMap[str, StringMatch], FROZEN] = EMPTY
    port: UInt32 = 0
    source_labels: StrMap = EMPTY
    gateways: tuple[str, ...] = ()
    query_params: Annotated[FrozenMap[str, StringMatch], FROZEN] = EMPTY
    ignore_uri_case: Boolean = False
    without_headers: Annotated[FrozenMap[str, StringMatch], FROZEN] = EMPTY
    source_namespace: str = ""
    stat_prefix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPRouteDestination:
    """`VirtualService.http[].route[]`."""

    destination: Destination
    weight: Int32 = 0
    headers: Headers | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """`VirtualService.http[].route[].destination`."""

    host: str
    subset: str = ""
    port: PortSelector | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Headers:
    """`VirtualService.http[].route[].headers`."""

    request: HeaderOperations | None = None
    response: HeaderOperations | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderOperations:
    """`VirtualService.http[].route[].headers.request`."""

    set: StrMap = EMPTY
    add: StrMap = EMPTY
    remove: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPRedirect:
    """`VirtualService.http[].redirect`."""

    uri: str = ""
    authority: str = ""
    port: UInt32 | None = None
    derive_port: RedirectPortSelection | None = None
    scheme: str = ""
    redirect_code: UInt32 = 0
    prefix_rewrite: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPDirectResponse:
    """`VirtualService.http[].directResponse`."""

    status: UInt32
    body: HTTPBody | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPBody:
    """`VirtualService.http[].directResponse.body`."""

    string: str | None = None
    bytes: Base64 | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delegate:
    """`VirtualService.http[].delegate`."""

    name: str = ""
    namespace: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPRewrite:
    """`VirtualService.http[].rewrite`."""

    uri: str = ""
    authority: str = ""
    uri_regex_rewrite: RegexRewrite | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RegexRewrite:
    """`VirtualService.http[].rewrite.uriRegexRewrite`."""

    match: str = ""
    rewrite: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPRetry:
    """`VirtualService.http[].retries`."""

    attempts: Int32 = 0
    per_try_timeout: Duration | None = None
    retry_on: str = ""
    retry_remote_localities: Boolean | None = None
    retry_ignore_previous_hosts: Boolean | None = None
    backoff: Duration | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPFaultInjection:
    """`VirtualService.http[].fault`."""

    delay: Delay | None = None
    abort: Abort | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delay:
    """`VirtualService.http[].fault.delay`."""

    percent: Int32 = 0
    fixed_delay: Duration | None = None
    exponential_delay: Duration | None = None
    percentage: Percent | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Abort:
    """`VirtualService.http[].fault.abort`."""

    http_status: Int32 | None = None
    grpc_status: str | None = None
    http2_error: str | None = None
    percentage: Percent | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPMirrorPolicy:
    """`VirtualService.http[].mirrors[]`."""

    destination: Destination
    percentage: Percent | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CorsPolicy:
    """`VirtualService.http[].corsPolicy`."""

    allow_origin: tuple[str, ...] = ()
    allow_origins: tuple[StringMatch, ...] = ()
    allow_methods: tuple[str, ...] = ()
    allow_headers: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    max_age: Duration | None = None
    allow_credentials: Boolean | None = None
    unmatched_preflights: UnmatchedPreflights = UnmatchedPreflights.UNSPECIFIED


@dataclass(frozen=True, slots=True, kw_only=True)
class TLSRoute:
    """`VirtualService.tls[]`."""

    match: tuple[TLSMatchAttributes, ...]
    route: tuple[RouteDestination, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TLSMatchAttributes:
    """`VirtualService.tls[].match[]`."""

    sni_hosts: tuple[str, ...]
    destination_subnets: tuple[str, ...] = ()
    port: UInt32 = 0
    source_labels: StrMap = EMPTY
    gateways: tuple[str, ...] = ()
    source_namespace: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteDestination:
    """`VirtualService.tls[].route[]`."""

    destination: Destination
    weight: Int32 = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TCPRoute:
    """`VirtualService.tcp[]`."""

    match: tuple[L4MatchAttributes, ...] = ()
    route: tuple[RouteDestination, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class L4MatchAttributes:
    """`VirtualService.tcp[].match[]`."""

    destination_subnets: tuple[str, ...] = ()
    port: UInt32 = 0
    source_subnet: str = ""
    source_labels: StrMap = EMPTY
    gateways: tuple[str, ...] = ()
    source_namespace: str = ""
