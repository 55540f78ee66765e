"""Kubernetes' Ingress and IngressClass.

Invariant: every field of `networking.k8s.io/v1` that says where a request goes is here; nothing is interpreted.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gossamer.api.common import LENIENT, Int32


class PathType(StrEnum):
    EXACT = "Exact"
    PREFIX = "Prefix"
    IMPLEMENTATION_SPECIFIC = "ImplementationSpecific"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingress:
    """An Ingress's `spec`."""

    __pydantic_config__ = LENIENT
    ingress_class_name: str | None = None
    default_backend: IngressBackend | None = None
    tls: tuple[IngressTLS, ...] = ()
    rules: tuple[IngressRule, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class IngressTLS:
    """`Ingress.tls[]`; the Secret is in the Ingress's namespace."""

    hosts: tuple[str, ...] = ()
    secret_name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class IngressRule:
    """`Ingress.rules[]`; an empty host is any."""

    host: str = ""
    http: HTTPIngressRuleValue | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPIngressRuleValue:
    """`Ingress.rules[].http`."""

    paths: tuple[HTTPIngressPath, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPIngressPath:
    """`Ingress.rules[].http.paths[]`."""

    path: str = ""
    path_type: PathType
    backend: IngressBackend


@dataclass(frozen=True, slots=True, kw_only=True)
class IngressBackend:
    """`Ingress.defaultBackend`."""

    service: IngressServiceBackend | None = None
    resource: TypedLocalReference | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IngressServiceBackend:
    """`Ingress.defaultBackend.service`."""

    name: str
    port: ServiceBackendPort | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceBackendPort:
    """`Ingress.defaultBackend.service.port`: by name or by number."""

    name: str = ""
    number: Int32 = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TypedLocalReference:
    """An object in the same namespace."""

    api_group: str = ""
    kind: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IngressClass:
    """An IngressClass's `spec`."""

    __pydantic_config__ = LENIENT
    controller: str = ""
