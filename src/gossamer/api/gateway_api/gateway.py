"""Gateway of the Gateway API: which ports, hosts and certificates a gateway serves, and whose routes.

Invariant: every field of `v1`, experimental ones included, is here, under its JSON name in snake_case, with the Gateway
API's default; nothing is interpreted.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gossamer.api.common import STRICT, Int32, StrMap
from gossamer.api.gateway_api.common import GATEWAY_API, LocalObjectReference, ObjectReference, SecretObjectReference
from gossamer.core.frozen import EMPTY


class TLSMode(StrEnum):
    TERMINATE = "Terminate"
    PASSTHROUGH = "Passthrough"


class FromNamespaces(StrEnum):
    ALL = "All"
    SELECTOR = "Selector"
    SAME = "Same"
    NONE = "None"


class SelectorOperator(StrEnum):
    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class FrontendValidationMode(StrEnum):
    ALLOW_VALID_ONLY = "AllowValidOnly"
    ALLOW_INSECURE_FALLBACK = "AllowInsecureFallback"


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesGateway:
    """`Gateway`."""

    __pydantic_config__ = STRICT
    gateway_class_name: str
    listeners: tuple[Listener, ...] = ()
    addresses: tuple[GatewayAddress, ...] = ()
    infrastructure: GatewayInfrastructure | None = None
    allowed_listeners: AllowedListeners | None = None
    tls: GatewayTLSConfig | None = None
    default_scope: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteNamespaces:
    """`Gateway.listeners[].allowedRoutes.namespaces`."""

    from_: FromNamespaces = FromNamespaces.SAME
    selector: LabelSelector | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowedRoutes:
    """`Gateway.listeners[].allowedRoutes`; without kinds, those that go with the protocol."""

    namespaces: RouteNamespaces = RouteNamespaces()
    kinds: tuple[RouteGroupKind, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """`Gateway.listeners[]`; an empty hostname is any."""

    name: str
    hostname: str = ""
    port: Int32
    protocol: str
    tls: ListenerTLSConfig | None = None
    allowed_routes: AllowedRoutes = AllowedRoutes()


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerTLSConfig:
    """`Gateway.listeners[].tls`."""

    mode: TLSMode = TLSMode.TERMINATE
    certificate_refs: tuple[SecretObjectReference, ...] = ()
    frontend_validation: FrontendTLSValidation | None = None
    options: StrMap = EMPTY


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontendTLSValidation:
    """`Gateway.tls.frontend.default.validation`: who may be a client."""

    ca_certificate_refs: tuple[ObjectReference, ...] = ()
    mode: FrontendValidationMode = FrontendValidationMode.ALLOW_VALID_ONLY


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteGroupKind:
    """`Gateway.listeners[].allowedRoutes.kinds[]`."""

    group: str = GATEWAY_API
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSelector:
    """`Gateway.listeners[].allowedRoutes.namespaces.selector`: all of it must hold."""

    match_labels: StrMap = EMPTY
    match_expressions: tuple[LabelSelectorRequirement, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSelectorRequirement:
    """`Gateway.listeners[].allowedRoutes.namespaces.selector.matchExpressions[]`."""

    key: str
    operator: SelectorOperator
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayAddress:
    """`Gateway.addresses[]`."""

    type: str = "IPAddress"
    value: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayInfrastructure:
    """`Gateway.infrastructure`."""

    labels: StrMap = EMPTY
    annotations: StrMap = EMPTY
    parameters_ref: LocalObjectReference | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowedListeners:
    """`Gateway.allowedListeners`."""

    namespaces: ListenerNamespaces | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerNamespaces:
    """`Gateway.allowedListeners.namespaces`."""

    from_: FromNamespaces = FromNamespaces.NONE
    selector: LabelSelector | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayTLSConfig:
    """`Gateway.tls`."""

    backend: GatewayBackendTLS | None = None
    frontend: FrontendTLSConfig | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayBackendTLS:
    """`Gateway.tls.backend`."""

    client_certificate_ref: SecretObjectReference | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontendTLSConfig:
    """`Gateway.tls.frontend`."""

    default: TLSConfig
    per_port: tuple[TLSPortConfig, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TLSConfig:
    """`Gateway.tls.frontend.default`."""

    validation: FrontendTLSValidation | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TLSPortConfig:
    """`Gateway.tls.frontend.perPort[]`."""

    port: Int32
    tls: TLSConfig
