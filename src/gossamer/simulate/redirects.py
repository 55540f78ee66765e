"""Where a redirect sends the client.

Invariant: parts that the redirect does not set are the request's own; a port that was the old scheme's default goes
when the scheme changes.
"""

from __future__ import annotations

from typing import Final

from envoy.config.route.v3.route_components_pb2 import RedirectAction, RouteMatch

from gossamer.simulate.headers import Headers
from gossamer.simulate.rewrites import rewritten_path
from gossamer.simulate.virtual_hosts import split_port

STATUS: Final = {
    RedirectAction.MOVED_PERMANENTLY: 301,
    RedirectAction.FOUND: 302,
    RedirectAction.SEE_OTHER: 303,
    RedirectAction.TEMPORARY_REDIRECT: 307,
    RedirectAction.PERMANENT_REDIRECT: 308,
}
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def location(redirect: RedirectAction, match: RouteMatch, headers: Headers) -> str:
    """The Location header."""
    old = headers.get(":scheme", "http")
    scheme = "https" if redirect.https_redirect else redirect.scheme_redirect or old
    return f"{scheme}://{_authority(redirect, headers, old, scheme)}{_path(redirect, match, headers)}"


def https_location(headers: Headers) -> str:
    """Where a virtual host that requires TLS sends plaintext."""
    return f"https://{headers.get(':authority')}{headers.get(':path')}"


def _authority(redirect: RedirectAction, headers: Headers, old: str, scheme: str) -> str:
    name, port = split_port(headers.get(":authority"))
    if redirect.host_redirect:
        name, port = redirect.host_redirect, 0
    if redirect.port_redirect:
        return f"{name}:{redirect.port_redirect}"
    if port and scheme != old and port == _DEFAULT_PORTS.get(old):
        port = 0
    return f"{name}:{port}" if port else name


def _path(redirect: RedirectAction, match: RouteMatch, headers: Headers) -> str:
    path = headers.get(":path")
    match redirect.WhichOneof("path_rewrite_specifier"):
        case "path_redirect":
            if "?" in redirect.path_redirect:
                return redirect.path_redirect
            mark, query = path.partition("?")[1:]
            path = redirect.path_redirect + mark + query
        case "prefix_rewrite":
            path = rewritten_path(match, path, prefix=redirect.prefix_rewrite)
        case "regex_rewrite":
            path = rewritten_path(match, path, regex=redirect.regex_rewrite)
    return path.partition("?")[0] if redirect.strip_query else path
