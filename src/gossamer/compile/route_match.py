"""HTTP matches of VirtualServices in Envoy's words.

Invariant: a match with several conditions holds when all do; what is not conditioned is not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from envoy.config.route.v3.route_components_pb2 import HeaderMatcher, QueryParameterMatcher, RouteMatch
from envoy.type.matcher.v3.regex_pb2 import RegexMatcher
from google.protobuf.wrappers_pb2 import BoolValue

from gossamer.api.claims import is_claim
from gossamer.api.common import Exact, Prefix, Regex
from gossamer.api.decide_at import is_source
from gossamer.api.rules.virtual_service import IGNORED_HEADERS
from gossamer.api.virtual_service import HTTPMatchRequest
from gossamer.compile.claims import claim_matchers
from gossamer.compile.strings import StringMatch, string_matcher


def route_match(match: HTTPMatchRequest | None, *, segments: bool = False) -> RouteMatch:
    """The match; None takes everything. `segments`: a prefix is one of whole path segments (the Gateway API's)."""
    if match is None:
        return RouteMatch(prefix="/")
    result = RouteMatch(headers=_headers(match), query_parameters=_query(match), dynamic_metadata=claim_matchers(match))
    if isinstance(match.uri, Exact):
        result.path = match.uri.value
    elif isinstance(match.uri, Regex):
        result.safe_regex.CopyFrom(RegexMatcher(regex=match.uri.value))
    elif segments and isinstance(match.uri, Prefix) and match.uri.value != "/":
        result.path_separated_prefix = match.uri.value
    else:
        result.prefix = match.uri.value if isinstance(match.uri, Prefix) else "/"
    if match.ignore_uri_case:
        result.case_sensitive.CopyFrom(BoolValue(value=False))
    return result


def _headers(match: HTTPMatchRequest) -> list[HeaderMatcher]:
    pseudo = {":authority": match.authority, ":method": match.method, ":scheme": match.scheme}
    found = [_header(name, wanted) for name, wanted in pseudo.items() if wanted is not None]
    found += [_header(name, wanted) for name, wanted in _named(match.headers)]
    found += [_header(name, wanted, invert=True) for name, wanted in _named(match.without_headers)]
    return found


def _named(headers: Mapping[str, StringMatch]) -> Iterator[tuple[str, StringMatch]]:
    """The header matches that are about headers."""
    for name, wanted in sorted(headers.items()):
        if name not in IGNORED_HEADERS and not is_claim(name) and not is_source(name):
            yield name, wanted


def _header(name: str, match: StringMatch, *, invert: bool = False) -> HeaderMatcher:
    matcher = string_matcher(match)
    if matcher is None:
        return HeaderMatcher(name=name.lower(), present_match=True, invert_match=invert)
    return HeaderMatcher(
        name=name.lower(), string_match=matcher, invert_match=invert, treat_missing_header_as_empty=invert
    )


def _query(match: HTTPMatchRequest) -> Iterator[QueryParameterMatcher]:
    for name, wanted in sorted(match.query_params.items()):
        matcher = string_matcher(wanted)
        if matcher is None:
            yield QueryParameterMatcher(name=name, present_match=True)
        else:
            yield QueryParameterMatcher(name=name, string_match=matcher)
