"""Load balancers of clusters, and what routes must hash for those that go by a hash.

Invariant: without a word from anyone it is the fewest outstanding requests (Istio's default).
"""

from __future__ import annotations

from typing import Final

from envoy.config.cluster.v3.cluster_pb2 import Cluster, LoadBalancingPolicy
from envoy.config.core.v3.base_pb2 import RuntimeDouble
from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.config.route.v3.route_components_pb2 import RouteAction
from envoy.extensions.load_balancing_policies.client_side_weighted_round_robin.v3.client_side_weighted_round_robin_pb2 import (  # noqa: E501 - its name
    ClientSideWeightedRoundRobin,
)
from envoy.extensions.load_balancing_policies.wrr_locality.v3.wrr_locality_pb2 import WrrLocality
from envoy.type.v3.hash_policy_pb2 import HashPolicy
from envoy.type.v3.percent_pb2 import Percent
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import UInt64Value

from gossamer.api import destination_rule as api
from gossamer.compile.draft import pack
from gossamer.compile.limits import seconds

_SIMPLE: Final = {
    api.SimpleLB.RANDOM: Cluster.RANDOM,
    api.SimpleLB.ROUND_ROBIN: Cluster.ROUND_ROBIN,
}


def balance(cluster: Cluster, settings: api.LoadBalancerSettings | None, *, weighted: bool) -> None:
    """Set the cluster's load balancer; one that goes to where its caller dialled stays as it is. `weighted`:
    localities have weights of their own."""
    if cluster.lb_policy == Cluster.CLUSTER_PROVIDED:
        return
    if settings is None:
        cluster.lb_policy = Cluster.LEAST_REQUEST
        return
    slow = _slow_start(settings)
    if settings.consistent_hash is not None:
        _by_hash(cluster, settings.consistent_hash)
        return
    if settings.backend_utilization is not None:
        cluster.load_balancing_policy.CopyFrom(_by_utilization(settings.backend_utilization, slow, weighted=weighted))
        return
    cluster.lb_policy = _SIMPLE.get(settings.simple or api.SimpleLB.UNSPECIFIED, Cluster.LEAST_REQUEST)
    if slow is not None and cluster.lb_policy == Cluster.LEAST_REQUEST:
        cluster.least_request_lb_config.slow_start_config.CopyFrom(slow)
    elif slow is not None and cluster.lb_policy == Cluster.ROUND_ROBIN:
        cluster.round_robin_lb_config.slow_start_config.CopyFrom(slow)


def _by_utilization(
    settings: api.BackendUtilizationLB, slow: Cluster.SlowStartConfig | None, *, weighted: bool
) -> LoadBalancingPolicy:
    """Weights from the load that endpoints report with their responses (ORCA)."""
    config = ClientSideWeightedRoundRobin(
        metric_names_for_computing_utilization=settings.metric_names_for_computing_utilization
    )
    if settings.error_utilization_penalty_percent:
        config.error_utilization_penalty.value = settings.error_utilization_penalty_percent / 100
    periods = (
        (config.blackout_period, settings.weight_stabilization_period),
        (config.weight_expiration_period, settings.weight_expiration_period),
        (config.weight_update_period, settings.weight_update_period),
    )
    for period, given in periods:
        if given is not None:
            period.CopyFrom(seconds(given.total_seconds()))
    if slow is not None:
        config.slow_start_config.MergeFromString(slow.SerializeToString())  # the same message under another name
    policy = _policy("client_side_weighted_round_robin", config)
    return _policy("wrr_locality", WrrLocality(endpoint_picking_policy=policy)) if weighted else policy


def _policy(name: str, config: Message) -> LoadBalancingPolicy:
    extension = TypedExtensionConfig(name=f"envoy.load_balancing_policies.{name}", typed_config=pack(config))
    return LoadBalancingPolicy(policies=[LoadBalancingPolicy.Policy(typed_extension_config=extension)])


def _by_hash(cluster: Cluster, settings: api.ConsistentHashLB) -> None:
    if settings.maglev is not None:
        cluster.lb_policy = Cluster.MAGLEV
        if settings.maglev.table_size:
            cluster.maglev_lb_config.table_size.CopyFrom(UInt64Value(value=settings.maglev.table_size))
        return
    cluster.lb_policy = Cluster.RING_HASH
    size = settings.ring_hash.minimum_ring_size if settings.ring_hash else settings.minimum_ring_size
    cluster.ring_hash_lb_config.minimum_ring_size.CopyFrom(UInt64Value(value=size or 1024))


def _slow_start(settings: api.LoadBalancerSettings) -> Cluster.SlowStartConfig | None:
    warmup = settings.warmup
    if warmup is None:
        if settings.warmup_duration_secs is None:
            return None
        return Cluster.SlowStartConfig(slow_start_window=seconds(settings.warmup_duration_secs.total_seconds()))
    config = Cluster.SlowStartConfig(slow_start_window=seconds(warmup.duration.total_seconds()))
    if warmup.minimum_percent is not None:
        config.min_weight_percent.CopyFrom(Percent(value=warmup.minimum_percent))
    if warmup.aggression is not None:
        config.aggression.CopyFrom(
            RuntimeDouble(default_value=warmup.aggression, runtime_key="gossamer.slow_start.aggression")
        )
    return config


def hash_policies(settings: api.ConsistentHashLB | None) -> list[RouteAction.HashPolicy]:
    """What an HTTP route hashes for a destination with consistent hashing."""
    if settings is None:
        return []
    if settings.http_header_name:
        return [RouteAction.HashPolicy(header=RouteAction.HashPolicy.Header(header_name=settings.http_header_name))]
    if settings.http_cookie is not None:
        cookie = RouteAction.HashPolicy.Cookie(name=settings.http_cookie.name, path=settings.http_cookie.path)
        if settings.http_cookie.ttl is not None:
            cookie.ttl.CopyFrom(seconds(settings.http_cookie.ttl.total_seconds()))
        for attribute in settings.http_cookie.attributes:
            cookie.attributes.append(RouteAction.HashPolicy.CookieAttribute(name=attribute.name, value=attribute.value))
        return [RouteAction.HashPolicy(cookie=cookie)]
    if settings.use_source_ip:
        properties = RouteAction.HashPolicy.ConnectionProperties(source_ip=True)
        return [RouteAction.HashPolicy(connection_properties=properties)]
    if settings.http_query_parameter_name:
        parameter = RouteAction.HashPolicy.QueryParameter(name=settings.http_query_parameter_name)
        return [RouteAction.HashPolicy(query_parameter=parameter)]
    return []


def tcp_hash_policies(settings: api.ConsistentHashLB | None) -> list[HashPolicy]:
    """What a TCP proxy hashes: the caller's address, where that is asked for."""
    return [HashPolicy(source_ip=HashPolicy.SourceIp())] if settings is not None and settings.use_source_ip else []
