"""HTTP/3: the UDP listener beside a gateway's HTTPS.

Invariant: it serves the routes of the HTTPS server that it stands beside, under the same policies and certificates. No
client certificate is asked for over QUIC, so a server that wants one has no such listener.
"""

from __future__ import annotations

from collections.abc import Iterable

from envoy.config.core.v3.address_pb2 import Address, SocketAddress
from envoy.config.core.v3.base_pb2 import OUTBOUND, TransportSocket
from envoy.config.core.v3.protocol_pb2 import Http3ProtocolOptions
from envoy.config.listener.v3.listener_components_pb2 import Filter, FilterChain, FilterChainMatch
from envoy.config.listener.v3.listener_pb2 import AdditionalAddress, Listener
from envoy.config.listener.v3.quic_config_pb2 import QuicProtocolOptions
from envoy.config.listener.v3.udp_listener_config_pb2 import UdpListenerConfig
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from envoy.extensions.transport_sockets.quic.v3.quic_transport_pb2 import QuicDownstreamTransport

from gossamer.api.gateway import ServerTLSSettings
from gossamer.compile.draft import Draft, pack
from gossamer.compile.origins import metadata_of
from gossamer.compile.tls import own_server_context
from gossamer.core.ids import Origin
from gossamer.core.resources import LISTENER, Reference

_ALPN = ("h3",)


def quic_chain(beside: FilterChain, tls: ServerTLSSettings) -> FilterChain:
    """The chain that serves over QUIC what an HTTPS chain serves over TCP."""
    context = own_server_context(tls, _ALPN)
    context.common_tls_context.ClearField("tls_params")  # QUIC has TLS 1.3 and nothing else
    transport = QuicDownstreamTransport(downstream_tls_context=context)
    chain = FilterChain(
        name=beside.name,
        filter_chain_match=FilterChainMatch(server_names=beside.filter_chain_match.server_names),
        filters=[_speaking_http3(beside.filters[0])],
        transport_socket=TransportSocket(name="envoy.transport_sockets.quic", typed_config=pack(transport)),
    )
    if beside.HasField("metadata"):
        chain.metadata.CopyFrom(beside.metadata)
    return chain


def _speaking_http3(beside: Filter) -> Filter:
    manager = HttpConnectionManager.FromString(beside.typed_config.value)
    manager.codec_type = HttpConnectionManager.HTTP3
    manager.http3_protocol_options.CopyFrom(Http3ProtocolOptions())
    del manager.upgrade_configs[:]
    return Filter(name=beside.name, typed_config=pack(manager))


def quic_listener(
    addresses: tuple[str, ...],
    port: int,
    chains: Iterable[FilterChain],
    references: frozenset[Reference],
    origins: tuple[Origin, ...],
) -> Draft:
    """The listener of these chains."""
    name = f"udp_{addresses[0]}_{port}"
    first, *more = (_socket(address, port) for address in addresses)
    listener = Listener(
        name=name,
        address=first,
        additional_addresses=[AdditionalAddress(address=address) for address in more],
        traffic_direction=OUTBOUND,
        udp_listener_config=UdpListenerConfig(quic_options=QuicProtocolOptions()),
        filter_chains=chains,
        metadata=metadata_of(origins),
    )
    return Draft(type_url=LISTENER, name=name, message=listener, references=references, origins=origins)


def _socket(address: str, port: int) -> Address:
    return Address(socket_address=SocketAddress(protocol=SocketAddress.UDP, address=address, port_value=port))
