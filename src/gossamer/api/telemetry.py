"""Telemetry: what is traced, measured and logged of the calls of some workloads.

Invariant: every field of Istio's API is here, under its JSON name in snake_case; nothing is interpreted.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from gossamer.api.common import FROZEN, STRICT, Boolean, Double, Duration, PolicyTargetReference, WorkloadSelector
from gossamer.core.frozen import EMPTY, FrozenMap


class WorkloadMode(StrEnum):
    CLIENT_AND_SERVER = "CLIENT_AND_SERVER"
    CLIENT = "CLIENT"
    SERVER = "SERVER"


class IstioMetric(StrEnum):
    ALL_METRICS = "ALL_METRICS"
    REQUEST_COUNT = "REQUEST_COUNT"
    REQUEST_DURATION = "REQUEST_DURATION"
    REQUEST_SIZE = "REQUEST_SIZE"
    RESPONSE_SIZE = "RESPONSE_SIZE"
    TCP_OPENED_CONNECTIONS = "TCP_OPENED_CONNECTIONS"
    TCP_CLOSED_CONNECTIONS = "TCP_CLOSED_CONNECTIONS"
    TCP_SENT_BYTES = "TCP_SENT_BYTES"
    TCP_RECEIVED_BYTES = "TCP_RECEIVED_BYTES"
    GRPC_REQUEST_MESSAGES = "GRPC_REQUEST_MESSAGES"
    GRPC_RESPONSE_MESSAGES = "GRPC_RESPONSE_MESSAGES"


class TagOperation(StrEnum):
    UPSERT = "UPSERT"
    REMOVE = "REMOVE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """`Telemetry`."""

    __pydantic_config__ = STRICT
    selector: WorkloadSelector | None = None
    target_ref: PolicyTargetReference | None = None
    target_refs: tuple[PolicyTargetReference, ...] = ()
    tracing: tuple[Tracing, ...] = ()
    metrics: tuple[Metrics, ...] = ()
    access_logging: tuple[AccessLogging, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracing:
    """`Telemetry.tracing[]`."""

    match: ModeSelector | None = None
    providers: tuple[ProviderRef, ...] = ()
    random_sampling_percentage: Double | None = None
    disable_span_reporting: Boolean | None = None
    custom_tags: Annotated[FrozenMap[str, CustomTag], FROZEN] = EMPTY
    use_request_id_for_trace_sampling: Boolean | None = None
    enable_istio_tags: Boolean | None = None
    disable_context_propagation: Boolean | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeSelector:
    """`Telemetry.tracing[].match`."""

    mode: WorkloadMode = WorkloadMode.CLIENT_AND_SERVER


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderRef:
    """`Telemetry.tracing[].providers[]`."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomTag:
    """`Telemetry.tracing[].customTags{}`."""

    literal: Literal | None = None
    environment: Environment | None = None
    header: RequestHeader | None = None
    formatter: Formatter | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Literal:
    """`Telemetry.tracing[].customTags{}.literal`."""

    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """`Telemetry.tracing[].customTags{}.environment`."""

    name: str
    default_value: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestHeader:
    """`Telemetry.tracing[].customTags{}.header`."""

    name: str
    default_value: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Formatter:
    """`Telemetry.tracing[].customTags{}.formatter`."""

    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """`Telemetry.metrics[]`."""

    providers: tuple[ProviderRef, ...] = ()
    overrides: tuple[MetricsOverrides, ...] = ()
    reporting_interval: Duration | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsOverrides:
    """`Telemetry.metrics[].overrides[]`."""

    match: MetricSelector | None = None
    disabled: Boolean | None = None
    tag_overrides: Annotated[FrozenMap[str, TagOverride], FROZEN] = EMPTY


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSelector:
    """`Telemetry.metrics[].overrides[].match`."""

    metric: IstioMetric | None = None
    custom_metric: str | None = None
    mode: WorkloadMode = WorkloadMode.CLIENT_AND_SERVER


@dataclass(frozen=True, slots=True, kw_only=True)
class TagOverride:
    """`Telemetry.metrics[].overrides[].tagOverrides{}`."""

    operation: TagOperation = TagOperation.UPSERT
    value: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessLogging:
    """`Telemetry.accessLogging[]`."""

    match: ModeSelector | None = None
    providers: tuple[ProviderRef, ...] = ()
    disabled: Boolean | None = None
    filter: LogFilter | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFilter:
    """`Telemetry.accessLogging[].filter`."""

    expression: str = ""
