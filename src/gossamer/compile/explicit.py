"""The HTTP proxy of a workload whose traffic nobody redirects, and where it looks up hosts that nobody declared.

Invariant: the proxy serves plain HTTP. A client that asks it for a tunnel (CONNECT) is refused: what went through it
would be neither routed nor seen.
"""

from __future__ import annotations

from typing import Final

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.base_pb2 import OUTBOUND
from envoy.config.listener.v3.listener_components_pb2 import Filter, FilterChain
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.clusters.dynamic_forward_proxy.v3.cluster_pb2 import ClusterConfig
from envoy.extensions.common.dynamic_forward_proxy.v3.dns_cache_pb2 import DnsCacheConfig
from envoy.extensions.filters.http.dynamic_forward_proxy.v3.dynamic_forward_proxy_pb2 import FilterConfig
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
    HttpFilter,
)

from gossamer.compile.draft import Draft, pack, references
from gossamer.compile.hcm import Direction, connection_manager
from gossamer.compile.limits import circuit_breakers, seconds
from gossamer.compile.names import FORWARD_PROXY
from gossamer.compile.streams import socket
from gossamer.core.resources import CLUSTER, LISTENER, ROUTE
from gossamer.model.explicit import PROXY_TABLE
from gossamer.model.proxy import Capture
from gossamer.model.settings import MeshSettings

_CACHE: Final = DnsCacheConfig(name="forward-proxy", dns_lookup_family=Cluster.V4_PREFERRED)


def http_proxy(capture: Capture, settings: MeshSettings) -> tuple[Draft, ...]:
    """The HTTP proxy's listener, and the cluster of hosts that it looks up."""
    name = f"{capture.address}_{capture.http_proxy_port}"
    listener = Listener(
        name=name,
        address=socket(capture.address, capture.http_proxy_port),
        traffic_direction=OUTBOUND,
        filter_chains=[FilterChain(name=PROXY_TABLE, filters=[_manager(name, settings)])],
    )
    named = references(ROUTE, [PROXY_TABLE]) | references(CLUSTER, [FORWARD_PROXY])
    return (
        Draft(type_url=CLUSTER, name=FORWARD_PROXY, message=_cluster(settings), references=frozenset()),
        Draft(type_url=LISTENER, name=name, message=listener, references=named),
    )


def _manager(name: str, settings: MeshSettings) -> Filter:
    """A connection manager that looks up the hosts of routes to the forward proxy's cluster."""
    made = connection_manager(Direction.OUTBOUND, f"outbound_{name}", PROXY_TABLE, settings)
    manager = HttpConnectionManager.FromString(made.typed_config.value)
    lookup = HttpFilter(
        name="envoy.filters.http.dynamic_forward_proxy", typed_config=pack(FilterConfig(dns_cache_config=_CACHE))
    )
    *others, router = manager.http_filters
    del manager.http_filters[:]
    manager.http_filters.extend([*others, lookup, router])
    return Filter(name=made.name, typed_config=pack(manager))


def _cluster(settings: MeshSettings) -> Cluster:
    return Cluster(
        name=FORWARD_PROXY,
        connect_timeout=seconds(settings.connect_timeout),
        lb_policy=Cluster.CLUSTER_PROVIDED,
        circuit_breakers=circuit_breakers(None, None),
        cluster_type=Cluster.CustomClusterType(
            name="envoy.clusters.dynamic_forward_proxy", typed_config=pack(ClusterConfig(dns_cache_config=_CACHE))
        ),
    )
