"""The HTTP connection manager, for each of the three directions in which a proxy serves HTTP.

Invariant: what a caller claims about itself is believed only as far as its direction allows. A client certificate
header (XFCC) that an application forges is dropped where it enters the mesh, and so is one that arrives without mutual
TLS; one from a sidecar of the mesh is extended by what that sidecar's certificate says.
"""

from __future__ import annotations

from enum import StrEnum
from functools import cache
from typing import Final

from envoy.config.core.v3.base_pb2 import DataSource
from envoy.config.core.v3.config_source_pb2 import AggregatedConfigSource, ApiVersion, ConfigSource
from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.config.core.v3.substitution_format_string_pb2 import SubstitutionFormatString
from envoy.config.listener.v3.listener_components_pb2 import Filter
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.common.set_filter_state.v3.value_pb2 import FilterStateValue
from envoy.extensions.filters.http.cors.v3.cors_pb2 import Cors
from envoy.extensions.filters.http.fault.v3.fault_pb2 import HTTPFault
from envoy.extensions.filters.http.grpc_web.v3.grpc_web_pb2 import GrpcWeb
from envoy.extensions.filters.http.router.v3.router_pb2 import Router
from envoy.extensions.filters.http.set_filter_state.v3.set_filter_state_pb2 import Config as SetFilterState
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
    HttpFilter,
    Rds,
)
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import BoolValue

from gossamer.api.mesh_config import NormalizationType
from gossamer.api.proxy_config import ForwardClientCertDetails, ProxyHeaders
from gossamer.compile.access_log import access_logs, asked_logs
from gossamer.compile.denials import local_replies
from gossamer.compile.draft import pack
from gossamer.compile.dynamic_dns import http_lookup
from gossamer.compile.policies.slots import http_filters
from gossamer.compile.seen import http_logs
from gossamer.compile.serving import describe_caller, limit_connections, set_headers
from gossamer.compile.tls import HTTP_ALPN
from gossamer.compile.two_meanings import one_meaning
from gossamer.model.settings import MeshSettings

ALPN_FILTER: Final = "gossamer.mesh_alpn"
"""Name of the filter that marks upstream TLS as the mesh's HTTP. A route to a cluster whose TLS is not ISTIO_MUTUAL has
to switch it off by this name (`FilterConfig(disabled=True)`), since it overrides the cluster's own ALPN."""
MANAGER: Final = "envoy.filters.network.http_connection_manager"


class Direction(StrEnum):
    """Which way HTTP goes through the proxy."""

    INBOUND = "inbound"
    """To the workload: from sidecars, or in plaintext where PeerAuthentication lets it."""
    OUTBOUND = "outbound"
    """From the workload."""
    GATEWAY = "gateway"
    """From anywhere."""


ForwardDetails = HttpConnectionManager.ForwardClientCertDetails
_XFCC: Final = {
    Direction.INBOUND: HttpConnectionManager.APPEND_FORWARD,
    Direction.OUTBOUND: HttpConnectionManager.SANITIZE,
    Direction.GATEWAY: HttpConnectionManager.SANITIZE_SET,
}


def connection_manager(
    direction: Direction,
    stat_prefix: str,
    routes: RouteConfiguration | str,
    settings: MeshSettings,
    early: TypedExtensionConfig | None = None,
    *,
    grpc_web: bool = False,
) -> Filter:
    """The network filter that serves HTTP. `routes` is an inline table, or the name of one that comes by RDS; `early`
    is what is done to requests before they are routed; `grpc_web`: gRPC as browsers speak it is translated.

    Timeouts are the routes' own: streams may idle for ever, as Istio has it; headers have 10 s to arrive.
    """
    manager = HttpConnectionManager(
        codec_type=HttpConnectionManager.AUTO,
        stat_prefix=stat_prefix,
        http_filters=_filters(
            direction,
            looks_up=settings.looks_up,
            grpc_web=grpc_web,
            silent=_silent(settings.headers),
            normalises=settings.path_normalization is not NormalizationType.NONE,
        ),
        use_remote_address=BoolValue(value=direction is Direction.GATEWAY),
        xff_num_trusted_hops=settings.topology.num_trusted_proxies if direction is Direction.GATEWAY else 0,
        forward_client_cert_details=_client_certificate(direction, settings),
        server_header_transformation=HttpConnectionManager.PASS_THROUGH,
        upgrade_configs=[HttpConnectionManager.UpgradeConfig(upgrade_type="websocket")],
        stream_idle_timeout=Duration(),
        request_headers_timeout=Duration(seconds=10),
        access_log=[
            *access_logs(settings),
            *(asked_logs(settings) if direction is not Direction.OUTBOUND else ()),
            *http_logs(settings, rewrites=direction is Direction.GATEWAY or isinstance(routes, str)),
        ],
        early_header_mutation_extensions=[early] if early is not None else (),
    )
    _normalise(manager, settings.path_normalization)
    if direction is not Direction.OUTBOUND:
        manager.local_reply_config.CopyFrom(local_replies(tells=settings.tells_denials))
        manager.set_current_client_cert_details.CopyFrom(
            HttpConnectionManager.SetCurrentClientCertDetails(subject=BoolValue(value=True), dns=True, uri=True)
        )
    if direction is Direction.INBOUND:
        describe_caller(manager, settings.headers.set_current_client_cert_details)
    set_headers(manager, settings.headers, serves=direction is not Direction.OUTBOUND)
    limit_connections(manager, settings.connections)
    if isinstance(routes, str):
        manager.rds.CopyFrom(Rds(route_config_name=routes, config_source=_ads()))
    else:
        manager.route_config.CopyFrom(routes)
    return Filter(name=MANAGER, typed_config=pack(manager))


def _client_certificate(direction: Direction, settings: MeshSettings) -> ForwardDetails.ValueType:
    """What becomes of the header that tells of a client's certificate; where calls arrive the mesh's owner may say."""
    said = {
        Direction.GATEWAY: settings.topology.forward_client_cert_details,
        Direction.INBOUND: settings.headers.forwarded_client_cert,
    }.get(direction, ForwardClientCertDetails.UNDEFINED)
    return _XFCC[direction] if said is ForwardClientCertDetails.UNDEFINED else ForwardDetails.Value(said.value)


def _silent(headers: ProxyHeaders) -> bool:
    """Whether Envoy adds no `x-envoy-` headers of its own (`proxyHeaders.envoyDebugHeaders.disabled`)."""
    told = headers.envoy_debug_headers
    return bool(told and told.disabled)


def _normalise(manager: HttpConnectionManager, normalization: NormalizationType) -> None:
    """Have paths brought into one form before policies and routes read them (MeshConfig.pathNormalization); what the
    application gets is that form too, so both see the same path. Istio's default is BASE."""
    manager.normalize_path.CopyFrom(BoolValue(value=normalization is not NormalizationType.NONE))
    decodes = normalization is NormalizationType.DECODE_AND_MERGE_SLASHES
    manager.merge_slashes = decodes or normalization is NormalizationType.MERGE_SLASHES
    if decodes:
        manager.path_with_escaped_slashes_action = HttpConnectionManager.UNESCAPE_AND_FORWARD


@cache
def _filters(
    direction: Direction, *, looks_up: bool, grpc_web: bool, silent: bool, normalises: bool
) -> tuple[HttpFilter, ...]:
    """HTTP filters in the order in which a request meets them.

    Policy first: nothing that answers by itself (CORS preflights, faults) does so for one who may not ask. CORS before
    faults, since an aborted request must still be readable by the page that sent it. The ALPN mark has no order of its
    own but must precede the router, which is the end of every chain. All are there from the start, though routes may
    not use them, because a filter that came later would cost a new listener; but the lookup of hosts is there only
    where some service of the mesh asks for it, since it opens a resolver.
    """
    guard = (one_meaning(),) if normalises else ()
    policy = () if direction is Direction.OUTBOUND else (*guard, *http_filters())
    routing = []
    if direction is not Direction.INBOUND:
        routing = [
            *((_filter("envoy.filters.http.grpc_web", GrpcWeb()),) if grpc_web else ()),
            _filter("envoy.filters.http.cors", Cors()),
            _filter("envoy.filters.http.fault", HTTPFault()),
            _filter(ALPN_FILTER, _mesh_alpn()),
            *(http_lookup(guarded=True) if looks_up else ()),
        ]
    return (*policy, *routing, _filter("envoy.filters.http.router", Router(suppress_envoy_headers=silent)))


def _mesh_alpn() -> SetFilterState:
    """HTTP on the mesh's mutual TLS offers HTTP's names, so that a server that has to find out (an AUTO port) sees HTTP
    and not just a TCP connection of the mesh."""
    value = FilterStateValue(
        object_key="envoy.network.application_protocols",
        format_string=SubstitutionFormatString(text_format_source=DataSource(inline_string=",".join(HTTP_ALPN))),
        shared_with_upstream=FilterStateValue.ONCE,
    )
    return SetFilterState(on_request_headers=[value])


def _filter(name: str, config: Message) -> HttpFilter:
    return HttpFilter(name=name, typed_config=pack(config))


def _ads() -> ConfigSource:
    return ConfigSource(
        ads=AggregatedConfigSource(), resource_api_version=ApiVersion.V3, initial_fetch_timeout=Duration()
    )
