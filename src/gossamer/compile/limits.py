"""Connection pools, circuit breakers and outlier detection of clusters.

Invariant: what nobody limits is unlimited, as Istio documents it, and not at Envoy's own small defaults.
"""

from __future__ import annotations

from typing import Final

from envoy.config.cluster.v3.circuit_breaker_pb2 import CircuitBreakers
from envoy.config.cluster.v3.outlier_detection_pb2 import OutlierDetection
from envoy.type.v3.percent_pb2 import Percent
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import UInt32Value

from gossamer.api import destination_rule as api

_UNLIMITED: Final = 2**32 - 1
_BUDGET_INTERVAL: Final = 3 << 3 | 2
"""Tag of RetryBudget.budget_interval, which Envoy has and the protobuf classes that we use have not."""


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
        thresholds.retry_budget.CopyFrom(_retry_budget(budget))
    return CircuitBreakers(thresholds=[thresholds])


def _retry_budget(budget: api.RetryBudget) -> CircuitBreakers.Thresholds.RetryBudget:
    found = CircuitBreakers.Thresholds.RetryBudget(
        budget_percent=Percent(value=20.0 if budget.percent is None else budget.percent),
        min_retry_concurrency=UInt32Value(value=budget.min_retry_concurrency or 3),
    )
    if budget.budget_interval:
        window = seconds(budget.budget_interval.total_seconds()).SerializeToString()
        found.MergeFromString(bytes((_BUDGET_INTERVAL, len(window))) + window)
    return found


def _limit(value: int) -> UInt32Value:
    return UInt32Value(value=value if value > 0 else _UNLIMITED)


def outlier_detection(settings: api.OutlierDetection | None) -> OutlierDetection | None:
    """Passive ejection. A count of 0 switches its kind off; success rates are not judged (Istio has no field)."""
    if settings is None:
        return None
    detection = OutlierDetection(enforcing_success_rate=UInt32Value(value=0))
    gateway = settings.consecutive_gateway_errors
    if gateway is None and settings.consecutive_errors:
        gateway = settings.consecutive_errors  # deprecated: what it counts are 502, 503 and 504
    counted = {
        "consecutive_5xx": settings.consecutive_5xx_errors,
        "consecutive_gateway_failure": gateway,
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
