"""Claims of a verified token, where a VirtualService names them in place of a header.

Rules: Istio's documentation of routing by JWT claims: `@request.auth.claims` with the claim's name behind a dot or in
brackets; more of them lead into a claim that is an object. A name with a dot in it can only stand in brackets.
"""

from __future__ import annotations

import re
from typing import Final

PREFIX: Final = "@request.auth.claims"
_PATH: Final = re.compile(r"(?:\.[^.\[\]]+|\[[^\[\]]+\])+")
_STEP: Final = re.compile(r"\.([^.\[\]]+)|\[([^\[\]]+)\]")


def is_claim(header: str) -> bool:
    """Whether the name of a header in a match stands for a claim, well written or not."""
    return header.lower().startswith(PREFIX)


def claim_path(header: str) -> tuple[str, ...]:
    """The claim's name and those within it; empty if it is not well written."""
    path = header[len(PREFIX) :]
    if not is_claim(header) or not _PATH.fullmatch(path):
        return ()
    return tuple(dotted or bracketed for dotted, bracketed in _STEP.findall(path))
