"""Whose YAML made a thing: the metadata by which `explain`, a NACK and an access log name it.

Invariant: origins hold kind, namespace, name and rule; never a file or a line, so that moving YAML changes no byte.
"""

from __future__ import annotations

from collections.abc import Iterable

from envoy.config.core.v3.base_pb2 import Metadata
from google.protobuf.struct_pb2 import ListValue, Struct, Value

from gossamer.compile.names import METADATA
from gossamer.core.ids import Origin


def metadata_of(origins: Iterable[Origin]) -> Metadata | None:
    """`{gossamer: {origins: [...]}}`, None for nobody's."""
    names = [Value(string_value=str(origin)) for origin in origins]
    if not names:
        return None
    listed = Value(list_value=ListValue(values=names))
    return Metadata(filter_metadata={METADATA: Struct(fields={"origins": listed})})


def service_origins(*origins: Origin | None) -> tuple[Origin, ...]:
    """Those that there are, once each."""
    return tuple(dict.fromkeys(origin for origin in origins if origin is not None))
