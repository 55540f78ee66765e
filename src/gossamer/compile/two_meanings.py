"""The filter that turns away a path which two readers would read differently, though it was brought into one form.

Envoy resolves `/x/..;/admin` as servers of Java do, to `/admin`; but not where the dots are escaped, as in
`/x/%2e%2e;/admin`, or follow a backslash: those it unescapes, and hands `/x/..;/admin` on. The next proxy resolves
that, and so may the application, after a policy has decided about something else. No normal path has such a segment.
It is no policy (nobody wrote it, and who reads policies should not find it there), so it is a fault filter's to do:
that aborts what has certain headers.
Invariant: where paths are normalised, what passes here is the same to whoever normalises it again.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from envoy.config.route.v3.route_components_pb2 import HeaderMatcher
from envoy.extensions.filters.http.fault.v3.fault_pb2 import FaultAbort, HTTPFault
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import HttpFilter
from envoy.type.matcher.v3.regex_pb2 import RegexMatcher
from envoy.type.matcher.v3.string_pb2 import StringMatcher
from envoy.type.v3.percent_pb2 import FractionalPercent

from gossamer.compile.draft import pack

NAME: Final = "gossamer.path-of-two-meanings"
_REGEX: Final = r"[^?]*/\.\.?;.*"


@cache
def one_meaning() -> HttpFilter:
    """The filter, which answers such a path with 403. The same message each time: to be copied, not changed."""
    # most paths have no semicolon, and a look for one costs next to nothing
    matches = (StringMatcher(contains=";"), StringMatcher(safe_regex=RegexMatcher(regex=_REGEX)))
    fault = HTTPFault(
        abort=FaultAbort(http_status=403, percentage=FractionalPercent(numerator=100)),
        headers=[HeaderMatcher(name=":path", string_match=match) for match in matches],
    )
    return HttpFilter(name=NAME, typed_config=pack(fault))
