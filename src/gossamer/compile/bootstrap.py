"""What one Envoy is started with: who it is, and where its agent, its secrets and its admin interface are.

Invariant: nothing that can change while it runs is in here; all that travels over xDS. Every address is a UNIX socket,
so a bootstrap opens no port (but the readiness listener, where one is asked for).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from envoy.config.bootstrap.v3.bootstrap_pb2 import Admin, Bootstrap, LayeredRuntime, RuntimeLayer
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.address_pb2 import Address, Pipe, SocketAddress
from envoy.config.core.v3.backoff_pb2 import BackoffStrategy
from envoy.config.core.v3.base_pb2 import Locality, Node, RetryPolicy
from envoy.config.core.v3.config_source_pb2 import (
    AggregatedConfigSource,
    ApiConfigSource,
    ApiVersion,
    ConfigSource,
)
from envoy.config.core.v3.grpc_service_pb2 import GrpcService
from envoy.config.core.v3.protocol_pb2 import Http2ProtocolOptions
from envoy.config.endpoint.v3.endpoint_components_pb2 import Endpoint, LbEndpoint, LocalityLbEndpoints
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_components_pb2 import Filter, FilterChain
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.metrics.v3.stats_pb2 import StatsConfig, StatsdSink, StatsSink
from envoy.config.overload.v3.overload_pb2 import OverloadManager, ResourceMonitor
from envoy.config.route.v3.route_components_pb2 import HeaderMatcher
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.http.health_check.v3.health_check_pb2 import HealthCheck
from envoy.extensions.filters.http.router.v3.router_pb2 import Router
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
    HttpFilter,
)
from envoy.extensions.resource_monitors.downstream_connections.v3.downstream_connections_pb2 import (
    DownstreamConnectionsConfig,
)
from envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions
from envoy.type.matcher.v3.string_pb2 import StringMatcher
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToJson
from google.protobuf.struct_pb2 import Struct
from google.protobuf.wrappers_pb2 import BoolValue

from gossamer.compile.agent_clusters import SDS_CLUSTER, XDS_CLUSTER
from gossamer.compile.draft import pack
from gossamer.compile.patches.bootstrap import BootstrapPatch, patch_bootstrap
from gossamer.model.node_metadata import node_metadata
from gossamer.model.proxy import CaptureMode, Proxy, ProxyType
from gossamer.model.started import DEFAULT, ProxySettings

READY_PATH: Final = "/healthz/ready"
_HTTP_OPTIONS: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_RUNTIME: Final = {
    # a user's long regular expression is refused when it is validated, not by Envoy's default of 100
    "re2.max_program_size.error_level": 32768,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BootstrapSettings:
    """What the agent decides for one Envoy. Sockets are paths; `ready_port` 0 means no readiness listener."""

    xds_socket: str
    sds_socket: str
    admin_socket: str
    domain: str = "cluster.local"
    max_connections: int = 50_000
    """Open downstream connections at most; more are closed at once, so that Envoy never runs out of descriptors."""
    ready_address: str = "127.0.0.1"
    ready_port: int = 0
    ready_network: str = ""
    """Path of the network namespace in which the readiness listener is opened; empty for Envoy's own."""


def compile_bootstrap(
    proxy: Proxy,
    settings: BootstrapSettings,
    started: ProxySettings = DEFAULT,
    patches: Iterable[BootstrapPatch] = (),
) -> str:
    """The bootstrap as JSON, in original field names, as `started` and the patches of EnvoyFilters have it. Equal
    arguments give equal text."""
    bootstrap = _bootstrap(proxy, settings, started)
    patch_bootstrap(bootstrap, patches)
    return MessageToJson(bootstrap, preserving_proto_field_name=True, sort_keys=True, indent=1)


def _bootstrap(proxy: Proxy, settings: BootstrapSettings, started: ProxySettings) -> Bootstrap:
    connections = started.max_connections
    bootstrap = Bootstrap(
        node=_node(proxy, settings.domain, started),
        admin=Admin(address=_pipe(settings.admin_socket, 0o600)),
        layered_runtime=_runtime(started),
        overload_manager=_limits(settings.max_connections if connections is None else connections),
        stats_sinks=_statsd(started.statsd),
        stats_config=StatsConfig(use_all_default_tags=BoolValue(value=True)),
    )
    # clusters that were never called keep no counters: a thousand of them would cost every sidecar megabytes
    bootstrap.deferred_stat_options.enable_deferred_creation_stats = True
    bootstrap.static_resources.clusters.extend(
        [_agent_cluster(XDS_CLUSTER, settings.xds_socket), _agent_cluster(SDS_CLUSTER, settings.sds_socket)]
    )
    if settings.ready_port:
        bootstrap.static_resources.listeners.append(_ready_listener(settings))
    dynamic = bootstrap.dynamic_resources
    dynamic.ads_config.CopyFrom(_ads())
    # 0: wait for the first answer for ever, and so be ready only with a configuration
    source = ConfigSource(
        ads=AggregatedConfigSource(), resource_api_version=ApiVersion.V3, initial_fetch_timeout=Duration()
    )
    dynamic.cds_config.CopyFrom(source)
    dynamic.lds_config.CopyFrom(source)
    return bootstrap


def node_id(proxy: Proxy, domain: str) -> str:
    """Istio's form: `sidecar~IP~WORKLOAD.NAMESPACE~NAMESPACE.svc.DOMAIN`."""
    address = proxy.addresses[0] if proxy.addresses else "127.0.0.1"
    return f"{proxy.type.value}~{address}~{proxy.name}.{proxy.namespace}~{proxy.namespace}.svc.{domain}"


def _node(proxy: Proxy, domain: str, started: ProxySettings) -> Node:
    # for people and tools that read config dumps: the control plane goes by the certificate alone
    metadata = Struct()
    metadata.update(
        {
            **node_metadata(proxy, started.environment),
            "LABELS": dict(proxy.labels),
            "CAPTURE": proxy.capture.mode.value if proxy.type is ProxyType.SIDECAR else CaptureMode.EXPLICIT.value,
        }
    )
    region, zone, sub_zone = (*proxy.locality.split("/"), "", "", "")[:3]
    return Node(
        id=node_id(proxy, domain),
        cluster=f"{proxy.name}.{proxy.namespace}",
        metadata=metadata,
        locality=Locality(region=region, zone=zone, sub_zone=sub_zone),
    )


def _pipe(path: str, mode: int = 0) -> Address:
    return Address(pipe=Pipe(path=path, mode=mode))


def _agent_cluster(name: str, path: str) -> Cluster:
    """The agent over its UNIX socket, spoken to in HTTP/2."""
    options = HttpProtocolOptions(
        explicit_http_config=HttpProtocolOptions.ExplicitHttpConfig(http2_protocol_options=Http2ProtocolOptions())
    )
    endpoint = LbEndpoint(endpoint=Endpoint(address=_pipe(path)))
    cluster = Cluster(
        name=name,
        type=Cluster.STATIC,
        connect_timeout=Duration(seconds=1),
        load_assignment=ClusterLoadAssignment(
            cluster_name=name, endpoints=[LocalityLbEndpoints(lb_endpoints=[endpoint])]
        ),
    )
    cluster.typed_extension_protocol_options[_HTTP_OPTIONS].CopyFrom(pack(options))
    return cluster


def _ads() -> ApiConfigSource:
    # the agent is on this host: after its restart every sidecar should be back within moments
    again = RetryPolicy(
        retry_back_off=BackoffStrategy(base_interval=Duration(nanos=100_000_000), max_interval=Duration(seconds=2))
    )
    service = GrpcService(envoy_grpc=GrpcService.EnvoyGrpc(cluster_name=XDS_CLUSTER, retry_policy=again))
    return ApiConfigSource(
        api_type=ApiConfigSource.DELTA_GRPC,
        transport_api_version=ApiVersion.V3,
        grpc_services=[service],
        set_node_on_first_message_only=True,
    )


def _runtime(started: ProxySettings) -> LayeredRuntime:
    static = Struct()
    static.update({**_RUNTIME, **started.runtime})
    return LayeredRuntime(
        layers=[
            RuntimeLayer(name="gossamer", static_layer=static),
            RuntimeLayer(name="admin", admin_layer=RuntimeLayer.AdminLayer()),
        ]
    )


def _statsd(address: str) -> list[StatsSink]:
    """Statistics over UDP to a statsd server, by its address."""
    place = statsd_place(address)
    if place is None:
        return []
    host, port = place
    udp = Address(socket_address=SocketAddress(protocol=SocketAddress.UDP, address=host, port_value=port))
    return [StatsSink(name="envoy.stat_sinks.statsd", typed_config=pack(StatsdSink(address=udp)))]


def statsd_place(address: str) -> tuple[str, int] | None:
    """IP and port of a statsd server; None for what is not `IP:PORT`, as Envoy looks up no name for it."""
    host, _, port = address.rpartition(":")
    try:
        return str(ip_address(host.strip("[]"))), int(port)
    except ValueError:
        return None


def _limits(connections: int) -> OverloadManager:
    monitor = DownstreamConnectionsConfig(max_active_downstream_connections=connections)
    return OverloadManager(
        resource_monitors=[
            ResourceMonitor(
                name="envoy.resource_monitors.global_downstream_max_connections", typed_config=pack(monitor)
            )
        ]
    )


def _ready_listener(settings: BootstrapSettings) -> Listener:
    """Answers READY_PATH with 200 while Envoy serves and 503 while it drains; 404 to anything else."""
    check = HealthCheck(
        pass_through_mode=BoolValue(value=False),
        headers=[HeaderMatcher(name=":path", string_match=StringMatcher(exact=READY_PATH))],
    )
    manager = HttpConnectionManager(
        stat_prefix="ready",
        route_config=RouteConfiguration(name="ready"),
        http_filters=list(
            _filters((("envoy.filters.http.health_check", check), ("envoy.filters.http.router", Router())))
        ),
    )
    chain = FilterChain(
        filters=[Filter(name="envoy.filters.network.http_connection_manager", typed_config=pack(manager))]
    )
    return Listener(
        name="ready",
        address=Address(
            socket_address=SocketAddress(
                address=settings.ready_address,
                port_value=settings.ready_port,
                network_namespace_filepath=settings.ready_network,
            )
        ),
        filter_chains=[chain],
        ignore_global_conn_limit=True,
    )


def _filters(filters: Iterable[tuple[str, HealthCheck | Router]]) -> Iterable[HttpFilter]:
    return (HttpFilter(name=name, typed_config=pack(message)) for name, message in filters)
