"""How a route changes the request that it forwards: path, authority, headers.

Invariant: Envoy's order: header edits of the cluster's weight, the route, the virtual host and the table (removals
before additions at each), then the authority, then the path.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from envoy.config.core.v3.base_pb2 import HeaderValueOption
from envoy.config.route.v3.route_components_pb2 import RouteAction, RouteMatch
from envoy.type.matcher.v3.regex_pb2 import RegexMatchAndSubstitute

from gossamer.simulate.headers import Headers
from gossamer.simulate.matchers import without_query
from gossamer.simulate.notes import NotSimulatedError
from gossamer.simulate.regex import substitute

_REQUEST_HEADER: Final = re.compile(r"%REQ\((?P<name>[^)?]+)\)%")


class Edits(Protocol):
    """What may edit headers: a table, a virtual host, a route, a weighted cluster."""

    @property
    def request_headers_to_add(self) -> Sequence[HeaderValueOption]: ...
    @property
    def request_headers_to_remove(self) -> Sequence[str]: ...


def edit_headers(headers: Headers, edits: Iterable[Edits]) -> None:
    """Apply the edits in order."""
    for edit in edits:
        for name in edit.request_headers_to_remove:
            headers.remove(name)
        for option in edit.request_headers_to_add:
            _add(headers, option)


def _add(headers: Headers, option: HeaderValueOption) -> None:
    name = option.header.key
    value = _REQUEST_HEADER.sub(lambda found: headers.get(found["name"]), option.header.value).replace("%%", "%")
    if not value and not option.keep_empty_value:
        return
    action = option.append_action
    if option.HasField("append"):
        added = HeaderValueOption.APPEND_IF_EXISTS_OR_ADD
        action = added if option.append.value else HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
    if action == HeaderValueOption.APPEND_IF_EXISTS_OR_ADD:
        headers.add(name, value)
    elif _sets(action, present=name in headers):
        headers.set(name, value)


def _sets(action: HeaderValueOption.HeaderAppendAction.ValueType, *, present: bool) -> bool:
    if action == HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD:
        return True
    return present == (action == HeaderValueOption.OVERWRITE_IF_EXISTS)


def rewrite(headers: Headers, action: RouteAction, match: RouteMatch) -> None:
    """Change authority and path as the route's action says."""
    before = headers.get(":path")
    _rewrite_authority(headers, action)
    regex = action.regex_rewrite if action.HasField("regex_rewrite") else None
    if action.HasField("path_rewrite_policy"):
        raise NotSimulatedError(f"the path rewriter {action.path_rewrite_policy.name}")
    if action.prefix_rewrite or regex is not None:
        headers.set(":path", rewritten_path(match, before, prefix=action.prefix_rewrite, regex=regex))
        headers.set("x-envoy-original-path", before)


def _rewrite_authority(headers: Headers, action: RouteAction) -> None:
    before = headers.get(":authority")
    after = before
    match action.WhichOneof("host_rewrite_specifier"):
        case "host_rewrite_literal":
            after = action.host_rewrite_literal
        case "host_rewrite_header":
            after = headers.get(action.host_rewrite_header, before)
        case "host_rewrite_path_regex":
            rewriter = action.host_rewrite_path_regex
            after = substitute(rewriter.pattern.regex, rewriter.substitution, without_query(headers.get(":path")))
        case "auto_host_rewrite" | None:
            pass
    if after != before:
        headers.set(":authority", after)
        if action.append_x_forwarded_host:
            headers.set("x-forwarded-host", before)


def rewritten_path(
    match: RouteMatch, path: str, *, prefix: str = "", regex: RegexMatchAndSubstitute | None = None
) -> str:
    """The path with what the route matched replaced by `prefix`, or rewritten by `regex`; the query stays."""
    bare = without_query(path)
    rest = path[len(bare) :]
    if regex is not None:
        return substitute(regex.pattern.regex, regex.substitution, bare) + rest
    return prefix + bare[_matched(match, bare) :] + rest


def _matched(match: RouteMatch, path: str) -> int:
    """How many characters of the path the route's condition covers."""
    match match.WhichOneof("path_specifier"):
        case "prefix":
            return len(match.prefix)
        case "path_separated_prefix":
            return len(match.path_separated_prefix)
    return len(path)
