"""Compiled resources as people and tools read them: protobuf JSON with original field names.

Invariant: what comes by ECDS stands where it is used, and nothing else is changed.
"""

from __future__ import annotations

from typing import Any, Final

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from google.protobuf import any_pb2
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from gossamer.core.resources import CLUSTER, ENDPOINT, EXTENSION, LISTENER, ROUTE, SECRET, Resource, Resources

Json = dict[str, Any]
_KINDS: Final = {"listeners": LISTENER, "routes": ROUTE, "clusters": CLUSTER, "endpoints": ENDPOINT}
_MESSAGES: Final[dict[str, type[Message]]] = {
    CLUSTER: Cluster,
    ENDPOINT: ClusterLoadAssignment,
    LISTENER: Listener,
    ROUTE: RouteConfiguration,
    EXTENSION: TypedExtensionConfig,
    SECRET: Secret,
}


def resources_to_json(resources: Resources) -> dict[str, list[Json]]:
    """`{listeners, routes, clusters, endpoints}`, each sorted by name. Secrets are not shown."""
    slots = {resource.name: resource_to_json(resource) for resource in resources.all_of(EXTENSION)}
    found: dict[str, list[Json]] = {}
    for kind, type_url in _KINDS.items():
        ordered = sorted(resources.all_of(type_url), key=lambda resource: resource.name)
        found[kind] = [inlined(resource_to_json(resource), slots) for resource in ordered]
    return found


def resource_to_json(resource: Resource) -> Json:
    """One resource as protobuf JSON."""
    envelope = any_pb2.Any.FromString(resource.body)
    message = _MESSAGES[resource.type_url].FromString(envelope.value)
    return MessageToDict(message, preserving_proto_field_name=True)


def inlined(value: Any, slots: dict[str, Json]) -> Any:
    """The value with every filter that names an extension (ECDS) holding that extension's configuration instead."""
    if isinstance(value, list):
        return [inlined(item, slots) for item in value]
    if not isinstance(value, dict):
        return value
    if "config_discovery" in value and value.get("name") in slots:
        rest = {key: item for key, item in value.items() if key != "config_discovery"}
        return rest | {"typed_config": slots[value["name"]]["typed_config"]}
    return {key: inlined(item, slots) for key, item in value.items()}
