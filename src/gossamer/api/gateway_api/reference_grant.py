"""ReferenceGrant: which references from other namespaces its namespace allows.

Invariant: every field is here, under its JSON name in snake_case; nothing is interpreted.
"""

from __future__ import annotations

from dataclasses import dataclass

from gossamer.api.common import STRICT


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceGrant:
    """`ReferenceGrant`."""

    __pydantic_config__ = STRICT
    from_: tuple[ReferenceGrantFrom, ...]
    to: tuple[ReferenceGrantTo, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceGrantFrom:
    """`ReferenceGrant.from[]`."""

    group: str
    kind: str
    namespace: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceGrantTo:
    """`ReferenceGrant.to[]`; without a name, all of the kind."""

    group: str
    kind: str
    name: str = ""
