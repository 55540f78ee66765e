"""Envoy's messages out of their envelopes: which types are simulated, and what an address says.

Invariant: a message of a type that is not simulated is never taken for another.
"""

from __future__ import annotations

from typing import Final, TypeVar

from envoy.config.core.v3.address_pb2 import Address as EnvoyAddress
from envoy.config.route.v3.route_components_pb2 import FilterConfig
from envoy.extensions.clusters.aggregate.v3.cluster_pb2 import ClusterConfig as AggregateConfig
from envoy.extensions.clusters.dynamic_forward_proxy.v3.cluster_pb2 import ClusterConfig as ForwardProxyConfig
from envoy.extensions.filters.http.cors.v3.cors_pb2 import Cors, CorsPolicy
from envoy.extensions.filters.http.ext_authz.v3 import ext_authz_pb2 as http_ext_authz_pb2
from envoy.extensions.filters.http.fault.v3.fault_pb2 import HTTPFault
from envoy.extensions.filters.http.jwt_authn.v3.config_pb2 import JwtAuthentication
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_rbac_pb2
from envoy.extensions.filters.http.router.v3.router_pb2 import Router
from envoy.extensions.filters.http.set_filter_state.v3.set_filter_state_pb2 import Config as SetFilterState
from envoy.extensions.filters.listener.http_inspector.v3.http_inspector_pb2 import HttpInspector
from envoy.extensions.filters.listener.original_dst.v3.original_dst_pb2 import OriginalDst
from envoy.extensions.filters.listener.tls_inspector.v3.tls_inspector_pb2 import TlsInspector
from envoy.extensions.filters.network.direct_response.v3.config_pb2 import Config as DirectResponse
from envoy.extensions.filters.network.ext_authz.v3 import ext_authz_pb2 as network_ext_authz_pb2
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from envoy.extensions.filters.network.rbac.v3 import rbac_pb2 as network_rbac_pb2
from envoy.extensions.filters.network.sni_dynamic_forward_proxy.v3.sni_dynamic_forward_proxy_pb2 import (
    FilterConfig as ServerNameLookup,
)
from envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import TcpProxy
from envoy.extensions.http.early_header_mutation.header_mutation.v3.header_mutation_pb2 import HeaderMutation
from envoy.extensions.transport_sockets.raw_buffer.v3.raw_buffer_pb2 import RawBuffer
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import DownstreamTlsContext, UpstreamTlsContext
from envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions
from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError, Message

from gossamer.simulate.matchers import parse_ip
from gossamer.simulate.notes import NotSimulatedError
from gossamer.simulate.request import Address

M = TypeVar("M", bound=Message)

_KNOWN: Final[dict[str, type[Message]]] = {
    kind.DESCRIPTOR.full_name: kind
    for kind in (
        *(
            HttpConnectionManager,
            TcpProxy,
            network_rbac_pb2.RBAC,
            network_ext_authz_pb2.ExtAuthz,
            DirectResponse,
            ServerNameLookup,
            OriginalDst,
            TlsInspector,
            HttpInspector,
        ),
        *(
            http_rbac_pb2.RBAC,
            http_rbac_pb2.RBACPerRoute,
            http_ext_authz_pb2.ExtAuthz,
            JwtAuthentication,
            HTTPFault,
            Cors,
            CorsPolicy,
            Router,
            SetFilterState,
            HeaderMutation,
            FilterConfig,
        ),
        *(DownstreamTlsContext, UpstreamTlsContext, RawBuffer, HttpProtocolOptions),
        *(AggregateConfig, ForwardProxyConfig),
    )
}


def type_name(packed: Any) -> str:
    """The full name of the message in an Any."""
    return packed.type_url.rpartition("/")[2]


def short_type(packed: Any) -> str:
    """The last word of the message's name, for people."""
    return type_name(packed).rpartition(".")[2]


def unpack(packed: Any) -> Message | None:
    """The message in an Any; None when its type is not one that is simulated."""
    kind = _KNOWN.get(type_name(packed))
    if kind is None:
        return None
    return _parse(kind, packed.value, type_name(packed))


def unpack_as(kind: type[M], packed: Any) -> M | None:
    """The message in an Any if it is of this type."""
    if type_name(packed) != kind.DESCRIPTOR.full_name:
        return None
    return _parse(kind, packed.value, type_name(packed))


def _parse(kind: type[M], content: bytes, name: str) -> M:
    try:
        return kind.FromString(content)
    except DecodeError as error:
        raise NotSimulatedError(f"a {name} that is damaged") from error


def address_of(address: EnvoyAddress) -> Address:
    """IP and port; a path or a name as `ip` for what is none, with port 0 if it has none."""
    match address.WhichOneof("address"):
        case "socket_address":
            return Address(ip=address.socket_address.address, port=address.socket_address.port_value)
        case "pipe":
            return Address(ip=address.pipe.path)
        case "envoy_internal_address":
            return Address(ip=f"envoy://{address.envoy_internal_address.server_listener_name}")
    return Address(ip="")


def canonical(ip: str) -> str:
    """An address in its one spelling."""
    address = parse_ip(ip)
    return str(address) if address is not None else ip
