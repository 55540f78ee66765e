"""From messages to what travels: bytes, a version, references.

Invariant: equal messages give equal bytes in every process, and equal bytes are one object, whoever compiled them.
"""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message

from gossamer.compile.draft import Draft
from gossamer.core.ids import Origin
from gossamer.core.memo import Memo
from gossamer.core.resources import Reference, Resource, Table, version_of


def resource_of(draft: Draft, memo: Memo) -> Resource:
    """The draft, serialised; once for each draft."""
    resource = memo(finished, draft)
    return memo(one, resource, resource.origins)


def finished(draft: Draft) -> Resource:
    """The draft, serialised, for those who remember the result themselves."""
    return resource_from_bytes(draft.type_url, draft.name, wire(draft.message), draft.references, draft.origins)


def table_of(type_url: str, drafts: Iterable[Draft], memo: Memo) -> Table:
    """The drafts of one type as a table, in their order."""
    return Table(type_url, [resource_of(draft, memo) for draft in drafts if draft.type_url == type_url])


def wire(message: Message) -> bytes:
    """The message's bytes, map fields in a deterministic order."""
    return message.SerializeToString(deterministic=True)


def resource_from_bytes(
    type_url: str,
    name: str,
    value: bytes,
    references: frozenset[Reference] | None,
    origins: tuple[Origin, ...] = (),
) -> Resource:
    """A resource from its message's bytes."""
    body = Any(type_url=type_url, value=value).SerializeToString()
    return Resource(
        type_url=type_url, name=name, version=version_of(value), body=body, references=references, origins=origins
    )


def repeated(tag: int, parts: Iterable[bytes]) -> bytes:
    """The wire form of a repeated message field with this number, from its elements' bytes: what lets one changed
    element cost no more than itself."""
    key = _varint(tag << 3 | 2)
    return b"".join([piece for part in parts for piece in (key, _varint(len(part)), part)])


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def one(resource: Resource, _origins: tuple[Origin, ...]) -> Resource:
    """Itself: memoised, the first of all equal ones with the same origins (which are no part of their equality)."""
    return resource
