"""What becomes of the path that a route matched, in the request that is forwarded or in the place that is answered.

Invariant: where prefixes are whole path segments (the Gateway API's), a replaced one leaves no slash twice and takes
none away.
"""

from __future__ import annotations

import re

from envoy.config.route.v3.route_components_pb2 import RedirectAction, RouteAction
from envoy.type.matcher.v3.regex_pb2 import RegexMatchAndSubstitute, RegexMatcher

from gossamer.api.common import Prefix
from gossamer.api.virtual_service import HTTPMatchRequest


def replace_matched(
    action: RouteAction | RedirectAction, new: str, match: HTTPMatchRequest | None, *, segments: bool
) -> None:
    """Put `new` in the place of the prefix that `match` takes, or of the whole path if it takes no prefix."""
    if not segments or match is None or not isinstance(match.uri, Prefix):
        action.prefix_rewrite = new
        return
    old, new = match.uri.value, new.rstrip("/")
    if old == "/":
        action.prefix_rewrite = f"{new}/"
    elif new:
        action.prefix_rewrite = new
    else:  # nothing but what follows is left; it begins with a slash unless it is empty
        action.regex_rewrite.CopyFrom(substitution(f"^{re.escape(old)}/*", "/"))


def substitution(pattern: str, replacement: str) -> RegexMatchAndSubstitute:
    """Every match of the pattern replaced."""
    return RegexMatchAndSubstitute(pattern=RegexMatcher(regex=pattern), substitution=replacement)
