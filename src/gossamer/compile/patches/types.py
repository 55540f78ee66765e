"""Message types by name: what a patch may put into an Any.

Invariant: a type is the same whoever asks for it first. Only modules of Envoy's API are ever imported for one.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from functools import cache
from typing import Final

from google.protobuf.descriptor_pool import Default
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

_PACKAGE: Final = re.compile(r"(?:envoy|xds|udpa)(?:\.[a-z][a-z0-9_]*)+")
_WELL_KNOWN: Final = tuple(
    f"google.protobuf.{name}_pb2" for name in ("any", "duration", "empty", "struct", "timestamp", "wrappers")
)


@cache
def message_type(name: str) -> type[Message] | None:
    """The message type of this full name (`envoy.config.cluster.v3.Cluster`), None for one that is not known here."""
    package = name.rpartition(".")[0]
    if name.startswith("google.protobuf."):
        for module in _WELL_KNOWN:
            importlib.import_module(module)
    elif _PACKAGE.fullmatch(package):
        _import_all(package)
    try:
        return GetMessageClass(Default().FindMessageTypeByName(name))
    except KeyError:
        return None


@cache
def _import_all(package: str) -> None:
    """Import the modules of one package, so that its types are known."""
    try:
        found = importlib.import_module(package)
    except ImportError:
        return
    for module in pkgutil.iter_modules(found.__path__):
        if module.name.endswith("_pb2"):
            importlib.import_module(f"{package}.{module.name}")
