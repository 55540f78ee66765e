"""Filters of HTTPRoute.

Rules: the Gateway API reference, as its schemas enforce it.
"""

from __future__ import annotations

from typing import Final

from gossamer.api.findings import At
from gossamer.api.gateway_api.http_route import (
    FilterType,
    HTTPHeaderFilter,
    HTTPPathModifier,
    HTTPRequestMirrorFilter,
    HTTPRequestRedirectFilter,
    HTTPRouteFilter,
    PathModifierType,
)
from gossamer.api.rules.common import (
    check_count,
    check_length,
    check_one_of,
    check_pattern,
    check_port,
    check_range,
    check_unique,
    require,
)
from gossamer.api.rules.gateway_api.common import check_backend, check_hostname, check_reference

REDIRECTS: Final = (301, 302, 303, 307, 308)
_HEADER_NAME: Final = r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+"
_FIELDS: Final = {
    FilterType.REQUEST_HEADER_MODIFIER: "requestHeaderModifier",
    FilterType.RESPONSE_HEADER_MODIFIER: "responseHeaderModifier",
    FilterType.REQUEST_MIRROR: "requestMirror",
    FilterType.REQUEST_REDIRECT: "requestRedirect",
    FilterType.URL_REWRITE: "urlRewrite",
    FilterType.CORS: "cors",
    FilterType.EXTERNAL_AUTH: "externalAuth",
    FilterType.EXTENSION_REF: "extensionRef",
}
_ONCE: Final = frozenset((
    FilterType.REQUEST_HEADER_MODIFIER, FilterType.RESPONSE_HEADER_MODIFIER, FilterType.REQUEST_REDIRECT,
    FilterType.URL_REWRITE, FilterType.CORS,
))  # fmt: skip


def check_filters(filters: tuple[HTTPRouteFilter, ...], at: At, *, prefix_only: bool) -> None:
    """`prefix_only`: the rule has exactly one match, of a path's prefix, which a filter may then replace."""
    check_count(filters, 16, at)
    types = [found.type for found in filters]
    if FilterType.REQUEST_REDIRECT in types and FilterType.URL_REWRITE in types:
        at.error("exclusive-fields", "May specify either urlRewrite or requestRedirect, but not both")
    for index, found in enumerate(filters):
        if found.type in _ONCE and found.type in types[:index]:
            at[index].error("duplicate-value", f"{found.type} filter cannot be repeated")
        _check_filter(found, at[index], prefix_only)


def _check_filter(found: HTTPRouteFilter, at: At, prefix_only: bool) -> None:
    values = {
        "requestHeaderModifier": found.request_header_modifier,
        "responseHeaderModifier": found.response_header_modifier,
        "requestMirror": found.request_mirror,
        "requestRedirect": found.request_redirect,
        "urlRewrite": found.url_rewrite,
        "cors": found.cors,
        "externalAuth": found.external_auth,
        "extensionRef": found.extension_ref,
    }
    wanted = _FIELDS[found.type]
    for name, value in values.items():
        if name == wanted:
            require(value is not None, at[name], f"filter.{name} must be specified for {found.type} filter.type")
        elif value is not None:
            at[name].error("invalid-value", f"filter.{name} must be nil if the filter.type is not {name}", on_key=True)
    for name in ("requestHeaderModifier", "responseHeaderModifier"):
        headers = values[name]
        if isinstance(headers, HTTPHeaderFilter):
            _check_headers(headers, at[name])
    if found.request_mirror:
        _check_mirror(found.request_mirror, at["requestMirror"])
    if found.request_redirect:
        _check_redirect(found.request_redirect, at["requestRedirect"], prefix_only)
    if found.url_rewrite:
        if found.url_rewrite.hostname:
            check_hostname(found.url_rewrite.hostname, at["urlRewrite", "hostname"])
        _check_modifier(found.url_rewrite.path, at["urlRewrite", "path"], prefix_only)
    if found.cors and found.cors.max_age < 1:
        at["cors", "maxAge"].error("out-of-range", f"Invalid value: {found.cors.max_age} must be at least 1 second")
    if found.external_auth:
        check_backend(found.external_auth.backend_ref, at["externalAuth", "backendRef"])
    if found.extension_ref:
        reference = found.extension_ref
        check_reference(reference.group, reference.kind, reference.name, "", at["extensionRef"])


def _check_headers(headers: HTTPHeaderFilter, at: At) -> None:
    for name, items in (("set", headers.set), ("add", headers.add)):
        check_count(items, 16, at[name])
        for index, header in enumerate(items):
            if check_length(header.name, 1, 256, at[name, index, "name"]):
                check_pattern(header.name, _HEADER_NAME, at[name, index, "name"])
            check_length(header.value, 1, 4096, at[name, index, "value"])
        check_unique(((header.name.lower(), at[name, i, "name"]) for i, header in enumerate(items)), "header")
    check_count(headers.remove, 16, at["remove"])


def _check_mirror(mirror: HTTPRequestMirrorFilter, at: At) -> None:
    check_backend(mirror.backend_ref, at["backendRef"])
    check_one_of(at, {"percent": mirror.percent is not None, "fraction": mirror.fraction is not None})
    if mirror.percent is not None:
        check_range(mirror.percent, 0, 100, at["percent"])
    part = mirror.fraction
    if part and not (0 <= part.numerator <= part.denominator and part.denominator > 0):
        at["fraction"].error(
            "out-of-range", "numerator must be less than or equal to denominator, and neither negative"
        )


def _check_redirect(redirect: HTTPRequestRedirectFilter, at: At, prefix_only: bool) -> None:
    if redirect.scheme:
        check_pattern(redirect.scheme, "http|https", at["scheme"])
    if redirect.hostname:
        check_hostname(redirect.hostname, at["hostname"])
    if redirect.port is not None:
        check_port(redirect.port, at["port"])
    if redirect.status_code not in REDIRECTS:
        allowed = ", ".join(map(str, REDIRECTS))
        at["statusCode"].error("invalid-value", f"Unsupported value: {redirect.status_code}; expected one of {allowed}")
    _check_modifier(redirect.path, at["path"], prefix_only)


def _check_modifier(path: HTTPPathModifier | None, at: At, prefix_only: bool) -> None:
    if path is None:
        return
    full = path.type is PathModifierType.REPLACE_FULL_PATH
    for name, value, wanted in (
        ("replaceFullPath", path.replace_full_path, full),
        ("replacePrefixMatch", path.replace_prefix_match, not full),
    ):
        if wanted:
            require(value is not None, at[name], f"{name} must be specified when type is set to '{path.type}'")
        elif value is not None:
            at[name].error("invalid-value", f"type must be '{name[0].upper()}{name[1:]}' when {name} is set")
    if not full and not prefix_only:
        message = "When using a path filter with replacePrefixMatch, exactly one PathPrefix match must be specified"
        at["replacePrefixMatch"].error("invalid-value", message)
