"""What is opened for a workload where nothing can be redirected: its own loopback address, and addresses by which its
sidecar answers for services.

Invariant: a service that keeps its ports has an address of its own, unless all of it speaks HTTP, where requests say
for which of them they are.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from gossamer.core.errors import CaptureError
from gossamer.core.frozen import FrozenMap
from gossamer.node.capture.ports import SERVICES, Ports

DNS_PORT: Final = 53


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePorts:
    """The ports of services that a workload may call, by hostname: those of services that have an address of their own,
    and those of services that speak HTTP alone."""

    own: FrozenMap[str, tuple[int, ...]] = field(default_factory=FrozenMap)
    web: FrozenMap[str, tuple[int, ...]] = field(default_factory=FrozenMap)


def service_ports(services: Iterable[str], web: Iterable[str]) -> ServicePorts:
    """From `hostname:port`s. CaptureError for what is none."""
    own, spoken = _by_host(services), _by_host(web)
    mixed = {host: tuple(sorted((*ports, *spoken.pop(host, ())))) for host, ports in own.items()}
    return ServicePorts(own=FrozenMap(mixed), web=FrozenMap(spoken))


def _by_host(services: Iterable[str]) -> dict[str, tuple[int, ...]]:
    found: dict[str, list[int]] = {}
    for service in sorted(set(services)):
        host, _, port = service.rpartition(":")
        if not host or not port.isdigit():
            raise CaptureError(f"{service!r} is no service port: hostname:port is wanted")
        found.setdefault(host, []).append(int(port))
    return {host: tuple(ports) for host, ports in found.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """Where services answer: `ports` is the port that is opened for each `hostname:port`, at its address. `named` are
    the addresses by which whole services can be called, every port by its own number."""

    ports: FrozenMap[str, int]
    addresses: FrozenMap[str, str]
    web_address: str
    web_ports: tuple[int, ...]
    named: FrozenMap[str, str]


def open_services(ports: Ports, key: str, services: ServicePorts) -> Opened:
    """Addresses and ports for the services of workload `key`, the same ones each time."""
    addresses = {host: ports.address(f"{key}/service/{host}", SERVICES) for host in services.own}
    opened = {
        f"{host}:{port}": ports.allocate(f"{key}/outbound/{host}:{port}", addresses[host], preferred=port)
        for host, numbers in services.own.items()
        for port in numbers
    }
    named = {
        host: addresses[host]
        for host, numbers in services.own.items()
        if all(opened[f"{host}:{port}"] == port for port in numbers)
    }
    web_address = ports.address(f"{key}/web", SERVICES)
    wanted = sorted({port for numbers in services.web.values() for port in numbers})
    web_ports = tuple(
        port for port in wanted if ports.allocate(f"{key}/web/{port}", web_address, preferred=port) == port
    )
    named |= {host: web_address for host, numbers in services.web.items() if set(numbers) <= set(web_ports)}
    return Opened(
        ports=FrozenMap(opened),
        addresses=FrozenMap(addresses),
        web_address=web_address,
        web_ports=web_ports,
        named=FrozenMap(sorted(named.items())),
    )


def dns_port(ports: Ports, key: str, address: str) -> int:
    """Where DNS is answered at the workload's address: at 53 if that may be opened."""
    return ports.allocate(f"{key}/dns", address, preferred=DNS_PORT, kind=socket.SOCK_DGRAM)


def names_by_address(named: Mapping[str, str], others: Mapping[str, Iterable[str]]) -> FrozenMap[str, tuple[str, ...]]:
    """The names at each address: hostnames and, of each, its shorter forms (`others`)."""
    found: dict[str, list[str]] = {}
    for host, address in named.items():
        found.setdefault(address, []).extend((host, *others.get(host, ())))
    return FrozenMap({address: tuple(dict.fromkeys(names)) for address, names in sorted(found.items())})
