"""How a proxy of MeshConfig traces requests, where no Telemetry says so.

Invariant: every field of Istio's API is here, under its JSON name in snake_case; nothing is interpreted.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from gossamer.api.common import FROZEN, Boolean, Double, Int64, UInt32
from gossamer.api.destination_rule import ClientTLSSettings
from gossamer.core.frozen import EMPTY, FrozenMap


class TraceContext(StrEnum):
    UNSPECIFIED = "UNSPECIFIED"
    W3C_TRACE_CONTEXT = "W3C_TRACE_CONTEXT"
    GRPC_BIN = "GRPC_BIN"
    CLOUD_TRACE_CONTEXT = "CLOUD_TRACE_CONTEXT"
    B3 = "B3"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracing:
    """`MeshConfig.defaultConfig.tracing`."""

    zipkin: Zipkin | None = None
    lightstep: Lightstep | None = None
    datadog: Datadog | None = None
    stackdriver: Stackdriver | None = None
    open_census_agent: OpenCensusAgent | None = None
    custom_tags: Annotated[FrozenMap[str, CustomTag], FROZEN] = EMPTY
    max_path_tag_length: UInt32 = 0
    sampling: Double = 0.0
    tls_settings: ClientTLSSettings | None = None
    enable_istio_tags: Boolean | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Zipkin:
    """`MeshConfig.defaultConfig.tracing.zipkin`."""

    address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lightstep:
    """`MeshConfig.defaultConfig.tracing.lightstep`."""

    address: str = ""
    access_token: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Datadog:
    """`MeshConfig.defaultConfig.tracing.datadog`."""

    address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stackdriver:
    """`MeshConfig.defaultConfig.tracing.stackdriver`."""

    debug: Boolean = False
    max_number_of_attributes: Int64 | None = None
    max_number_of_annotations: Int64 | None = None
    max_number_of_message_events: Int64 | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenCensusAgent:
    """`MeshConfig.defaultConfig.tracing.openCensusAgent`."""

    address: str = ""
    context: tuple[TraceContext, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomTag:
    """`MeshConfig.defaultConfig.tracing.customTags{}`."""

    literal: Literal | None = None
    environment: Environment | None = None
    header: RequestHeader | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Literal:
    """`MeshConfig.defaultConfig.tracing.customTags{}.literal`."""

    value: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """`MeshConfig.defaultConfig.tracing.customTags{}.environment`."""

    name: str = ""
    default_value: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestHeader:
    """`MeshConfig.defaultConfig.tracing.customTags{}.header`."""

    name: str = ""
    default_value: str = ""
