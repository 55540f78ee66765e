"""Clusters: how the proxies of a client reach each port and subset of a service.

Invariant: a cluster depends on the service, its policy and who may answer for it, never on which endpoints there are,
unless Envoy has to find them by DNS.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.address_pb2 import TcpKeepalive
from envoy.config.core.v3.config_source_pb2 import AggregatedConfigSource, ApiVersion, ConfigSource
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import UInt32Value

from gossamer.api import destination_rule as api
from gossamer.compile.balancing import balance
from gossamer.compile.calls import Call, build_call
from gossamer.compile.draft import Draft, references
from gossamer.compile.dynamic_dns import forward_proxy, look_up
from gossamer.compile.endpoints import load_assignment, members_of
from gossamer.compile.health_checks import check_health
from gossamer.compile.limits import circuit_breakers, outlier_detection, seconds
from gossamer.compile.names import BLACK_HOLE, PASSTHROUGH, cluster_name
from gossamer.compile.origins import metadata_of, service_origins
from gossamer.compile.proxy_protocol import speak_proxy_protocol
from gossamer.compile.serialise import finished
from gossamer.compile.serving import buffer_cluster, keep_case
from gossamer.compile.stat_names import outbound_stat_name
from gossamer.compile.upstream_http import http_options, plain_http_options
from gossamer.compile.upstream_tls import upstream_tls
from gossamer.core.resources import CLUSTER, ENDPOINT, Resource
from gossamer.model.health_checks import check_on
from gossamer.model.place import NOWHERE, Place
from gossamer.model.service import Protocol, Resolution, ServiceEndpoints
from gossamer.model.settings import MeshSettings, Unknown
from gossamer.model.view import OutboundService

_DNS: Final = {
    Resolution.DNS: Cluster.STRICT_DNS,
    Resolution.DNS_ROUND_ROBIN: Cluster.LOGICAL_DNS,
}


def by_dns(service_resolution: Resolution) -> bool:
    """Whether Envoy looks the endpoints up itself."""
    return service_resolution in _DNS


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """What of its callers a cluster depends on: where they are, if Envoy itself looks endpoints up, and whether the
    proxy knows the address that its caller dialled (`original`)."""

    place: Place = NOWHERE
    original: bool = False

    @property
    def anywhere(self) -> Caller:
        """The same, wherever it is."""
        return self if self.place is NOWHERE else Caller(original=self.original)


def compile_clusters(
    outbound: OutboundService, looked_up: ServiceEndpoints | None, caller: Caller, settings: MeshSettings
) -> tuple[Resource, ...]:
    """The clusters of a service: one for each port, and one for each subset of each port, so that what Envoy counts of
    a service's connections and failures is in one place. `looked_up` are the endpoints of a service that is found by
    DNS."""
    return tuple(finished(draft) for draft in _clusters(outbound, looked_up, caller, settings))


def _clusters(
    outbound: OutboundService, looked_up: ServiceEndpoints | None, caller: Caller, settings: MeshSettings
) -> Iterator[Draft]:
    if outbound.service.resolution is Resolution.ALIAS:
        return
    for port in outbound.service.ports:
        if port.protocol is not Protocol.UDP:
            for subset in (None, *outbound.destination.subsets):
                call = build_call(outbound, port, subset, settings)
                yield _cluster(call, looked_up, caller, settings)


def _cluster(call: Call, looked_up: ServiceEndpoints | None, caller: Caller, settings: MeshSettings) -> Draft:
    outbound, subset, policy = call.outbound, call.subset, call.policy
    name = cluster_name(outbound.service.hostname, call.port.number, subset.name if subset else "")
    check = check_on(outbound.checks, call.port.number)
    origins = service_origins(
        outbound.service.origin,
        *outbound.destination.origins,
        subset.origin if subset else None,
        check.origin if check else None,
    )
    cluster = Cluster(
        name=name,
        alt_stat_name=outbound_stat_name(outbound.service.hostname, call.port, subset.name if subset else "", settings),
        connect_timeout=connect_timeout(call.pool, settings),
        circuit_breakers=circuit_breakers(call.pool, policy.retry_budget),
        outlier_detection=outlier_detection(call.detection),
        common_lb_config=_common_lb(call),
        typed_extension_protocol_options=http_options(call),
        metadata=metadata_of(origins),
    )
    _place(cluster, call, looked_up, caller)
    if cluster.type in _DNS.values():
        cluster.dns_refresh_rate.CopyFrom(seconds(settings.dns_refresh))
    balance(cluster, policy.load_balancer, weighted=call.nearness is not None and call.nearness.weighted)
    keep_alive(cluster, call.pool, settings)
    upstream_tls(cluster, call, settings)
    speak_proxy_protocol(cluster, policy.proxy_protocol)
    check_health(cluster, call, check)
    buffer_cluster(cluster, settings.connections)
    keep_case(cluster, settings.headers)
    refers = references(ENDPOINT, [name]) if cluster.type == Cluster.EDS else frozenset()
    return Draft(type_url=CLUSTER, name=name, message=cluster, references=refers, origins=origins)


def _place(cluster: Cluster, call: Call, looked_up: ServiceEndpoints | None, caller: Caller) -> None:
    """Where the cluster's endpoints come from."""
    resolution, balancer = call.outbound.service.resolution, call.policy.load_balancer
    asked_for = balancer is not None and balancer.simple is api.SimpleLB.PASSTHROUGH
    kind = _DNS.get(resolution)
    if resolution is Resolution.DYNAMIC_DNS:
        look_up(cluster)
        return
    if caller.original and (asked_for or resolution is Resolution.NONE):
        cluster.type = Cluster.ORIGINAL_DST
        cluster.lb_policy = Cluster.CLUSTER_PROVIDED
    elif kind is not None and looked_up is not None:
        members = members_of(call.subset, looked_up.by_port.get(call.port.number, ()))
        assignment = load_assignment(cluster.name, members, call.nearness, caller.place)
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


def _common_lb(call: Call) -> Cluster.CommonLbConfig:
    """Envoy's panic mode: below `minHealthPercent` of the endpoints healthy, all are called. Without outlier detection
    it begins when none is: who lost touch with the control plane all at once may well still be there."""
    config = Cluster.CommonLbConfig()
    config.healthy_panic_threshold.value = float(call.detection.min_health_percent) if call.detection else 1.0
    balancer = call.policy.load_balancer
    by_policy = balancer is not None and balancer.backend_utilization is not None  # it weighs localities itself
    if call.nearness is not None and call.nearness.weighted and not by_policy:
        config.locality_weighted_lb_config.SetInParent()
    return config


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
        typed_extension_protocol_options=plain_http_options(),
    )
    black_hole = Cluster(name=BLACK_HOLE, type=Cluster.STATIC, connect_timeout=seconds(settings.connect_timeout))
    looked_up = settings.outbound.unknown is Unknown.ALLOW_ANY_DYNAMIC_DNS
    drafts = (
        Draft(type_url=CLUSTER, name=cluster.name, message=cluster, references=frozenset())
        for cluster in (black_hole, passthrough)
    )
    return (*drafts, *((forward_proxy(settings),) if looked_up else ()))
