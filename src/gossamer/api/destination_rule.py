"""DestinationRule: how callers treat a service once a route has chosen it.

Invariant: every field of Istio's API is here, under its JSON name in snake_case; nothing is interpreted.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from gossamer.api.common import (
    FROZEN,
    STRICT,
    Boolean,
    Double,
    Duration,
    Int32,
    PortSelector,
    StrMap,
    UInt32,
    UInt64,
    WorkloadSelector,
)
from gossamer.core.frozen import EMPTY, FrozenMap


class SimpleLB(StrEnum):
    UNSPECIFIED = "UNSPECIFIED"
    LEAST_CONN = "LEAST_CONN"
    RANDOM = "RANDOM"
    PASSTHROUGH = "PASSTHROUGH"
    ROUND_ROBIN = "ROUND_ROBIN"
    LEAST_REQUEST = "LEAST_REQUEST"


class H2UpgradePolicy(StrEnum):
    DEFAULT = "DEFAULT"
    DO_NOT_UPGRADE = "DO_NOT_UPGRADE"
    UPGRADE = "UPGRADE"


class ClientTLSMode(StrEnum):
    DISABLE = "DISABLE"
    SIMPLE = "SIMPLE"
    MUTUAL = "MUTUAL"
    ISTIO_MUTUAL = "ISTIO_MUTUAL"


class ProxyProtocolVersion(StrEnum):
    V1 = "V1"
    V2 = "V2"


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationRule:
    """`DestinationRule`."""

    __pydantic_config__ = STRICT
    host: str
    traffic_policy: TrafficPolicy | None = None
    subsets: tuple[Subset, ...] = ()
    export_to: tuple[str, ...] = ()
    workload_selector: WorkloadSelector | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficPolicy:
    """`DestinationRule.trafficPolicy`."""

    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTLSSettings | None = None
    port_level_settings: tuple[PortTrafficPolicy, ...] = ()
    tunnel: TunnelSettings | None = None
    proxy_protocol: ProxyProtocol | None = None
    retry_budget: RetryBudget | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadBalancerSettings:
    """`DestinationRule.trafficPolicy.loadBalancer`."""

    simple: SimpleLB | None = None
    consistent_hash: ConsistentHashLB | None = None
    locality_lb_setting: LocalityLoadBalancerSetting | None = None
    zone_aware_lb_setting: ZoneAwareLoadBalancerSetting | None = None
    warmup_duration_secs: Duration | None = None
    warmup: WarmupConfiguration | None = None
    backend_utilization: BackendUtilizationLB | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsistentHashLB:
    """`DestinationRule.trafficPolicy.loadBalancer.consistentHash`."""

    http_header_name: str | None = None
    http_cookie: HTTPCookie | None = None
    use_source_ip: Boolean | None = None
    http_query_parameter_name: str | None = None
    ring_hash: RingHash | None = None
    maglev: MagLev | None = None
    minimum_ring_size: UInt64 = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPCookie:
    """`DestinationRule.trafficPolicy.loadBalancer.consistentHash.httpCookie`."""

    name: str
    path: str = ""
    ttl: Duration | None = None
    attributes: tuple[Attribute, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """`DestinationRule.trafficPolicy.loadBalancer.consistentHash.httpCookie.attributes[]`."""

    name: str
    value: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RingHash:
    """`DestinationRule.trafficPolicy.loadBalancer.consistentHash.ringHash`."""

    minimum_ring_size: UInt64 = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MagLev:
    """`DestinationRule.trafficPolicy.loadBalancer.consistentHash.maglev`."""

    table_size: UInt64 = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalityLoadBalancerSetting:
    """`DestinationRule.trafficPolicy.loadBalancer.localityLbSetting`."""

    distribute: tuple[Distribute, ...] = ()
    failover: tuple[Failover, ...] = ()
    failover_priority: tuple[str, ...] = ()
    enabled: Boolean | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribute:
    """`DestinationRule.trafficPolicy.loadBalancer.localityLbSetting.distribute[]`."""

    from_: str = ""
    to: Annotated[FrozenMap[str, UInt32], FROZEN] = EMPTY


@dataclass(frozen=True, slots=True, kw_only=True)
class Failover:
    """`DestinationRule.trafficPolicy.loadBalancer.localityLbSetting.failover[]`."""

    from_: str = ""
    to: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneAwareLoadBalancerSetting:
    """`DestinationRule.trafficPolicy.loadBalancer.zoneAwareLbSetting`."""

    enabled: Boolean | None = None
    failover: tuple[Failover, ...] = ()
    failover_priority: tuple[str, ...] = ()
    min_cluster_size: UInt64 | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmupConfiguration:
    """`DestinationRule.trafficPolicy.loadBalancer.warmup`."""

    duration: Duration
    minimum_percent: Double | None = None
    aggression: Double | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionPoolSettings:
    """`DestinationRule.trafficPolicy.connectionPool`."""

    tcp: TCPSettings | None = None
    http: HTTPSettings | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TCPSettings:
    """`DestinationRule.trafficPolicy.connectionPool.tcp`."""

    max_connections: Int32 = 0
    connect_timeout: Duration | None = None
    tcp_keepalive: TcpKeepalive | None = None
    max_connection_duration: Duration | None = None
    idle_timeout: Duration | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpKeepalive:
    """`DestinationRule.trafficPolicy.connectionPool.tcp.tcpKeepalive`."""

    probes: UInt32 = 0
    time: Duration | None = None
    interval: Duration | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPSettings:
    """`DestinationRule.trafficPolicy.connectionPool.http`."""

    http1_max_pending_requests: Int32 = 0
    http2_max_requests: Int32 = 0
    max_requests_per_connection: Int32 = 0
    max_retries: Int32 = 0
    idle_timeout: Duration | None = None
    h2_upgrade_policy: H2UpgradePolicy = H2UpgradePolicy.DEFAULT
    use_client_protocol: Boolean = False
    max_concurrent_streams: Int32 = 0
    http2_keep_alive: ConnectionKeepalive | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionKeepalive:
    """`DestinationRule.trafficPolicy.connectionPool.http.http2KeepAlive`."""

    interval: Duration | None = None
    timeout: Duration | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutlierDetection:
    """`DestinationRule.trafficPolicy.outlierDetection`."""

    consecutive_errors: Int32 = 0
    split_external_local_origin_errors: Boolean = False
    consecutive_local_origin_failures: UInt32 | None = None
    consecutive_gateway_errors: UInt32 | None = None
    consecutive_5xx_errors: UInt32 | None = None
    interval: Duration | None = None
    base_ejection_time: Duration | None = None
    max_ejection_percent: Int32 = 0
    min_health_percent: Int32 = 0
    outlier_detection_http_error_codes: tuple[UInt32, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientTLSSettings:
    """`DestinationRule.trafficPolicy.tls`."""

    mode: ClientTLSMode = ClientTLSMode.DISABLE
    client_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""
    credential_name: str = ""
    subject_alt_names: tuple[str, ...] = ()
    sni: str = ""
    insecure_skip_verify: Boolean | None = None
    ca_crl: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PortTrafficPolicy:
    """`DestinationRule.trafficPolicy.portLevelSettings[]`."""

    port: PortSelector | None = None
    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTLSSettings | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelSettings:
    """`DestinationRule.trafficPolicy.tunnel`."""

    protocol: str = ""
    target_host: str
    target_port: UInt32


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyProtocol:
    """`DestinationRule.trafficPolicy.proxyProtocol`."""

    version: ProxyProtocolVersion = ProxyProtocolVersion.V1


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryBudget:
    """`DestinationRule.trafficPolicy.retryBudget`."""

    percent: Double | None = None
    min_retry_concurrency: UInt32 = 0
    budget_interval: Duration | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Subset:
    """`DestinationRule.subsets[]`."""

    name: str
    labels: StrMap = EMPTY
    traffic_policy: TrafficPolicy | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendUtilizationLB:
    """`DestinationRule.trafficPolicy.loadBalancer.backendUtilization`."""

    error_utilization_penalty_percent: UInt32 = 0
    metric_names_for_computing_utilization: tuple[str, ...] = ()
    weight_expiration_period: Duration | None = None
    weight_stabilization_period: Duration | None = None
    weight_update_period: Duration | None = None
