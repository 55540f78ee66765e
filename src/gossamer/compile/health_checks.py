"""Active health checks of a cluster: Envoy asks each endpoint itself, over the same TLS as it would call it.

Invariant: an endpoint that the control plane takes away is gone at once, whatever a check last found.
"""

from __future__ import annotations

from typing import Final

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.health_check_pb2 import HealthCheck
from envoy.type.v3.http_pb2 import HTTP2
from envoy.type.v3.range_pb2 import Int64Range
from google.protobuf.wrappers_pb2 import UInt32Value

from gossamer.compile.calls import Call
from gossamer.compile.limits import seconds
from gossamer.compile.tls import HTTP_ALPN
from gossamer.model.health_checks import Check
from gossamer.model.service import Protocol

_JITTER_PERCENT: Final = 20
"""Of the interval: callers that start together are not to ask together for ever."""


def check_health(cluster: Cluster, call: Call, check: Check | None) -> None:
    """Have the cluster's endpoints checked. Where endpoints are not known before they are called nobody can be asked,
    and gRPC is asked over HTTP/2 alone."""
    known = cluster.WhichOneof("cluster_discovery_type") == "type" and cluster.type != Cluster.ORIGINAL_DST
    if check is None or not known or (check.spec.grpc is not None and not _speaks_http2(call)):
        return
    cluster.health_checks.append(_health_check(check, call))
    cluster.ignore_health_on_host_removal = True


def _speaks_http2(call: Call) -> bool:
    protocol = call.port.protocol
    return call.http2 or protocol is Protocol.AUTO or (protocol.is_http and call.http.use_client_protocol)


def _health_check(check: Check, call: Call) -> HealthCheck:
    spec, hostname = check.spec, call.outbound.service.hostname
    interval = seconds(spec.interval.total_seconds())
    found = HealthCheck(
        interval=interval,
        no_traffic_interval=interval,  # Envoy would ask once a minute as long as nobody calls
        timeout=seconds(spec.timeout.total_seconds()),
        interval_jitter_percent=_JITTER_PERCENT,
        unhealthy_threshold=UInt32Value(value=spec.unhealthy_threshold),
        healthy_threshold=UInt32Value(value=spec.healthy_threshold),
    )
    if spec.http is not None:
        found.http_health_check.host = spec.http.host or hostname
        found.http_health_check.path = spec.http.path
        found.http_health_check.expected_statuses.extend(
            Int64Range(start=status, end=status + 1) for status in spec.http.expected_statuses
        )
        if call.http2:
            found.http_health_check.codec_client_type = HTTP2
    elif spec.grpc is not None:
        found.grpc_health_check.service_name = spec.grpc.service
        found.grpc_health_check.authority = hostname
    else:
        found.tcp_health_check.SetInParent()
    if call.port.protocol is Protocol.AUTO and spec.tcp is None:
        found.tls_options.alpn_protocols.extend(HTTP_ALPN)  # so that a sidecar sees HTTP, as with any request
    return found
