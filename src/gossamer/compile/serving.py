"""What MeshConfig's `defaultConfig` says about serving HTTP: headers that proxies add, and limits.

Invariant: what is not set stays as the connection manager was made: nothing here weakens a default unless it is asked
to by name.
"""

from __future__ import annotations

from typing import Final

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.config.core.v3.protocol_pb2 import Http1ProtocolOptions, HttpProtocolOptions
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from envoy.extensions.http.header_formatters.preserve_case.v3.preserve_case_pb2 import PreserveCaseFormatterConfig
from envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions as UpstreamOptions
from google.protobuf.wrappers_pb2 import BoolValue, UInt32Value

from gossamer.api.proxy_config import (
    ConnectionSettings,
    HeadersWithUnderscoresAction,
    PathWithEscapedSlashesAction,
    ProxyHeaders,
    SetCurrentClientCertDetails,
)
from gossamer.compile.draft import pack
from gossamer.compile.limits import seconds
from gossamer.compile.upstream_http import HTTP_OPTIONS

SERVER_NAME: Final = "istio-envoy"
"""What responses call the server (Istio's name), unless `proxyHeaders.server` says otherwise."""
_UNDERSCORES: Final = {
    HeadersWithUnderscoresAction.HEADERS_WITH_UNDERSCORES_ALLOW: HttpProtocolOptions.ALLOW,
    HeadersWithUnderscoresAction.HEADERS_WITH_UNDERSCORES_REJECT_REQUEST: HttpProtocolOptions.REJECT_REQUEST,
    HeadersWithUnderscoresAction.HEADERS_WITH_UNDERSCORES_DROP_HEADER: HttpProtocolOptions.DROP_HEADER,
}
_SLASHES: Final = {
    PathWithEscapedSlashesAction.KEEP_UNCHANGED: HttpConnectionManager.KEEP_UNCHANGED,
    PathWithEscapedSlashesAction.REJECT_REQUEST: HttpConnectionManager.REJECT_REQUEST,
    PathWithEscapedSlashesAction.UNESCAPE_AND_REDIRECT: HttpConnectionManager.UNESCAPE_AND_REDIRECT,
    PathWithEscapedSlashesAction.UNESCAPE_AND_FORWARD: HttpConnectionManager.UNESCAPE_AND_FORWARD,
}


def limit_connections(manager: HttpConnectionManager, found: ConnectionSettings | None) -> None:
    """Set the timeouts and limits of `defaultConfig.connectionSettings` that are of HTTP."""
    if found is None:
        return
    common, two = manager.common_http_protocol_options, manager.http2_protocol_options
    for place, name, duration in (
        (common, "idle_timeout", found.http_idle_timeout),
        (common, "max_connection_duration", found.http_max_connection_duration),
        (common, "max_stream_duration", found.http_max_stream_duration),
        (manager, "drain_timeout", found.http_drain_timeout),
        (manager, "request_timeout", found.http_request_timeout),
        (manager, "request_headers_timeout", found.http_request_headers_timeout),
        (manager, "stream_idle_timeout", found.http_stream_idle_timeout),
    ):
        if duration is not None:
            getattr(place, name).CopyFrom(seconds(duration.total_seconds()))
    for name, number in (
        ("max_concurrent_streams", found.http_max_concurrent_streams),
        ("initial_stream_window_size", found.http2_initial_stream_window_size),
        ("initial_connection_window_size", found.http2_initial_connection_window_size),
    ):
        if number is not None:
            getattr(two, name).CopyFrom(UInt32Value(value=number))
    if found.http_headers_with_underscores_action in _UNDERSCORES:
        common.headers_with_underscores_action = _UNDERSCORES[found.http_headers_with_underscores_action]
    if found.http_merge_slashes is not None:
        manager.merge_slashes = found.http_merge_slashes
    if found.http_path_with_escaped_slashes_action in _SLASHES:
        manager.path_with_escaped_slashes_action = _SLASHES[found.http_path_with_escaped_slashes_action]


def buffer_listener(listener: Listener, found: ConnectionSettings | None) -> None:
    """Bound what a listener holds of each connection."""
    if found is not None and found.listener_per_connection_buffer_limit_bytes is not None:
        limit = UInt32Value(value=found.listener_per_connection_buffer_limit_bytes)
        listener.per_connection_buffer_limit_bytes.CopyFrom(limit)


def buffer_cluster(cluster: Cluster, found: ConnectionSettings | None) -> None:
    """Bound what a cluster holds of each connection."""
    if found is not None and found.cluster_per_connection_buffer_limit_bytes is not None:
        limit = UInt32Value(value=found.cluster_per_connection_buffer_limit_bytes)
        cluster.per_connection_buffer_limit_bytes.CopyFrom(limit)


def set_headers(manager: HttpConnectionManager, given: ProxyHeaders, *, serves: bool) -> None:
    """Set what `defaultConfig.proxyHeaders` says of the headers that a proxy adds. `serves`: it answers for its own
    workload or as a gateway, and so says who serves."""
    server = given.server
    if serves and not (server and server.disabled):
        manager.server_name = (server and server.value) or SERVER_NAME
        manager.server_header_transformation = HttpConnectionManager.OVERWRITE
    if given.request_id and given.request_id.disabled:
        manager.generate_request_id.CopyFrom(BoolValue(value=False))
    if given.x_forwarded_port and given.x_forwarded_port.enabled:
        manager.append_x_forwarded_port = True
    if given.preserve_http1_header_case:
        manager.http_protocol_options.header_key_format.CopyFrom(preserved_case())


def describe_caller(manager: HttpConnectionManager, details: SetCurrentClientCertDetails | None) -> None:
    """Set what an inbound sidecar tells of the caller's certificate; by default its subject, DNS and URI names."""
    if details is None:
        return
    told = manager.set_current_client_cert_details
    parts = {"cert": details.cert, "chain": details.chain, "dns": details.dns, "uri": details.uri}
    for name, value in parts.items():
        if value is not None:
            setattr(told, name, value)
    if details.subject is not None:
        told.subject.CopyFrom(BoolValue(value=details.subject))


def keep_case(cluster: Cluster, headers: ProxyHeaders) -> None:
    """Have a cluster send names of headers in the case in which they came (`proxyHeaders.preserveHttp1HeaderCase`)."""
    packed = cluster.typed_extension_protocol_options.get(HTTP_OPTIONS)
    if packed is None or not headers.preserve_http1_header_case:
        return
    options = UpstreamOptions.FromString(packed.value)
    used = options.WhichOneof("upstream_protocol_options")
    if used == "use_downstream_protocol_config":
        one = options.use_downstream_protocol_config.http_protocol_options
    elif used == "explicit_http_config" and not options.explicit_http_config.HasField("http2_protocol_options"):
        one = options.explicit_http_config.http_protocol_options
    else:
        return
    one.header_key_format.CopyFrom(preserved_case())
    cluster.typed_extension_protocol_options[HTTP_OPTIONS].CopyFrom(pack(options))


def preserved_case() -> Http1ProtocolOptions.HeaderKeyFormat:
    """Names of headers go on in the case in which they came."""
    config = pack(PreserveCaseFormatterConfig())
    return Http1ProtocolOptions.HeaderKeyFormat(
        stateful_formatter=TypedExtensionConfig(name="preserve_case", typed_config=config)
    )
