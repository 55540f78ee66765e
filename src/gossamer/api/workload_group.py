"""WorkloadGroup: what instances of one workload have in common, with their health check.

Invariant: every field of Istio's API is here, under its JSON name in snake_case; nothing is interpreted.
"""

from __future__ import annotations

from dataclasses import dataclass

from gossamer.api.common import STRICT, Int32, StrMap, UInt32
from gossamer.api.service_entry import WorkloadEntry
from gossamer.core.frozen import EMPTY


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadGroup:
    """`WorkloadGroup`."""

    __pydantic_config__ = STRICT
    metadata: ObjectMeta | None = None
    template: WorkloadEntry
    probe: ReadinessProbe | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectMeta:
    """`WorkloadGroup.metadata`."""

    labels: StrMap = EMPTY
    annotations: StrMap = EMPTY


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadinessProbe:
    """`WorkloadGroup.probe`."""

    initial_delay_seconds: Int32 = 0
    timeout_seconds: Int32 = 0
    period_seconds: Int32 = 0
    success_threshold: Int32 = 0
    failure_threshold: Int32 = 0
    http_get: HTTPHealthCheckConfig | None = None
    tcp_socket: TCPHealthCheckConfig | None = None
    exec: ExecHealthCheckConfig | None = None
    grpc: GrpcHealthCheckConfig | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPHealthCheckConfig:
    """`WorkloadGroup.probe.httpGet`."""

    path: str = ""
    port: UInt32
    host: str = ""
    scheme: str = ""
    http_headers: tuple[HTTPHeader, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPHeader:
    """`WorkloadGroup.probe.httpGet.httpHeaders[]`."""

    name: str = ""
    value: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TCPHealthCheckConfig:
    """`WorkloadGroup.probe.tcpSocket`."""

    host: str = ""
    port: UInt32


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecHealthCheckConfig:
    """`WorkloadGroup.probe.exec`."""

    command: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcHealthCheckConfig:
    """`WorkloadGroup.probe.grpc`."""

    port: UInt32 = 0
    service: str = ""
