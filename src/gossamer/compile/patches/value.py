"""A patch's value, from the JSON that its author wrote to Envoy's message.

Invariant: what is refused here Envoy would refuse too. An extension whose type is not known here travels as a
TypedStruct, which Envoy reads as the type that it names; Envoy alone can judge it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from envoy.config.bootstrap.v3.bootstrap_pb2 import Bootstrap
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.config.listener.v3.listener_components_pb2 import Filter, FilterChain, ListenerFilter
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_components_pb2 import Route, VirtualHost
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import HttpFilter
from google.protobuf import any_pb2
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message
from xds.type.v3.typed_struct_pb2 import TypedStruct

from gossamer.compile.patches.types import message_type

MESSAGES: Final[Mapping[str, type[Message]]] = {
    "LISTENER": Listener,
    "FILTER_CHAIN": FilterChain,
    "LISTENER_FILTER": ListenerFilter,
    "NETWORK_FILTER": Filter,
    "HTTP_FILTER": HttpFilter,
    "ROUTE_CONFIGURATION": RouteConfiguration,
    "VIRTUAL_HOST": VirtualHost,
    "HTTP_ROUTE": Route,
    "CLUSTER": Cluster,
    "EXTENSION_CONFIG": TypedExtensionConfig,
    "BOOTSTRAP": Bootstrap,
}
"""What the value of a patch is, by `applyTo`."""
TYPED_STRUCT: Final = TypedStruct.DESCRIPTOR.full_name
_PREFIX: Final = "type.googleapis.com/"


@dataclass(frozen=True, slots=True, kw_only=True)
class NotThat:
    """Why a value is not the message that it should be."""

    message: str


def build_value(apply_to: str, value: str) -> Message | NotThat:
    """The message that a patch of this `applyTo` brings; `value` is JSON."""
    message = MESSAGES[apply_to]()
    try:
        ParseDict(_known(json.loads(value)), message, max_recursion_depth=100)
    except (ParseError, ValueError, TypeError, KeyError) as error:
        return NotThat(message=_in_short(str(error)))
    return message


def unpacked(packed: any_pb2.Any) -> Message | None:
    """What an Any holds; None for a type that is not known here, or bytes that are none of it."""
    kind = message_type(type_of(packed))
    if kind is None:
        return None
    try:
        return kind.FromString(packed.value)
    except ValueError:
        return None


def type_of(packed: any_pb2.Any) -> str:
    """The full name of the type in an Any; of a TypedStruct the one that it stands for."""
    name = packed.type_url.rpartition("/")[2]
    if name == TYPED_STRUCT:
        return str(TypedStruct.FromString(packed.value).type_url.rpartition("/")[2]) or name
    return name


def _known(value: Any) -> Any:
    """Plain JSON, with every type imported that it names, and TypedStructs for those that are not there."""
    if isinstance(value, Mapping):
        plain = {key: _known(item) for key, item in value.items()}
        named = plain.get("@type")
        if isinstance(named, str) and message_type(named.rpartition("/")[2]) is None:
            del plain["@type"]
            return {"@type": _PREFIX + TYPED_STRUCT, "type_url": named, "value": plain}
        return plain
    return [_known(item) for item in value] if isinstance(value, (list, tuple)) else value


def _in_short(text: str) -> str:
    """protobuf's complaint without its list of all other fields."""
    return text.partition("Available Fields")[0].strip().replace("\n", " ").rstrip(".")
