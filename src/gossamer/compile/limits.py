"""Connection pools, circuit breakers, outlier detection and HTTP options of clusters.

Invariant: what nobody limits is unlimited, as Istio documents it, and not at Envoy's own small defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from envoy.config.cluster.v3.circuit_breaker_pb2 import CircuitBreakers
from envoy.config.cluster.v3.outlier_detection_pb2 import OutlierDetection
from envoy.config.core.v3.protocol_pb2 import (
    Http1ProtocolOptions,
    Http2ProtocolOptions,
    HttpProtocolOptions,
    KeepaliveSettings,
)
from envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions as UpstreamOptions
from envoy.type.v3.percent_pb2 import Percent
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import UInt32Value

from gossamer.api import destination_rule as api
from gossamer.compile.draft import pack
from gossamer.model.service import Protocol

HTTP_OPTIONS: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_UNLIMITED: Final = 2**32 - 1


def seconds(value: float) -> Duration:
    """A duration to the microsecond."""
    micros = round(value * 1_000_000)
    return Duration(seconds=micros // 1_000_000, nanos=micros % 1_000_000 * 1000)


def circuit_breakers(pool: api.ConnectionPoolSettings | None, budget: api.RetryBudget | None) -> CircuitBreakers:
    """The limits of a connection pool; 0 means unlimited."""
    tcp = (pool.tcp if pool else None) or api.TCPSettings()
    http = (pool.http if pool else None) or api.HTTPSettings()
    thresholds = CircuitBreakers.Thresholds(
        max_connections=_limit(tcp.max_connections),
        max_pending_requests=_limit(http.http1_max_pending_requests),
        max_requests=_limit(http.http2_max_requests),
        max_retries=_limit(http.max_retries),
        track_remaining=True,
    )
    if budget is not None:
        thresholds.retry_budget.CopyFrom(
            CircuitBreakers.Thresholds.RetryBudget(
                budget_percent=Percent(value=20.0 if budget.percent is None else budget.percent),
                min_retry_concurrency=UInt32Value(value=budget.min_retry_concurrency or 3),
            )
        )
    return CircuitBreakers(thresholds=[thresholds])


def _limit(value: int) -> UInt32Value:
    return UInt32Value(value=value if value > 0 else _UNLIMITED)


def outlier_detection(settings: api.OutlierDetection | None) -> OutlierDetection | None:
    """Passive ejection. A count of 0 switches its kind off; success rates are not judged (Istio has no field)."""
    if settings is None:
        return None
    detection = OutlierDetection(enforcing_success_rate=UInt32Value(value=0))
    five_hundreds = settings.consecutive_5xx_errors
    if five_hundreds is None and settings.consecutive_errors:
        five_hundreds = settings.consecutive_errors  # the field's former name
    counted = {
        "consecutive_5xx": five_hundreds,
        "consecutive_gateway_failure": settings.consecutive_gateway_errors,
        "consecutive_local_origin_failure": settings.consecutive_local_origin_failures,
    }
    for name, count in counted.items():
        if count is not None:
            getattr(detection, name).value = count
            getattr(detection, f"enforcing_{name}").value = 100 if count else 0
    if settings.interval:
        detection.interval.CopyFrom(seconds(settings.interval.total_seconds()))
    if settings.base_ejection_time:
        detection.base_ejection_time.CopyFrom(seconds(settings.base_ejection_time.total_seconds()))
    if settings.max_ejection_percent:
        detection.max_ejection_percent.value = settings.max_ejection_percent
    detection.split_external_local_origin_errors = settings.split_external_local_origin_errors
    return detection


def http_options(pool: api.ConnectionPoolSettings | None, protocol: Protocol, *, upgrade: bool) -> Mapping[str, Any]:
    """How HTTP is spoken to a cluster, as the entry of `typed_extension_protocol_options`; none for what is no HTTP."""
    if not (protocol.is_http or protocol is Protocol.AUTO):
        return {}
    http = (pool.http if pool else None) or api.HTTPSettings()
    options = UpstreamOptions(common_http_protocol_options=common_options(pool))
    wanted = http.h2_upgrade_policy is api.H2UpgradePolicy.UPGRADE or (
        upgrade and http.h2_upgrade_policy is api.H2UpgradePolicy.DEFAULT
    )
    two = http2_options(http)
    if http.use_client_protocol or (protocol is Protocol.AUTO and not wanted):
        options.use_downstream_protocol_config.http_protocol_options.CopyFrom(Http1ProtocolOptions())
        options.use_downstream_protocol_config.http2_protocol_options.CopyFrom(two)
    elif protocol.is_http2 or wanted:
        options.explicit_http_config.http2_protocol_options.CopyFrom(two)
    else:
        options.explicit_http_config.http_protocol_options.CopyFrom(Http1ProtocolOptions())
    return {HTTP_OPTIONS: pack(options)}


def common_options(pool: api.ConnectionPoolSettings | None) -> HttpProtocolOptions:
    """What a pool says of connections that carry HTTP, whatever its version."""
    http = (pool.http if pool else None) or api.HTTPSettings()
    tcp = (pool.tcp if pool else None) or api.TCPSettings()
    common = HttpProtocolOptions()
    if http.idle_timeout is not None:
        common.idle_timeout.CopyFrom(seconds(http.idle_timeout.total_seconds()))
    if http.max_requests_per_connection > 0:
        common.max_requests_per_connection.value = http.max_requests_per_connection
    if tcp.max_connection_duration is not None:
        common.max_connection_duration.CopyFrom(seconds(tcp.max_connection_duration.total_seconds()))
    return common


def http2_options(http: api.HTTPSettings) -> Http2ProtocolOptions:
    """What a pool says of HTTP/2."""
    options = Http2ProtocolOptions()
    if http.max_concurrent_streams > 0:
        options.max_concurrent_streams.value = http.max_concurrent_streams
    alive = http.http2_keep_alive
    if alive is not None and alive.interval and alive.timeout:
        options.connection_keepalive.CopyFrom(
            KeepaliveSettings(
                interval=seconds(alive.interval.total_seconds()), timeout=seconds(alive.timeout.total_seconds())
            )
        )
    return options
