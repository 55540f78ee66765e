"""Istio's string matches in Envoy's words."""

from __future__ import annotations

from envoy.type.matcher.v3.regex_pb2 import RegexMatcher
from envoy.type.matcher.v3.string_pb2 import StringMatcher

from gossamer.api.common import Exact, Prefix, Present, Regex

StringMatch = Exact | Prefix | Regex | Present


def string_matcher(match: StringMatch) -> StringMatcher | None:
    """The matcher; None for one that any value satisfies."""
    if isinstance(match, Exact):
        return StringMatcher(exact=match.value)
    if isinstance(match, Prefix):
        return StringMatcher(prefix=match.value)
    if isinstance(match, Regex) and match.value != "*":  # Istio takes a lone `*` for "present"
        return StringMatcher(safe_regex=RegexMatcher(regex=match.value))
    return None
