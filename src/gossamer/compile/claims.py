"""Matches by the claims of a verified token.

Invariant: claims are looked for only where the JWT filter puts what it has verified; nothing that a client sends stands
there. A route is chosen before filters run, so a JWT filter has to have it chosen again (`clear_route_cache`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from envoy.type.matcher.v3.metadata_pb2 import MetadataMatcher
from envoy.type.matcher.v3.value_pb2 import ListMatcher, OrMatcher, ValueMatcher

from gossamer.api.claims import claim_path, is_claim
from gossamer.api.virtual_service import HTTPMatchRequest
from gossamer.compile.strings import StringMatch, string_matcher

JWT_METADATA: Final = "envoy.filters.http.jwt_authn"
JWT_PAYLOAD: Final = "payload"
"""Under this key of its metadata the JWT filter puts a token's claims."""


def claim_matchers(match: HTTPMatchRequest) -> Iterator[MetadataMatcher]:
    """What a match asks of claims: a text, or a list that holds it (Istio's rule)."""
    for headers, without in ((match.headers, False), (match.without_headers, True)):
        for name, wanted in sorted(headers.items()):
            if is_claim(name):
                path = [MetadataMatcher.PathSegment(key=key) for key in (JWT_PAYLOAD, *claim_path(name))]
                yield MetadataMatcher(filter=JWT_METADATA, path=path, value=_value(wanted), invert=without)


def _value(match: StringMatch) -> ValueMatcher:
    matcher = string_matcher(match)
    if matcher is None:
        return ValueMatcher(present_match=True)
    item = ValueMatcher(string_match=matcher)
    listed = ValueMatcher(list_match=ListMatcher(one_of=item))
    return ValueMatcher(or_match=OrMatcher(value_matchers=[item, listed]))
