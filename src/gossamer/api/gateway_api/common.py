"""What the kinds of the Gateway API share: references to other objects.

Invariant: the defaults are those of the Gateway API's schema; an empty group is Kubernetes' core.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gossamer.api.common import Int32

GATEWAY_API: Final = "gateway.networking.k8s.io"


@dataclass(frozen=True, slots=True, kw_only=True)
class ParentReference:
    """What a route is attached to: a Gateway, or a Service for calls inside the mesh. `namespace` and
    `section_name` are empty, and `port` None, when not written."""

    group: str = GATEWAY_API
    kind: str = "Gateway"
    namespace: str = ""
    name: str
    section_name: str = ""
    port: Int32 | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendObjectReference:
    """Where requests go; without a namespace, in the route's."""

    group: str = ""
    kind: str = "Service"
    name: str
    namespace: str = ""
    port: Int32 | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretObjectReference:
    """A certificate; without a namespace, in the Gateway's."""

    group: str = ""
    kind: str = "Secret"
    name: str
    namespace: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectReference:
    """An object of any kind."""

    group: str
    kind: str
    name: str
    namespace: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalObjectReference:
    """An object in the same namespace."""

    group: str
    kind: str
    name: str
