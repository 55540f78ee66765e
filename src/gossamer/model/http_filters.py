"""Filters of an HTTPRoute in the words of a VirtualService.

Invariant: a filter that is not understood is never left out: what has it fails.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from gossamer.api import virtual_service as istio
from gossamer.api.common import Exact, Percent, Regex
from gossamer.api.gateway_api import http_route as api
from gossamer.api.gateway_api.common import BackendObjectReference
from gossamer.core.frozen import FrozenMap

Resolve = Callable[[BackendObjectReference], istio.Destination | None]
_EXACTLY: Final = re.compile(r"[^A-Za-z0-9_]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What the filters of a rule do together. `path` and `hostname` rewrite."""

    headers: istio.Headers | None = None
    redirect: istio.HTTPRedirect | None = None
    hostname: str = ""
    path: api.HTTPPathModifier | None = None
    mirrors: tuple[istio.HTTPMirrorPolicy, ...] = ()
    cors: istio.CorsPolicy | None = None

    @property
    def headers_only(self) -> bool:
        return replace(self, headers=None) == Filters()


def translate_filters(filters: Iterable[api.HTTPRouteFilter], resolve: Resolve) -> Filters | None:
    """The filters; None where one is among them that nothing here does."""
    found = Filters()
    for one in filters:
        extended = _with(found, one, resolve)
        if extended is None:
            return None
        found = extended
    return found


def _with(found: Filters, one: api.HTTPRouteFilter, resolve: Resolve) -> Filters | None:
    headers = found.headers or istio.Headers()
    match one.type:
        case api.FilterType.REQUEST_HEADER_MODIFIER if one.request_header_modifier:
            return replace(found, headers=replace(headers, request=_operations(one.request_header_modifier)))
        case api.FilterType.RESPONSE_HEADER_MODIFIER if one.response_header_modifier:
            return replace(found, headers=replace(headers, response=_operations(one.response_header_modifier)))
        case api.FilterType.REQUEST_REDIRECT if one.request_redirect:
            return replace(found, redirect=_redirect(one.request_redirect))
        case api.FilterType.URL_REWRITE if one.url_rewrite:
            return replace(found, hostname=one.url_rewrite.hostname, path=one.url_rewrite.path)
        case api.FilterType.REQUEST_MIRROR if one.request_mirror:
            destination = resolve(one.request_mirror.backend_ref)
            if destination is None:  # what cannot be mirrored is forwarded all the same
                return found
            policy = istio.HTTPMirrorPolicy(destination=destination, percentage=_share(one.request_mirror))
            return replace(found, mirrors=(*found.mirrors, policy))
        case api.FilterType.CORS if one.cors:
            return replace(found, cors=_cors(one.cors))
    return None


def _operations(edits: api.HTTPHeaderFilter) -> istio.HeaderOperations:
    """Of several edits of one header the first counts. Values are as they stand: a percent sign means nothing."""
    return istio.HeaderOperations(set=_edits(edits.set), add=_edits(edits.add), remove=edits.remove)


def _edits(headers: Iterable[api.HTTPHeader]) -> FrozenMap[str, str]:
    found: dict[str, str] = {}
    for header in headers:
        found.setdefault(header.name.lower(), header.value.replace("%", "%%"))
    return FrozenMap(found)


def _redirect(one: api.HTTPRequestRedirectFilter) -> istio.HTTPRedirect:
    """Without a port of its own the scheme's, without a scheme the one that the request came to."""
    derived = istio.RedirectPortSelection
    path = one.path
    whole = path is not None and path.type is api.PathModifierType.REPLACE_FULL_PATH
    return istio.HTTPRedirect(
        scheme=one.scheme,
        authority=one.hostname,
        port=one.port,
        derive_port=None
        if one.port is not None
        else derived.FROM_PROTOCOL_DEFAULT
        if one.scheme
        else derived.FROM_REQUEST_PORT,
        redirect_code=one.status_code,
        uri=(path.replace_full_path or "/") if path is not None and whole else "",
        prefix_rewrite=(path.replace_prefix_match or "/") if path is not None and not whole else "",
    )


def _share(one: api.HTTPRequestMirrorFilter) -> Percent | None:
    if one.fraction is not None:
        return Percent(value=100.0 * one.fraction.numerator / max(1, one.fraction.denominator))
    return Percent(value=float(one.percent)) if one.percent is not None else None


def _cors(one: api.HTTPCORSFilter) -> istio.CorsPolicy:
    return istio.CorsPolicy(
        allow_origins=tuple(_origin(origin) for origin in one.allow_origins),
        allow_methods=one.allow_methods,
        allow_headers=one.allow_headers,
        expose_headers=one.expose_headers,
        max_age=timedelta(seconds=one.max_age),
        allow_credentials=one.allow_credentials,
    )


def _origin(origin: str) -> Exact | Regex:
    """A star stands for any characters."""
    if "*" not in origin:
        return Exact(origin)
    return Regex(".*".join(_EXACTLY.sub(lambda found: "\\" + found.group(), part) for part in origin.split("*")))
