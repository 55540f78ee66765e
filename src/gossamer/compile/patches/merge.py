"""MERGE: what a patch says laid over what was compiled.

Invariant: as protobuf merges (fields that are set win, lists grow, messages merge), but a message that is one value (a
Duration, a wrapped number) is replaced as a whole, and so is an Any of another type; an Any of the same type is opened
and merged.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from xds.type.v3.typed_struct_pb2 import TypedStruct

from gossamer.compile.draft import pack
from gossamer.compile.patches.value import type_of, unpacked

_WHOLE: Final = frozenset(
    f"google.protobuf.{name}"
    for name in (
        "Duration", "Timestamp", "Value", "ListValue", "BoolValue", "BytesValue", "DoubleValue", "FloatValue",
        "Int32Value", "Int64Value", "StringValue", "UInt32Value", "UInt64Value",
    )
)  # fmt: skip


def merge(into: Message, patch: Message, *, replace_lists: bool = False) -> None:
    """Lay `patch` over `into`. `replace_lists`: a list takes the place of another instead of being added to it."""
    for field, value in patch.ListFields():
        if _is_map(field):
            _merge_map(getattr(into, field.name), field, value, replace_lists=replace_lists)
        elif field.is_repeated:
            target = getattr(into, field.name)
            if replace_lists:
                del target[:]
            target.extend(value)
        elif field.message_type is None:
            setattr(into, field.name, value)
        else:
            _merge_message(getattr(into, field.name), value, replace_lists=replace_lists)


def _merge_message(into: Message, patch: Message, *, replace_lists: bool) -> None:
    into.SetInParent()
    if isinstance(patch, Packed) and isinstance(into, Packed):
        merge_any(into, patch, replace_lists=replace_lists)
    elif patch.DESCRIPTOR.full_name in _WHOLE:
        into.CopyFrom(patch)
    else:
        merge(into, patch, replace_lists=replace_lists)


def merge_any(into: Packed, patch: Packed, *, replace_lists: bool = False) -> None:
    """Lay one Any over another: over one of another type, or of one that nobody here can open, it is laid whole."""
    if patch.type_url == into.type_url and type_of(patch) == type_of(into):
        ours, theirs = unpacked(into), unpacked(patch)
        if isinstance(ours, TypedStruct) and isinstance(theirs, TypedStruct):
            _merge_struct(ours.value, theirs.value)
            into.CopyFrom(pack(ours))
            return
        if ours is not None and theirs is not None and not into.type_url.endswith("TypedStruct"):
            merge(ours, theirs, replace_lists=replace_lists)
            into.CopyFrom(pack(ours))
            return
    into.CopyFrom(patch)


def _merge_map(into: Any, field: FieldDescriptor, patch: Any, *, replace_lists: bool) -> None:
    value_type = field.message_type.fields_by_name["value"].message_type if field.message_type else None
    for key in patch:
        if value_type is None:
            into[key] = patch[key]
        elif key in into:
            _merge_message(into[key], patch[key], replace_lists=replace_lists)
        else:
            into[key].CopyFrom(patch[key])


def _merge_struct(into: Struct, patch: Struct) -> None:
    for key, value in patch.fields.items():
        if key in into.fields and value.HasField("struct_value") and into.fields[key].HasField("struct_value"):
            _merge_struct(into.fields[key].struct_value, value.struct_value)
        else:
            into.fields[key].CopyFrom(value)


def _is_map(field: FieldDescriptor) -> bool:
    kind = field.message_type
    return kind is not None and kind.GetOptions().map_entry


def names_in(message: Message) -> Iterator[str]:
    """Every string in a message, opened Anys among it: what may name a cluster, a table or an extension."""
    if isinstance(message, Packed):
        inner = unpacked(message)
        if inner is not None:
            yield from names_in(inner)
        return
    for field, value in message.ListFields():
        values = value.values() if _is_map(field) else value if field.is_repeated else (value,)
        for item in values:
            if isinstance(item, str):
                yield item
            elif isinstance(item, Message):
                yield from names_in(item)
