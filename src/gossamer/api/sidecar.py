"""Sidecar: which ports a workload's proxy serves, and which services it can call.

Invariant: every field of Istio's API is here, under its JSON name in snake_case; nothing is interpreted.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gossamer.api.common import STRICT, UInt32
from gossamer.api.destination_rule import ConnectionPoolSettings
from gossamer.api.gateway import ServerTLSSettings
from gossamer.api.service_entry import WorkloadSelector
from gossamer.api.virtual_service import Destination


class CaptureMode(StrEnum):
    DEFAULT = "DEFAULT"
    IPTABLES = "IPTABLES"
    NONE = "NONE"


class OutboundMode(StrEnum):
    REGISTRY_ONLY = "REGISTRY_ONLY"
    ALLOW_ANY = "ALLOW_ANY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sidecar:
    """`Sidecar`."""

    __pydantic_config__ = STRICT
    workload_selector: WorkloadSelector | None = None
    ingress: tuple[IstioIngressListener, ...] = ()
    egress: tuple[IstioEgressListener, ...] = ()
    inbound_connection_pool: ConnectionPoolSettings | None = None
    outbound_traffic_policy: OutboundTrafficPolicy | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IstioIngressListener:
    """`Sidecar.ingress[]`."""

    port: SidecarPort
    bind: str = ""
    capture_mode: CaptureMode = CaptureMode.DEFAULT
    default_endpoint: str = ""
    tls: ServerTLSSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SidecarPort:
    """`Sidecar.ingress[].port`."""

    number: UInt32 = 0
    protocol: str = ""
    name: str = ""
    target_port: UInt32 = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class IstioEgressListener:
    """`Sidecar.egress[]`."""

    port: SidecarPort | None = None
    bind: str = ""
    capture_mode: CaptureMode = CaptureMode.DEFAULT
    hosts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundTrafficPolicy:
    """`Sidecar.outboundTrafficPolicy`."""

    mode: OutboundMode = OutboundMode.REGISTRY_ONLY
    egress_proxy: Destination | None = None
