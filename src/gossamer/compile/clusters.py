"""Clusters: how the proxies of a client reach each port and subset of a service.

Invariant: a cluster depends on the service, its policy and who may answer for it, never on which endpoints there are,
unless Envoy has to find them by DNS.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.address_pb2 import TcpKeepalive
from envoy.config.core.v3.config_source_pb2 import AggregatedConfigSource, ApiVersion, ConfigSource
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import UInt32Value

from gossamer.api import destination_rule as api
from gossamer.compile.balancing import balance
from gossamer.compile.draft import Draft, references
from gossamer.compile.dynamic_dns import forward_proxy, look_up
from gossamer.compile.endpoints import load_assignment
from gossamer.compile.limits import circuit_breakers, http_options, outlier_detection, seconds
from gossamer.compile.names import BLACK_HOLE, PASSTHROUGH, cluster_name
from gossamer.compile.origins import metadata_of, service_origins
from gossamer.compile.serialise import finished
from gossamer.compile.upstream_tls import upstream_tls
from gossamer.core.resources import CLUSTER, ENDPOINT, Resource
from gossamer.model.destinations import Subset
from gossamer.model.service import Port, Protocol, Resolution, ServiceEndpoints
from gossamer.model.settings import MeshSettings, Unknown
from gossamer.model.view import OutboundService

_DNS: Final = {
    Resolution.DNS: Cluster.STRICT_DNS,
    Resolution.DNS_ROUND_ROBIN: Cluster.LOGICAL_DNS,
}


def by_dns(service_resolution: Resolution) -> bool:
    """Whether Envoy looks the endpoints up itself."""
    return service_resolution in _DNS


def compile_clusters(
    outbound: OutboundService, looked_up: ServiceEndpoints | None, settings: MeshSettings, *, original: bool
) -> tuple[Resource, ...]:
    """The clusters of a service: one for each port, and one for each subset of each port.

    `looked_up` are the endpoints of a service that is found by DNS; `original` says whether the proxy knows the address
    that its caller dialled.
    """
    return tuple(finished(draft) for draft in _clusters(outbound, looked_up, settings, original))


def _clusters(
    outbound: OutboundService, looked_up: ServiceEndpoints | None, settings: MeshSettings, original: bool
) -> Iterator[Draft]:
    if outbound.service.resolution is Resolution.ALIAS:
        return
    for port in outbound.service.ports:
        if port.protocol is not Protocol.UDP:
            for subset in (None, *outbound.destination.subsets):
                yield _cluster(outbound, port, subset, looked_up, settings, original=original)


def _cluster(
    outbound: OutboundService,
    port: Port,
    subset: Subset | None,
    looked_up: ServiceEndpoints | None,
    settings: MeshSettings,
    *,
    original: bool,
) -> Draft:
    service, destination = outbound.service, outbound.destination
    name = cluster_name(service.hostname, port.number, subset.name if subset else "")
    policy = destination.on(port.number, subset)
    origins = service_origins(service.origin, *destination.origins, subset.origin if subset else None)
    pool = policy.connection_pool or settings.default_pool
    detection = policy.outlier_detection or settings.default_outlier_detection
    cluster = Cluster(
        name=name,
        connect_timeout=connect_timeout(pool, settings),
        circuit_breakers=circuit_breakers(pool, policy.retry_budget),
        outlier_detection=outlier_detection(detection),
        common_lb_config=_common_lb(detection),
        typed_extension_protocol_options=http_options(pool, port.protocol, upgrade=settings.upgrade_to_http2),
        metadata=metadata_of(origins),
    )
    _place(cluster, outbound, port, subset, looked_up, original=original)
    balance(cluster, policy.load_balancer)
    keep_alive(cluster, pool, settings)
    upstream_tls(cluster, outbound, port, subset, policy, settings)
    refers = references(ENDPOINT, [name]) if cluster.type == Cluster.EDS else frozenset()
    return Draft(type_url=CLUSTER, name=name, message=cluster, references=refers, origins=origins)


def _place(
    cluster: Cluster,
    outbound: OutboundService,
    port: Port,
    subset: Subset | None,
    looked_up: ServiceEndpoints | None,
    *,
    original: bool,
) -> None:
    """Where the cluster's endpoints come from."""
    balancer = outbound.destination.on(port.number, subset).load_balancer
    asked_for = balancer is not None and balancer.simple is api.SimpleLB.PASSTHROUGH
    kind = _DNS.get(outbound.service.resolution)
    if outbound.service.resolution is Resolution.DYNAMIC_DNS:
        look_up(cluster)
        return
    if original and (asked_for or outbound.service.resolution is Resolution.NONE):
        cluster.type = Cluster.ORIGINAL_DST
        cluster.lb_policy = Cluster.CLUSTER_PROVIDED
    elif kind is not None and looked_up is not None:
        assignment = load_assignment(cluster.name, looked_up.by_port.get(port.number, ()), subset)
        several = sum(len(group.lb_endpoints) for group in assignment.endpoints) != 1
        cluster.type = Cluster.STRICT_DNS if several else kind
        cluster.load_assignment.CopyFrom(assignment)
        cluster.dns_lookup_family = Cluster.V4_PREFERRED
        cluster.respect_dns_ttl = True
    else:
        cluster.type = Cluster.EDS
        cluster.eds_cluster_config.eds_config.CopyFrom(_ADS)


_ADS: Final = ConfigSource(
    ads=AggregatedConfigSource(), resource_api_version=ApiVersion.V3, initial_fetch_timeout=Duration()
)


def connect_timeout(pool: api.ConnectionPoolSettings | None, settings: MeshSettings) -> Duration:
    """How long a connection may take to be made: as the pool says, else as the mesh does."""
    tcp = pool.tcp if pool else None
    if tcp is not None and tcp.connect_timeout is not None:
        return seconds(tcp.connect_timeout.total_seconds())
    return seconds(settings.connect_timeout)


def _common_lb(detection: api.OutlierDetection | None) -> Cluster.CommonLbConfig:
    """Envoy's panic mode: below `minHealthPercent` of the endpoints healthy, all are called. Without outlier detection
    it begins when none is: who lost touch with the control plane all at once may well still be there."""
    threshold = Cluster.CommonLbConfig().healthy_panic_threshold
    threshold.value = float(detection.min_health_percent) if detection is not None else 1.0
    return Cluster.CommonLbConfig(healthy_panic_threshold=threshold)


def keep_alive(cluster: Cluster, pool: api.ConnectionPoolSettings | None, settings: MeshSettings) -> None:
    """Have idle connections probed by TCP, as the pool says, else as the mesh does."""
    chosen = (pool.tcp.tcp_keepalive if pool and pool.tcp else None) or settings.tcp_keepalive
    if chosen is None:
        return
    keepalive = TcpKeepalive()
    if chosen.probes:
        keepalive.keepalive_probes.CopyFrom(UInt32Value(value=chosen.probes))
    if chosen.time:
        keepalive.keepalive_time.CopyFrom(UInt32Value(value=int(chosen.time.total_seconds())))
    if chosen.interval:
        keepalive.keepalive_interval.CopyFrom(UInt32Value(value=int(chosen.interval.total_seconds())))
    cluster.upstream_connection_options.tcp_keepalive.CopyFrom(keepalive)


def passthrough_clusters(settings: MeshSettings) -> tuple[Draft, ...]:
    """Where a sidecar sends what nobody declared: to the address that was dialled, to the host that was asked for, or
    nowhere."""
    passthrough = Cluster(
        name=PASSTHROUGH,
        type=Cluster.ORIGINAL_DST,
        lb_policy=Cluster.CLUSTER_PROVIDED,
        connect_timeout=seconds(settings.connect_timeout),
        circuit_breakers=circuit_breakers(None, None),
        typed_extension_protocol_options=http_options(None, Protocol.AUTO, upgrade=False),
    )
    black_hole = Cluster(name=BLACK_HOLE, type=Cluster.STATIC, connect_timeout=seconds(settings.connect_timeout))
    looked_up = settings.outbound.unknown is Unknown.ALLOW_ANY_DYNAMIC_DNS
    drafts = (
        Draft(type_url=CLUSTER, name=cluster.name, message=cluster, references=frozenset())
        for cluster in (black_hole, passthrough)
    )
    return (*drafts, *((forward_proxy(settings),) if looked_up else ()))
