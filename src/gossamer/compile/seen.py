"""How an Envoy tells its agent what came in: one entry for each request, and for each connection that carries no HTTP.

Entries go over the agent's UNIX socket, apart from the access log that people read, and are gathered for a second, so
that the hot path pays for writing one message into a buffer. The buffer is bounded: what finds no room, since the agent
is away or behind, is left out, and Envoy counts it. Invariant: nothing here waits, and nothing here decides.
"""

from __future__ import annotations

from typing import Final

from envoy.config.accesslog.v3.accesslog_pb2 import AccessLog, AccessLogFilter, LogTypeFilter
from envoy.config.core.v3.config_source_pb2 import ApiVersion
from envoy.config.core.v3.grpc_service_pb2 import GrpcService
from envoy.data.accesslog.v3.accesslog_pb2 import AccessLogType
from envoy.extensions.access_loggers.grpc.v3.als_pb2 import (
    CommonGrpcAccessLogConfig,
    HttpGrpcAccessLogConfig,
    TcpGrpcAccessLogConfig,
)
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import UInt32Value

from gossamer.compile.agent_clusters import SDS_CLUSTER
from gossamer.compile.draft import pack
from gossamer.compile.seen_names import HTTP, ROUTED, TCP
from gossamer.model.settings import MeshSettings

_BUFFER: Final = 65_536
_FLUSH_S: Final = 1
PERIOD_S: Final = 60
"""How often a connection that lasts is told of."""


def http_logs(settings: MeshSettings, *, rewrites: bool) -> list[AccessLog]:
    """What a connection manager tells the agent; nothing where no agent listens."""
    if not settings.observed:
        return []
    config = HttpGrpcAccessLogConfig(common_config=_common(ROUTED if rewrites else HTTP))
    return [AccessLog(name="envoy.access_loggers.http_grpc", typed_config=pack(config))]


def tcp_logs(settings: MeshSettings, name: str = TCP) -> list[AccessLog]:
    """What a TCP proxy, or (REFUSED) a listener, tells the agent; nothing where no agent listens."""
    if not settings.observed:
        return []
    config = TcpGrpcAccessLogConfig(common_config=_common(name))
    return [AccessLog(name="envoy.access_loggers.tcp_grpc", typed_config=pack(config))]


def only_when_ended(log: AccessLog) -> AccessLog:
    """The log without the entries that a TCP connection writes while it lasts."""
    types = LogTypeFilter(types=[AccessLogType.TcpPeriodic], exclude=True)
    log.filter.CopyFrom(AccessLogFilter(log_type_filter=types))
    return log


def _common(name: str) -> CommonGrpcAccessLogConfig:
    return CommonGrpcAccessLogConfig(
        log_name=name,
        grpc_service=GrpcService(envoy_grpc=GrpcService.EnvoyGrpc(cluster_name=SDS_CLUSTER)),
        transport_api_version=ApiVersion.V3,
        buffer_flush_interval=Duration(seconds=_FLUSH_S),
        buffer_size_bytes=UInt32Value(value=_BUFFER),
    )
