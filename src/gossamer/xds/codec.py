"""Protobuf messages of the discovery service to and from the values that the state machines speak.

Only the envelope is looked into: the resources inside stay bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from envoy.config.core.v3.base_pb2 import Node as NodeMessage
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse
from google.rpc.status_pb2 import Status

from gossamer.core.frozen import FrozenMap
from gossamer.core.resources import Resource
from gossamer.xds.client import Update
from gossamer.xds.messages import Request

METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
_NO_VERSIONS: FrozenMap[str, str] = FrozenMap()
_INVALID_ARGUMENT = 3
_LARGE = range(4096, 1024 * 1024)
"""Bytes of requests of which it pays to look whether somebody else just asked the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What a proxy says of itself. Shown to people, never believed: what it gets depends on its certificate."""

    id: str = ""
    cluster: str = ""
    version: str = ""


def load_request(data: bytes) -> tuple[Request, Node | None]:
    """The request, and the node if it came along (clients send it once). DecodeError for anything else."""
    return _load_large(data) if len(data) in _LARGE else _load(data)


def _load(data: bytes) -> tuple[Request, Node | None]:
    message = DeltaDiscoveryRequest.FromString(data)
    versions = message.initial_resource_versions
    request = Request(
        type_url=message.type_url,
        subscribe=tuple(message.resource_names_subscribe),
        unsubscribe=tuple(message.resource_names_unsubscribe),
        initial_versions=FrozenMap(versions) if versions else _NO_VERSIONS,
        nonce=message.response_nonce,
        error=message.error_detail.message if message.HasField("error_detail") else None,
    )
    if not message.HasField("node"):
        return request, None
    build = message.node.user_agent_build_version.version
    version = f"{build.major_number}.{build.minor_number}.{build.patch}"
    return request, Node(id=message.node.id, cluster=message.node.cluster, version=version)


_load_large = lru_cache(maxsize=16)(_load)
"""Proxies that hold equal tables ask for the same thousand names in the same bytes, and many of them at once."""


def encode_request(request: Request, node: NodeMessage | None = None) -> bytes:
    """The wire form of a DeltaDiscoveryRequest."""
    message = DeltaDiscoveryRequest(
        type_url=request.type_url,
        resource_names_subscribe=request.subscribe,
        resource_names_unsubscribe=request.unsubscribe,
        initial_resource_versions=dict(request.initial_versions),
        response_nonce=request.nonce,
        node=node,
    )
    if request.error is not None:
        message.error_detail.CopyFrom(Status(code=_INVALID_ARGUMENT, message=request.error))
    return message.SerializeToString()


def load_update(data: bytes) -> Update:
    """What a DeltaDiscoveryResponse says. DecodeError for anything else."""
    message = DeltaDiscoveryResponse.FromString(data)
    url = message.type_url
    return Update(
        type_url=url,
        nonce=message.nonce,
        changed=tuple(
            Resource(type_url=url, name=item.name, version=item.version, body=item.resource.SerializeToString())
            for item in message.resources
        ),
        removed=tuple(message.removed_resources),
    )
