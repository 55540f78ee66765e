"""What the connection manager does to a path before anything looks at it.

Invariant: follows Envoy's options `normalize_path`, `merge_slashes` and `path_with_escaped_slashes_action`, in that
order; the query is never touched.
"""

from __future__ import annotations

import re
from typing import Final

from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)

from gossamer.simulate.notes import NotSimulatedError

_UNRESERVED: Final = re.compile(r"%(2[dDeE]|3\d|4[1-9a-fA-F]|5[0-9aA]|5[fF]|6[1-9a-fA-F]|7[0-9aAeE])")
_ESCAPED: Final = {ord(char): f"%{ord(char):02X}" for char in '"<>^`{|}'}
_DOTS_WITH_PARAMETERS: Final = re.compile(r"(?<=/)(\.\.?);[^/]*")
"""As servers of Java read them, and Envoy since 1.40; looked for before anything is unescaped."""
_ESCAPED_SLASH: Final = re.compile(r"%2[fF]|%5[cC]")


def normal_path(path: str, manager: HttpConnectionManager) -> str | None:
    """The path as routes and policies see it; None when the request is turned away because of it."""
    target, mark, query = path.partition("?")
    action = manager.path_with_escaped_slashes_action
    if action in (HttpConnectionManager.UNESCAPE_AND_FORWARD, HttpConnectionManager.UNESCAPE_AND_REDIRECT):
        unescaped = _ESCAPED_SLASH.sub(lambda found: "/" if found[0].lower() == "%2f" else "\\", target)
        if action == HttpConnectionManager.UNESCAPE_AND_REDIRECT and unescaped != target:
            raise NotSimulatedError("the redirect of a path with escaped slashes")
        target = unescaped
    elif action == HttpConnectionManager.REJECT_REQUEST and _ESCAPED_SLASH.search(target):
        return None
    if manager.normalize_path.value:
        if "%00" in target:
            return None
        target = canonical_path(_DOTS_WITH_PARAMETERS.sub(r"\1", target))
    if manager.merge_slashes:
        target = re.sub(r"//+", "/", target)
    return target + mark + query


def canonical_path(target: str) -> str:
    """RFC 3986's normal form: escaped letters, digits and `-_~.` are unescaped, what must not stand in a path is
    escaped, backslashes are turned, dots resolved."""
    target = _UNRESERVED.sub(lambda found: chr(int(found[1], 16)), target).translate(_ESCAPED).replace("\\", "/")
    kept: list[str] = []
    segments = target.split("/")[1:]
    for place, segment in enumerate(segments):
        last = place == len(segments) - 1
        if segment not in (".", ".."):
            kept.append(segment)
            continue
        if segment == ".." and kept:
            kept.pop()
        if last:
            kept.append("")
    return "/" + "/".join(kept)
