"""Kubernetes kinds, as far as a mesh reads them: services, their endpoints, namespaces, accounts, secrets, deployments.

Invariant: fields that mean nothing to a mesh are not here, and a document may carry them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, PlainValidator
from pydantic_core import PydanticCustomError

from gossamer.api.common import FROZEN, LENIENT, Boolean, Int32, StrMap, parse_base64
from gossamer.core.frozen import EMPTY, FrozenMap


def _int_or_string(value: object) -> int | str:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise PydanticCustomError("invalid-type", "expected a port number or the name of a port")
    return value


IntOrString = Annotated[int | str, PlainValidator(_int_or_string)]


@dataclass(frozen=True, slots=True)
class Redacted:
    """Bytes that do not show: the value of a Secret."""

    value: bytes

    def __repr__(self) -> str:
        return f"Redacted({len(self.value)} bytes)"


def _secret_text(value: object) -> Redacted:
    if not isinstance(value, str):
        raise PydanticCustomError("invalid-type", "expected a string")
    return Redacted(value.encode())


def _secret_value(value: object) -> Redacted:
    return Redacted(parse_base64("".join(value.split()) if isinstance(value, str) else value))


SecretText = Annotated[Redacted, PlainValidator(_secret_text)]
SecretValue = Annotated[Redacted, PlainValidator(_secret_value)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePort:
    """A port of a Service; `target_port` is a number or the name of a container's port, 0 for `port` itself."""

    port: Int32
    name: str = ""
    protocol: str = "TCP"
    app_protocol: str = ""
    target_port: IntOrString = 0
    node_port: Int32 = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A Service's `spec`."""

    __pydantic_config__ = LENIENT
    selector: StrMap = EMPTY
    ports: tuple[ServicePort, ...] = ()
    cluster_ip: Annotated[str, Field(alias="clusterIP")] = ""
    cluster_ips: Annotated[tuple[str, ...], Field(alias="clusterIPs")] = ()
    type: str = "ClusterIP"
    external_name: str = ""
    external_ips: Annotated[tuple[str, ...], Field(alias="externalIPs")] = ()
    publish_not_ready_addresses: Boolean = False
    internal_traffic_policy: str = "Cluster"
    traffic_distribution: str = ""

    @property
    def headless(self) -> bool:
        return self.cluster_ip == "None"


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointConditions:
    """None is unknown; Kubernetes asks readers to take an unknown `ready` and `serving` as true."""

    ready: Boolean | None = None
    serving: Boolean | None = None
    terminating: Boolean | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectReference:
    """An object by kind, namespace and name."""

    kind: str = ""
    name: str = ""
    namespace: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceEndpoint:
    """One endpoint of an EndpointSlice."""

    addresses: tuple[str, ...]
    conditions: EndpointConditions | None = None
    hostname: str = ""
    node_name: str = ""
    zone: str = ""
    target_ref: ObjectReference | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointPort:
    """A port of an EndpointSlice; `name` is the Service port's name."""

    name: str = ""
    port: Int32 | None = None
    protocol: str = "TCP"
    app_protocol: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSlice:
    """An EndpointSlice; the label `kubernetes.io/service-name` names its Service."""

    __pydantic_config__ = LENIENT
    address_type: str
    endpoints: tuple[SliceEndpoint, ...] = ()
    ports: tuple[EndpointPort, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    """A Namespace: its labels and annotations are all that matters."""

    __pydantic_config__ = LENIENT


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAccount:
    """A ServiceAccount: its name is all that matters."""

    __pydantic_config__ = LENIENT


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """A Secret, decoded."""

    __pydantic_config__ = LENIENT
    type: str = "Opaque"
    data: Annotated[FrozenMap[str, SecretValue], FROZEN] = EMPTY
    string_data: Annotated[FrozenMap[str, SecretText], FROZEN] = EMPTY

    def value(self, key: str) -> bytes | None:
        """The bytes under `key`, or None. As in Kubernetes, `stringData` is laid over `data`."""
        found = self.string_data.get(key) or self.data.get(key)
        return found.value if found else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigMap:
    """A ConfigMap, as far as it is text."""

    __pydantic_config__ = LENIENT
    data: StrMap = EMPTY

    def value(self, key: str) -> bytes | None:
        """The bytes under `key`, or None."""
        found = self.data.get(key)
        return found.encode() if found else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerPort:
    """A port that a container listens on."""

    container_port: Int32
    name: str = ""
    protocol: str = "TCP"


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A container, as far as its ports."""

    name: str = ""
    ports: tuple[ContainerPort, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSpec:
    """A pod's `spec`."""

    service_account_name: str = ""
    service_account: str = ""
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PodMeta:
    """A pod template's `metadata`."""

    labels: StrMap = EMPTY
    annotations: StrMap = EMPTY


@dataclass(frozen=True, slots=True, kw_only=True)
class PodTemplate:
    """What every pod of a Deployment looks like."""

    metadata: PodMeta = PodMeta()
    spec: PodSpec = PodSpec()


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSelector:
    """The pods of a Deployment."""

    match_labels: StrMap = EMPTY


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A Deployment's `spec`, as far as it tells of labels, ports and the service account."""

    __pydantic_config__ = LENIENT
    template: PodTemplate = PodTemplate()
    selector: LabelSelector = LabelSelector()
    replicas: Int32 = 1

    @property
    def service_account(self) -> str:
        spec = self.template.spec
        return spec.service_account_name or spec.service_account or "default"
