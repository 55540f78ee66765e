"""The DNS listener of a workload: mesh names answered by Envoy, all others asked of the host's resolvers.

Invariant: every name under which a route table knows a service is answered, with the address that its listeners know;
a headless service is its instances.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from envoy.config.core.v3.address_pb2 import Address, SocketAddress
from envoy.config.listener.v3.listener_components_pb2 import ListenerFilter
from envoy.config.listener.v3.listener_pb2 import AdditionalAddress, Listener
from envoy.config.listener.v3.udp_listener_config_pb2 import UdpListenerConfig
from envoy.data.dns.v3.dns_table_pb2 import DnsTable
from envoy.extensions.filters.udp.dns_filter.v3.dns_filter_pb2 import DnsFilterConfig
from google.protobuf.duration_pb2 import Duration

from gossamer.compile.draft import Draft, pack
from gossamer.compile.listeners import wildcards_of
from gossamer.compile.names import DNS_PORT
from gossamer.core.resources import LISTENER
from gossamer.model.explicit import named_addresses
from gossamer.model.proxy import Proxy
from gossamer.model.route_tables import names_of
from gossamer.model.service import Service
from gossamer.model.targets import unaliased
from gossamer.model.view import OutboundService

LISTENER_NAME: Final = "dns"
_TTL: Final = 30
"""Seconds that an answer may be kept. Addresses of services stay; what changes is which services there are."""
_TIMEOUT: Final = 5
_PENDING: Final = 1024


def dns_filter(services: tuple[Service, ...], namespace: str, domain: str, *, six: bool = False) -> ListenerFilter:
    """The filter that answers for the services that a namespace sees; `six`: to workloads without IPv4."""
    return _filter(_domains(services, namespace, domain, six=six))


def explicit_dns_listener(proxy: Proxy, services: tuple[Service, ...], domain: str) -> Draft:
    """The listener that answers a workload that nobody redirects, with the addresses where its sidecar listens."""
    addresses = named_addresses(services, proxy.capture)
    by_host = {service.hostname: service for service in services}
    taken, domains = set(by_host), []
    for hostname, address in sorted(addresses.items()):
        free = [name for name in names_of(by_host[hostname], proxy.namespace, domain) if name not in taken]
        taken.update(free)
        domains += [_domain(name, [address]) for name in (hostname, *free)]
    listener = Listener(
        name=LISTENER_NAME,
        address=_udp(proxy.capture.address, proxy.capture.dns_port, ""),
        udp_listener_config=UdpListenerConfig(),
        listener_filters=[_filter(domains)],
    )
    return Draft(type_url=LISTENER, name=LISTENER_NAME, message=listener, references=frozenset())


def _filter(domains: Iterable[DnsTable.DnsVirtualDomain]) -> ListenerFilter:
    config = DnsFilterConfig(
        stat_prefix="mesh",
        server_config=DnsFilterConfig.ServerContextConfig(inline_dns_table=DnsTable(virtual_domains=domains)),
        client_config=DnsFilterConfig.ClientContextConfig(
            resolver_timeout=Duration(seconds=_TIMEOUT), max_pending_lookups=_PENDING
        ),
    )
    return ListenerFilter(name="envoy.filters.udp.dns_filter", typed_config=pack(config))


def dns_listener(proxy: Proxy, lookup: ListenerFilter) -> Draft:
    """The listener at which the workload's name lookups arrive."""
    addresses = [_udp(address, DNS_PORT, proxy.capture.network_namespace) for address in wildcards_of(proxy)]
    listener = Listener(
        name=LISTENER_NAME,
        address=addresses[0],
        additional_addresses=[AdditionalAddress(address=address) for address in addresses[1:]],
        udp_listener_config=UdpListenerConfig(),
        listener_filters=[lookup],
    )
    return Draft(type_url=LISTENER, name=LISTENER_NAME, message=listener, references=frozenset())


def services_of(services: tuple[OutboundService, ...]) -> tuple[Service, ...]:
    """The services alone, which change less often than how they are called."""
    return tuple(outbound.service for outbound in services)


def _udp(address: str, port: int, network_namespace: str) -> Address:
    return Address(
        socket_address=SocketAddress(
            protocol=SocketAddress.UDP,
            address=address,
            port_value=port,
            network_namespace_filepath=network_namespace,
        )
    )


def _domains(
    services: tuple[Service, ...], namespace: str, domain: str, *, six: bool
) -> Iterator[DnsTable.DnsVirtualDomain]:
    by_host = {service.hostname: service for service in services}
    instances: dict[str, list[str]] = {}
    for service in services:
        if service.instance_of:
            instances.setdefault(service.instance_of, []).extend(addresses_of(service, six=six))
    taken = set(by_host)
    for hostname, service in by_host.items():
        real = unaliased(service, by_host.get)
        addresses = (addresses_of(real, six=six) or instances.get(real.hostname, [])) if real else []
        free = [name for name in names_of(service, namespace, domain) if name not in taken]
        taken.update(free)
        for name in (hostname, *free) if addresses else ():
            yield _domain(name, addresses)


def _domain(name: str, addresses: Iterable[str]) -> DnsTable.DnsVirtualDomain:
    return DnsTable.DnsVirtualDomain(name=name, endpoint=_answer(addresses), answer_ttl=Duration(seconds=_TTL))


def addresses_of(service: Service, *, six: bool = False) -> list[str]:
    """The addresses by which a service is dialled; a network is none. Of those that it was given a workload without
    IPv4 dials the other one; the first is there so that the name exists for whoever asks for IPv4."""
    known = (*service.addresses, service.allocated_six if six else "", service.allocated)
    return [address for address in known if address and "/" not in address]


def _answer(addresses: Iterable[str]) -> DnsTable.DnsEndpoint:
    """The addresses; where none of them is of IPv6, the same ones as IPv6 writes those of IPv4. Without any Envoy would
    say of the name that it does not exist (NXDOMAIN), which some resolvers (musl's) believe of IPv4 too. Connections to
    such an address are IPv4 connections."""
    listed = list(addresses)
    if not any(":" in address for address in listed):
        listed += [f"::ffff:{address}" for address in listed]
    return DnsTable.DnsEndpoint(address_list=DnsTable.AddressList(address=listed))
