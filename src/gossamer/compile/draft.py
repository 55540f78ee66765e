"""What the compiler's parts hand to its end: a message that has not been serialised yet.

Invariant: a draft's message is never changed after the draft was made; parts that are memoised give out the same draft
again. Only `compile` sees drafts: what leaves it is a `core.resources.Resource`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message

from gossamer.core.ids import Origin
from gossamer.core.resources import Reference


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Draft:
    """One resource to be: compared by identity, so that serialising it can be memoised.

    `references` are what its content names (None: unknown); `origins` the user resources to blame for it.
    """

    type_url: str
    name: str
    message: Message
    references: frozenset[Reference] | None = None
    origins: tuple[Origin, ...] = ()


def pack(message: Message) -> Any:
    """The message as an Any, its map fields in a deterministic order."""
    packed = Any(type_url=f"type.googleapis.com/{message.DESCRIPTOR.full_name}")
    packed.value = message.SerializeToString(deterministic=True)
    return packed


def references(type_url: str, names: Iterable[str]) -> frozenset[Reference]:
    """References to resources of one type."""
    return frozenset(Reference(type_url=type_url, name=name) for name in names)
