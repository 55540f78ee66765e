"""How HTTP is spoken to a cluster: its version, how long connections live, what counts as a failure, and whose name TLS
asks for.

Invariant: what carries no HTTP has no options, unless a tunnel to it is opened by HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from envoy.config.common.matcher.v3.matcher_pb2 import HttpHeadersMatch, MatchPredicate
from envoy.config.core.v3.protocol_pb2 import (
    Http1ProtocolOptions,
    Http2ProtocolOptions,
    HttpProtocolOptions,
    KeepaliveSettings,
)
from envoy.config.route.v3.route_components_pb2 import HeaderMatcher
from envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions as UpstreamOptions
from envoy.type.matcher.v3.string_pb2 import StringMatcher
from google.protobuf.any_pb2 import Any

from gossamer.api import destination_rule as api
from gossamer.compile.calls import Call
from gossamer.compile.draft import pack
from gossamer.compile.limits import seconds
from gossamer.model.service import Protocol

HTTP_OPTIONS: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_VERIFIED: Final = (api.ClientTLSMode.SIMPLE, api.ClientTLSMode.MUTUAL)


def http_options(call: Call) -> Mapping[str, Any]:
    """The entry of `typed_extension_protocol_options`; none for what is no HTTP."""
    protocol = call.port.protocol
    if not (protocol.is_http or protocol is Protocol.AUTO or call.policy.tunnel is not None):
        return {}
    options = UpstreamOptions(common_http_protocol_options=common_options(call.pool))
    _version(options, call)
    _server_name(options, call)
    codes = call.detection.outlier_detection_http_error_codes if call.detection else ()
    if codes:
        options.outlier_detection.error_matcher.CopyFrom(_any_status(codes))
    return {HTTP_OPTIONS: pack(options)}


def plain_http_options() -> Mapping[str, Any]:
    """The same for what nobody declared: whatever the caller speaks."""
    options = UpstreamOptions(common_http_protocol_options=HttpProtocolOptions())
    options.use_downstream_protocol_config.http_protocol_options.CopyFrom(Http1ProtocolOptions())
    options.use_downstream_protocol_config.http2_protocol_options.CopyFrom(Http2ProtocolOptions())
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


def _version(options: UpstreamOptions, call: Call) -> None:
    two = http2_options(call.http)
    if call.http.use_client_protocol or (call.port.protocol is Protocol.AUTO and not call.http2):
        options.use_downstream_protocol_config.http_protocol_options.CopyFrom(Http1ProtocolOptions())
        options.use_downstream_protocol_config.http2_protocol_options.CopyFrom(two)
    elif call.http2:
        options.explicit_http_config.http2_protocol_options.CopyFrom(two)
    else:
        options.explicit_http_config.http_protocol_options.CopyFrom(Http1ProtocolOptions())


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


def names_by_request(call: Call) -> bool:
    """Whether the host of each request is the name that TLS asks for (and verifies): Istio's documented default of
    SIMPLE and MUTUAL without `sni`."""
    tls = call.policy.tls
    return tls is not None and tls.mode in _VERIFIED and not tls.sni and call.port.protocol.is_http


def verifies_by_request(call: Call) -> bool:
    """Whether the certificate has to be one for the host of each request: when nobody says another name."""
    tls = call.policy.tls
    if tls is None or not names_by_request(call) or tls.insecure_skip_verify:
        return False
    return not (tls.subject_alt_names or call.outbound.service.subject_alt_names)


def _server_name(options: UpstreamOptions, call: Call) -> None:
    if names_by_request(call):
        options.upstream_http_protocol_options.auto_sni = True
        options.upstream_http_protocol_options.auto_san_validation = verifies_by_request(call)


def _any_status(codes: Sequence[int]) -> MatchPredicate:
    rules = [
        MatchPredicate(
            http_response_headers_match=HttpHeadersMatch(
                headers=[HeaderMatcher(name=":status", string_match=StringMatcher(exact=str(code)))]
            )
        )
        for code in dict.fromkeys(codes)
    ]
    return rules[0] if len(rules) == 1 else MatchPredicate(or_match=MatchPredicate.MatchSet(rules=rules))
