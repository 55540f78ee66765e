"""Where the rules of a VirtualService are decided, and what they can ask of a caller whose identity is verified.

Rules: Gossamer's own (`docs/decisions/0007-decided-at-the-destination.md`). The annotation `gossamer.dev/decide-at`
says `caller` (Istio's way, and the default), `destination` or `both`; where the destination decides alone, a match by
`@source.principal` or `@source.namespace` among its headers asks of the caller's certificate.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

DECIDE_AT: Final = "gossamer.dev/decide-at"
SOURCE: Final = "@source."
PRINCIPAL: Final = "@source.principal"
NAMESPACE: Final = "@source.namespace"


class DecideAt(StrEnum):
    CALLER = "caller"
    DESTINATION = "destination"
    BOTH = "both"

    @property
    def at_caller(self) -> bool:
        return self is not DecideAt.DESTINATION

    @property
    def at_destination(self) -> bool:
        return self is not DecideAt.CALLER


PLACES: Final = tuple(DecideAt)


def decide_at(annotations: Mapping[str, str]) -> DecideAt:
    """Where; anything that is not a place is the caller's side (validation has refused it)."""
    found = annotations.get(DECIDE_AT, "")
    return DecideAt(found) if found in PLACES else DecideAt.CALLER


def is_source(header: str) -> bool:
    """Whether the name of a header in a match stands for something of the caller."""
    return header.lower().startswith(SOURCE)
