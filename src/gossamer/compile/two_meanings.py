"""The filter that turns away a path which two readers would read differently, though it was brought into one form.

Envoy resolves `/x/..;/admin` as servers of Java do, to `/admin`; but not where the dots are escaped, as in
`/x/%2e%2e;/admin`, or follow a backslash: those it unescapes, and hands `/x/..;/admin` on. The next proxy resolves
that, and so may the application, after a policy has decided about something else. No normal path has such a segment.
Invariant: where paths are normalised, what passes here is the same to whoever normalises it again.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from envoy.config.rbac.v3 import rbac_pb2
from envoy.config.rbac.v3.rbac_pb2 import Permission, Policy, Principal
from envoy.config.route.v3.route_components_pb2 import HeaderMatcher
from envoy.extensions.filters.http.rbac.v3.rbac_pb2 import RBAC
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import HttpFilter
from envoy.type.matcher.v3.regex_pb2 import RegexMatcher
from envoy.type.matcher.v3.string_pb2 import StringMatcher

from gossamer.compile.draft import pack

NAME: Final = "gossamer.path-of-two-meanings"
"""Of the filter, and of the policy that a denial names."""
_REGEX: Final = r"[^?]*/\.\.?;.*"


@cache
def one_meaning() -> HttpFilter:
    """The filter. The same message each time: to be copied, not changed."""
    # most paths have no semicolon, and a look for one costs next to nothing
    matches = (StringMatcher(contains=";"), StringMatcher(safe_regex=RegexMatcher(regex=_REGEX)))
    path = [Permission(header=HeaderMatcher(name=":path", string_match=match)) for match in matches]
    policy = Policy(permissions=[Permission(and_rules=Permission.Set(rules=path))], principals=[Principal(any=True)])
    rules = rbac_pb2.RBAC(action=rbac_pb2.RBAC.DENY, policies={NAME: policy})
    return HttpFilter(name=NAME, typed_config=pack(RBAC(rules=rules)))
