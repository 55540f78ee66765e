"""ProxyConfig: settings of a proxy, as MeshConfig gives them to all.

Invariant: every field of Istio's API is here, under its JSON name in snake_case; nothing is interpreted.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gossamer.api.common import Boolean, Duration, Int32, StrMap, UInt32
from gossamer.api.destination_rule import ClientTLSSettings, TcpKeepalive
from gossamer.api.proxy_tracing import Tracing
from gossamer.api.workload_group import ReadinessProbe
from gossamer.core.frozen import EMPTY


class TracingServiceName(StrEnum):
    APP_LABEL_AND_NAMESPACE = "APP_LABEL_AND_NAMESPACE"
    CANONICAL_NAME_ONLY = "CANONICAL_NAME_ONLY"
    CANONICAL_NAME_AND_NAMESPACE = "CANONICAL_NAME_AND_NAMESPACE"


class AuthenticationPolicy(StrEnum):
    NONE = "NONE"
    MUTUAL_TLS = "MUTUAL_TLS"
    INHERIT = "INHERIT"


class InboundInterceptionMode(StrEnum):
    REDIRECT = "REDIRECT"
    TPROXY = "TPROXY"
    NONE = "NONE"


class ForwardClientCertDetails(StrEnum):
    UNDEFINED = "UNDEFINED"
    SANITIZE = "SANITIZE"
    FORWARD_ONLY = "FORWARD_ONLY"
    APPEND_FORWARD = "APPEND_FORWARD"
    SANITIZE_SET = "SANITIZE_SET"
    ALWAYS_FORWARD_ONLY = "ALWAYS_FORWARD_ONLY"


class MetadataExchangeMode(StrEnum):
    UNDEFINED = "UNDEFINED"
    IN_MESH = "IN_MESH"


class Profile(StrEnum):
    SIDECAR = "SIDECAR"
    EDGE = "EDGE"


class HeadersWithUnderscoresAction(StrEnum):
    HEADERS_WITH_UNDERSCORES_UNSPECIFIED = "HEADERS_WITH_UNDERSCORES_UNSPECIFIED"
    HEADERS_WITH_UNDERSCORES_ALLOW = "HEADERS_WITH_UNDERSCORES_ALLOW"
    HEADERS_WITH_UNDERSCORES_REJECT_REQUEST = "HEADERS_WITH_UNDERSCORES_REJECT_REQUEST"
    HEADERS_WITH_UNDERSCORES_DROP_HEADER = "HEADERS_WITH_UNDERSCORES_DROP_HEADER"


class PathWithEscapedSlashesAction(StrEnum):
    PATH_WITH_ESCAPED_SLASHES_UNSPECIFIED = "PATH_WITH_ESCAPED_SLASHES_UNSPECIFIED"
    KEEP_UNCHANGED = "KEEP_UNCHANGED"
    REJECT_REQUEST = "REJECT_REQUEST"
    UNESCAPE_AND_REDIRECT = "UNESCAPE_AND_REDIRECT"
    UNESCAPE_AND_FORWARD = "UNESCAPE_AND_FORWARD"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyConfig:
    """`MeshConfig.defaultConfig`."""

    config_path: str = ""
    binary_path: str = ""
    service_cluster: str | None = None
    tracing_service_name: TracingServiceName | None = None
    drain_duration: Duration | None = None
    discovery_address: str = ""
    discovery_refresh_delay: Duration | None = None
    zipkin_address: str = ""
    statsd_udp_address: str = ""
    envoy_metrics_service_address: str = ""
    proxy_admin_port: Int32 = 0
    availability_zone: str = ""
    control_plane_auth_policy: AuthenticationPolicy = AuthenticationPolicy.NONE
    custom_config_file: str = ""
    stat_name_length: Int32 = 0
    concurrency: Int32 | None = None
    proxy_bootstrap_template_path: str = ""
    interception_mode: InboundInterceptionMode = InboundInterceptionMode.REDIRECT
    tracing: Tracing | None = None
    sds: SDS | None = None
    envoy_access_log_service: RemoteService | None = None
    envoy_metrics_service: RemoteService | None = None
    proxy_metadata: StrMap = EMPTY
    runtime_values: StrMap = EMPTY
    status_port: Int32 = 0
    extra_stat_tags: tuple[str, ...] = ()
    gateway_topology: Topology | None = None
    termination_drain_duration: Duration | None = None
    mesh_id: str = ""
    readiness_probe: ReadinessProbe | None = None
    proxy_stats_matcher: ProxyStatsMatcher | None = None
    hold_application_until_proxy_starts: Boolean | None = None
    ca_certificates_pem: tuple[str, ...] = ()
    image: ProxyImage | None = None
    private_key_provider: PrivateKeyProvider | None = None
    proxy_headers: ProxyHeaders | None = None
    file_flush_interval: Duration | None = None
    file_flush_min_size_kb: UInt32 = 0
    stats_compression: Boolean | None = None
    connection_settings: ConnectionSettings | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SDS:
    """`MeshConfig.defaultConfig.sds`."""

    enabled: Boolean = False
    k8s_sa_jwt_path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteService:
    """`MeshConfig.defaultConfig.envoyAccessLogService`."""

    address: str = ""
    tls_settings: ClientTLSSettings | None = None
    tcp_keepalive: TcpKeepalive | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """`MeshConfig.defaultConfig.gatewayTopology`."""

    num_trusted_proxies: UInt32 = 0
    forward_client_cert_details: ForwardClientCertDetails = ForwardClientCertDetails.UNDEFINED
    proxy_protocol: ProxyProtocolConfiguration | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyProtocolConfiguration:
    """`MeshConfig.defaultConfig.gatewayTopology.proxyProtocol`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyStatsMatcher:
    """`MeshConfig.defaultConfig.proxyStatsMatcher`."""

    inclusion_prefixes: tuple[str, ...] = ()
    inclusion_suffixes: tuple[str, ...] = ()
    inclusion_regexps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateKeyProvider:
    """`MeshConfig.defaultConfig.privateKeyProvider`."""

    cryptomb: CryptoMb | None = None
    qat: QAT | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CryptoMb:
    """`MeshConfig.defaultConfig.privateKeyProvider.cryptomb`."""

    poll_delay: Duration | None = None
    fallback: Boolean | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QAT:
    """`MeshConfig.defaultConfig.privateKeyProvider.qat`."""

    poll_delay: Duration | None = None
    fallback: Boolean | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyHeaders:
    """`MeshConfig.defaultConfig.proxyHeaders`."""

    forwarded_client_cert: ForwardClientCertDetails = ForwardClientCertDetails.UNDEFINED
    set_current_client_cert_details: SetCurrentClientCertDetails | None = None
    request_id: RequestId | None = None
    server: ServerHeader | None = None
    attempt_count: AttemptCount | None = None
    envoy_debug_headers: EnvoyDebugHeaders | None = None
    metadata_exchange_headers: MetadataExchangeHeaders | None = None
    preserve_http1_header_case: Boolean | None = None
    x_forwarded_host: XForwardedHost | None = None
    x_forwarded_port: XForwardedPort | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SetCurrentClientCertDetails:
    """`MeshConfig.defaultConfig.proxyHeaders.setCurrentClientCertDetails`."""

    subject: Boolean | None = None
    cert: Boolean | None = None
    chain: Boolean | None = None
    dns: Boolean | None = None
    uri: Boolean | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestId:
    """`MeshConfig.defaultConfig.proxyHeaders.requestId`."""

    disabled: Boolean | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerHeader:
    """`MeshConfig.defaultConfig.proxyHeaders.server`."""

    disabled: Boolean | None = None
    value: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptCount:
    """`MeshConfig.defaultConfig.proxyHeaders.attemptCount`."""

    disabled: Boolean | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvoyDebugHeaders:
    """`MeshConfig.defaultConfig.proxyHeaders.envoyDebugHeaders`."""

    disabled: Boolean | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataExchangeHeaders:
    """`MeshConfig.defaultConfig.proxyHeaders.metadataExchangeHeaders`."""

    mode: MetadataExchangeMode = MetadataExchangeMode.UNDEFINED


@dataclass(frozen=True, slots=True, kw_only=True)
class XForwardedHost:
    """`MeshConfig.defaultConfig.proxyHeaders.xForwardedHost`."""

    enabled: Boolean | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class XForwardedPort:
    """`MeshConfig.defaultConfig.proxyHeaders.xForwardedPort`."""

    enabled: Boolean | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionSettings:
    """`MeshConfig.defaultConfig.connectionSettings`."""

    profile: Profile = Profile.SIDECAR
    listener_per_connection_buffer_limit_bytes: Int32 | None = None
    cluster_per_connection_buffer_limit_bytes: Int32 | None = None
    http_idle_timeout: Duration | None = None
    http_max_connection_duration: Duration | None = None
    http_drain_timeout: Duration | None = None
    http_request_timeout: Duration | None = None
    http_request_headers_timeout: Duration | None = None
    http_stream_idle_timeout: Duration | None = None
    http_max_stream_duration: Duration | None = None
    http_max_concurrent_streams: Int32 | None = None
    http2_initial_stream_window_size: Int32 | None = None
    http2_initial_connection_window_size: Int32 | None = None
    http_headers_with_underscores_action: HeadersWithUnderscoresAction = (
        HeadersWithUnderscoresAction.HEADERS_WITH_UNDERSCORES_UNSPECIFIED
    )
    http_merge_slashes: Boolean | None = None
    http_path_with_escaped_slashes_action: PathWithEscapedSlashesAction = (
        PathWithEscapedSlashesAction.PATH_WITH_ESCAPED_SLASHES_UNSPECIFIED
    )
    listener_connection_limit: Int32 | None = None
    global_downstream_connection_limit: Int32 | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyImage:
    """`MeshConfig.defaultConfig.image`."""

    image_type: str = ""
