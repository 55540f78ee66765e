"""The extension providers of MeshConfig: services that take logs, traces, metrics or authorization.

Invariant: every field of Istio's API is here, under its JSON name in snake_case; nothing is interpreted.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gossamer.api.common import Boolean, Duration, Int32, Int64, JsonMap, StrMap, UInt32
from gossamer.api.proxy_tracing import TraceContext
from gossamer.core.frozen import EMPTY


class TraceContextOption(StrEnum):
    USE_B3 = "USE_B3"
    USE_B3_WITH_W3C_PROPAGATION = "USE_B3_WITH_W3C_PROPAGATION"


class ServiceAttributeEnrichment(StrEnum):
    ISTIO_CANONICAL = "ISTIO_CANONICAL"
    OTEL_SEMANTIC_CONVENTIONS = "OTEL_SEMANTIC_CONVENTIONS"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshExtensionProvider:
    """`MeshConfig.extensionProviders[]`."""

    name: str = ""
    envoy_ext_authz_http: EnvoyExternalAuthorizationHttpProvider | None = None
    envoy_ext_authz_grpc: EnvoyExternalAuthorizationGrpcProvider | None = None
    zipkin: ZipkinTracingProvider | None = None
    lightstep: LightstepTracingProvider | None = None
    datadog: DatadogTracingProvider | None = None
    stackdriver: StackdriverProvider | None = None
    opencensus: OpenCensusAgentTracingProvider | None = None
    skywalking: SkyWalkingTracingProvider | None = None
    opentelemetry: OpenTelemetryTracingProvider | None = None
    prometheus: PrometheusMetricsProvider | None = None
    envoy_file_access_log: EnvoyFileAccessLogProvider | None = None
    envoy_http_als: EnvoyHttpGrpcV3LogProvider | None = None
    envoy_tcp_als: EnvoyTcpGrpcV3LogProvider | None = None
    envoy_otel_als: EnvoyOpenTelemetryLogProvider | None = None
    sds: SDSProvider | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvoyExternalAuthorizationHttpProvider:
    """`MeshConfig.extensionProviders[].envoyExtAuthzHttp`."""

    service: str = ""
    port: UInt32 = 0
    timeout: Duration | None = None
    path_prefix: str = ""
    fail_open: Boolean = False
    clear_route_cache: Boolean = False
    status_on_error: str = ""
    include_headers_in_check: tuple[str, ...] = ()
    include_request_headers_in_check: tuple[str, ...] = ()
    include_additional_headers_in_check: StrMap = EMPTY
    include_request_body_in_check: EnvoyExternalAuthorizationRequestBody | None = None
    headers_to_upstream_on_allow: tuple[str, ...] = ()
    headers_to_downstream_on_deny: tuple[str, ...] = ()
    headers_to_downstream_on_allow: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvoyExternalAuthorizationRequestBody:
    """`MeshConfig.extensionProviders[].envoyExtAuthzHttp.includeRequestBodyInCheck`."""

    max_request_bytes: UInt32 = 0
    allow_partial_message: Boolean = False
    pack_as_bytes: Boolean = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvoyExternalAuthorizationGrpcProvider:
    """`MeshConfig.extensionProviders[].envoyExtAuthzGrpc`."""

    service: str = ""
    port: UInt32 = 0
    timeout: Duration | None = None
    fail_open: Boolean = False
    clear_route_cache: Boolean = False
    status_on_error: str = ""
    include_request_body_in_check: EnvoyExternalAuthorizationRequestBody | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ZipkinTracingProvider:
    """`MeshConfig.extensionProviders[].zipkin`."""

    service: str = ""
    port: UInt32 = 0
    max_tag_length: UInt32 = 0
    enable_64bit_trace_id: Boolean = False
    path: str = ""
    trace_context_option: TraceContextOption = TraceContextOption.USE_B3
    timeout: Duration | None = None
    headers: tuple[ProviderHeader, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderHeader:
    """`MeshConfig.extensionProviders[].zipkin.headers[]`."""

    name: str = ""
    value: str | None = None
    env_name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LightstepTracingProvider:
    """`MeshConfig.extensionProviders[].lightstep`."""

    service: str = ""
    port: UInt32 = 0
    access_token: str = ""
    max_tag_length: UInt32 = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DatadogTracingProvider:
    """`MeshConfig.extensionProviders[].datadog`."""

    service: str = ""
    port: UInt32 = 0
    max_tag_length: UInt32 = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StackdriverProvider:
    """`MeshConfig.extensionProviders[].stackdriver`."""

    debug: Boolean = False
    max_number_of_attributes: Int64 | None = None
    max_number_of_annotations: Int64 | None = None
    max_number_of_message_events: Int64 | None = None
    max_tag_length: UInt32 = 0
    logging: StackdriverLogging | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StackdriverLogging:
    """`MeshConfig.extensionProviders[].stackdriver.logging`."""

    labels: StrMap = EMPTY


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenCensusAgentTracingProvider:
    """`MeshConfig.extensionProviders[].opencensus`."""

    service: str = ""
    port: UInt32 = 0
    context: tuple[TraceContext, ...] = ()
    max_tag_length: UInt32 = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SkyWalkingTracingProvider:
    """`MeshConfig.extensionProviders[].skywalking`."""

    service: str = ""
    port: UInt32 = 0
    access_token: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenTelemetryTracingProvider:
    """`MeshConfig.extensionProviders[].opentelemetry`."""

    service: str = ""
    port: UInt32 = 0
    max_tag_length: UInt32 = 0
    http: HttpService | None = None
    grpc: GrpcService | None = None
    resource_detectors: ResourceDetectors | None = None
    service_attribute_enrichment: ServiceAttributeEnrichment = ServiceAttributeEnrichment.ISTIO_CANONICAL
    dynatrace_sampler: DynatraceSampler | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpService:
    """`MeshConfig.extensionProviders[].opentelemetry.http`."""

    path: str = ""
    timeout: Duration | None = None
    headers: tuple[ProviderHeader, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcService:
    """`MeshConfig.extensionProviders[].opentelemetry.grpc`."""

    timeout: Duration | None = None
    initial_metadata: tuple[ProviderHeader, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceDetectors:
    """`MeshConfig.extensionProviders[].opentelemetry.resourceDetectors`."""

    environment: EnvironmentResourceDetector | None = None
    dynatrace: DynatraceResourceDetector | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentResourceDetector:
    """`MeshConfig.extensionProviders[].opentelemetry.resourceDetectors.environment`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DynatraceResourceDetector:
    """`MeshConfig.extensionProviders[].opentelemetry.resourceDetectors.dynatrace`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DynatraceSampler:
    """`MeshConfig.extensionProviders[].opentelemetry.dynatraceSampler`."""

    tenant: str = ""
    cluster_id: Int32 = 0
    root_spans_per_minute: UInt32 = 0
    http_service: DynatraceApi | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DynatraceApi:
    """`MeshConfig.extensionProviders[].opentelemetry.dynatraceSampler.httpService`."""

    service: str = ""
    port: UInt32 = 0
    http: HttpService | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PrometheusMetricsProvider:
    """`MeshConfig.extensionProviders[].prometheus`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvoyFileAccessLogProvider:
    """`MeshConfig.extensionProviders[].envoyFileAccessLog`."""

    path: str = ""
    log_format: LogFormat | None = None
    omit_empty_values: Boolean = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFormat:
    """`MeshConfig.extensionProviders[].envoyFileAccessLog.logFormat`."""

    text: str | None = None
    labels: JsonMap | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvoyHttpGrpcV3LogProvider:
    """`MeshConfig.extensionProviders[].envoyHttpAls`."""

    service: str = ""
    port: UInt32 = 0
    log_name: str = ""
    filter_state_objects_to_log: tuple[str, ...] = ()
    additional_request_headers_to_log: tuple[str, ...] = ()
    additional_response_headers_to_log: tuple[str, ...] = ()
    additional_response_trailers_to_log: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvoyTcpGrpcV3LogProvider:
    """`MeshConfig.extensionProviders[].envoyTcpAls`."""

    service: str = ""
    port: UInt32 = 0
    log_name: str = ""
    filter_state_objects_to_log: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvoyOpenTelemetryLogProvider:
    """`MeshConfig.extensionProviders[].envoyOtelAls`."""

    service: str = ""
    port: UInt32 = 0
    log_name: str = ""
    log_format: LogFormat | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SDSProvider:
    """`MeshConfig.extensionProviders[].sds`."""

    name: str = ""
    service: str = ""
    port: UInt32 = 0
