"""Envoy's URI templates (`/users/{id}/*`, `/files/**`) as regular expressions.

Invariant: `*` is one non-empty segment, `**` any number of segments (even none, after its slash), and neither takes a
character that a path may not hold.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

_CHARACTERS: Final = r"a-zA-Z0-9\-._~%!$&'()*+,;:@="
_SEGMENT: Final = f"[{_CHARACTERS}]+"
_SEGMENTS: Final = f"[{_CHARACTERS}/]*"
_PART: Final = re.compile(r"\{(?P<name>\w+)(?:=(?P<pattern>[^}]*))?\}|(?P<many>\*\*)|(?P<one>\*)|(?P<text>[^{*]+)")


def matches_template(template: str, path: str) -> bool:
    """Whether the path (without its query) is one of those that the template describes."""
    return _regex(template).fullmatch(path) is not None


@lru_cache(maxsize=4096)
def _regex(template: str) -> re.Pattern[str]:
    return re.compile("".join(_parts(template)), re.ASCII)


def _parts(template: str) -> list[str]:
    found: list[str] = []
    for part in _PART.finditer(template):
        if part["name"]:
            inner = "".join(_parts(part["pattern"])) if part["pattern"] else _SEGMENT
            found.append(f"(?P<{part['name']}>{inner})")
        elif part["many"]:
            found.append(_SEGMENTS)
        elif part["one"]:
            found.append(_SEGMENT)
        else:
            found.append(re.escape(part["text"]))
    return found
