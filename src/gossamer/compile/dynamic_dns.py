"""Hosts that a proxy looks up as they are asked for: by the name in the request, or in the TLS handshake.

Invariant: what was looked up is called only if it is not the proxy's own host. The application may have no way to what
listens on its loopback, and is given none by a name that leads there.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Final

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.address_pb2 import CidrRange
from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.config.listener.v3.listener_components_pb2 import Filter
from envoy.config.rbac.v3.rbac_pb2 import RBAC, Permission, Policy, Principal
from envoy.extensions.clusters.dynamic_forward_proxy.v3.cluster_pb2 import ClusterConfig
from envoy.extensions.common.dynamic_forward_proxy.v3.dns_cache_pb2 import DnsCacheConfig
from envoy.extensions.filters.http.dynamic_forward_proxy.v3.dynamic_forward_proxy_pb2 import FilterConfig
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_rbac
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import HttpFilter
from envoy.extensions.filters.network.rbac.v3 import rbac_pb2 as network_rbac
from envoy.extensions.filters.network.sni_dynamic_forward_proxy.v3.sni_dynamic_forward_proxy_pb2 import (
    FilterConfig as ServerNameConfig,
)
from envoy.extensions.rbac.matchers.upstream_ip_port.v3.upstream_ip_port_matcher_pb2 import UpstreamIpPortMatcher
from envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions
from google.protobuf.wrappers_pb2 import UInt32Value

from gossamer.api.destination_rule import ClientTLSMode
from gossamer.compile.draft import Draft, pack
from gossamer.compile.limits import circuit_breakers, seconds
from gossamer.compile.names import FORWARD_PROXY
from gossamer.compile.tls import client_context
from gossamer.compile.upstream_http import HTTP_OPTIONS, plain_http_options
from gossamer.core.resources import CLUSTER
from gossamer.model.settings import MeshSettings

CACHE: Final = DnsCacheConfig(name="forward-proxy", dns_lookup_family=Cluster.V4_PREFERRED)
"""One for a whole proxy: Envoy wants all that use a cache to describe it alike."""
_OWN_HOST: Final = (("0.0.0.0", 8), ("127.0.0.0", 8), ("::", 127), ("::ffff:127.0.0.0", 104))  # noqa: S104 - denied


def look_up(cluster: Cluster) -> None:
    """Have the cluster find its endpoint by the host that is asked for. TLS names that host, if the cluster speaks any,
    and believes no other: Envoy wants it said of every such cluster that speaks HTTP."""
    cluster.lb_policy = Cluster.CLUSTER_PROVIDED
    cluster.cluster_type.name = "envoy.clusters.dynamic_forward_proxy"
    cluster.cluster_type.typed_config.CopyFrom(pack(ClusterConfig(dns_cache_config=CACHE)))
    if HTTP_OPTIONS in cluster.typed_extension_protocol_options:
        options = HttpProtocolOptions.FromString(cluster.typed_extension_protocol_options[HTTP_OPTIONS].value)
        options.upstream_http_protocol_options.auto_sni = True
        options.upstream_http_protocol_options.auto_san_validation = True
        cluster.typed_extension_protocol_options[HTTP_OPTIONS].CopyFrom(pack(options))


def forward_proxy(settings: MeshSettings) -> Draft:
    """The cluster of hosts that nobody declared; TLS is spoken to them if `outboundTrafficPolicy.tls` says so."""
    tls = settings.outbound.tls
    cluster = Cluster(
        name=FORWARD_PROXY,
        connect_timeout=seconds(settings.connect_timeout),
        circuit_breakers=circuit_breakers(None, None),
        typed_extension_protocol_options=plain_http_options(),
    )
    look_up(cluster)
    if tls is not None and tls.mode in (ClientTLSMode.SIMPLE, ClientTLSMode.MUTUAL):
        own = replace(settings.tls.of_client(tls), subject_alt_names=())
        cluster.transport_socket.CopyFrom(client_context(own, tls.sni, chosen=settings.tls.others))
    return Draft(type_url=CLUSTER, name=FORWARD_PROXY, message=cluster, references=frozenset())


@cache
def http_lookup(*, guarded: bool) -> tuple[HttpFilter, ...]:
    """The HTTP filters before the router that look up the hosts of routes to such clusters."""
    config = FilterConfig(dns_cache_config=CACHE, save_upstream_address=guarded)
    lookup = HttpFilter(name="envoy.filters.http.dynamic_forward_proxy", typed_config=pack(config))
    guard = HttpFilter(name="gossamer.own_host", typed_config=pack(http_rbac.RBAC(rules=_not_own_host())))
    return (lookup, guard) if guarded else (lookup,)


def server_name_lookup(port: int) -> tuple[Filter, ...]:
    """The network filters before the TCP proxy that look up the name in the TLS handshake, to be called on `port`."""
    config = ServerNameConfig(dns_cache_config=CACHE, port_value=port, save_upstream_address=True)
    guard = network_rbac.RBAC(rules=_not_own_host(), stat_prefix="own_host")
    return (
        Filter(name="envoy.filters.network.sni_dynamic_forward_proxy", typed_config=pack(config)),
        Filter(name="gossamer.own_host", typed_config=pack(guard)),
    )


def _not_own_host() -> RBAC:
    matchers = [
        UpstreamIpPortMatcher(upstream_ip=CidrRange(address_prefix=prefix, prefix_len=UInt32Value(value=bits)))
        for prefix, bits in _OWN_HOST
    ]
    permissions = [
        Permission(matcher=TypedExtensionConfig(name="envoy.rbac.matchers.upstream_ip_port", typed_config=pack(one)))
        for one in matchers
    ]
    policy = Policy(permissions=permissions, principals=[Principal(any=True)])
    return RBAC(action=RBAC.DENY, policies={"own-host": policy})
