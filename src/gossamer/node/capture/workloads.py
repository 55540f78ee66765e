"""One workload's capture, whichever way this host allows: what Envoy is told, and what the application is given.

Invariant: everything that a peer or Envoy's configuration names (paths, addresses, ports) is the same after a restart.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from gossamer.core.errors import CaptureError
from gossamer.core.frozen import FrozenMap
from gossamer.model.names import short_names
from gossamer.model.proxy import INBOUND_PORT, OUTBOUND_PORT, Capture, CaptureMode
from gossamer.node.capture.environment import explicit_environment, short_name
from gossamer.node.capture.explicit import dns_port, names_by_address, open_services, service_ports
from gossamer.node.capture.ports import LOOPBACK, SHARED, Ports
from gossamer.node.sandbox import HostCapture, Isolation, Network, Sandbox

_OWN_SIX: Final = ipaddress.IPv6Address("fd00:6705::")


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureRequest:
    """A workload to capture.

    `ports` are those that it serves, `mesh_address` the host's address that peers dial, `services` the
    `hostname:port`s that it may call (for explicit capture alone; `web_services` those that speak HTTP), `search` the
    resolver's search list. With `uids`, it is what runs on the host already under these user ids, and stays on the
    host's network.
    """

    namespace: str
    name: str
    ports: tuple[int, ...] = ()
    mesh_address: str = "127.0.0.1"
    services: tuple[str, ...] = ()
    web_services: tuple[str, ...] = ()
    domain: str = "cluster.local"
    search: tuple[str, ...] = ()
    uids: tuple[int, ...] = ()
    outbound_port: int = OUTBOUND_PORT
    inbound_port: int = INBOUND_PORT
    """Where Envoy is to take what is captured; a capture that stands keeps the ports that it was made with."""

    @property
    def key(self) -> str:
        return f"{self.namespace}.{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """The result: `capture` is what compiles Envoy's configuration; `network` and `environment` start the application.

    `addresses` are what the application sees as its own, unique on this host. `environment` is to be laid over the
    application's own; `network` is for `sandbox.Command`, empty when explicit.
    """

    capture: Capture
    addresses: tuple[str, ...] = ()
    network: str = ""
    environment: FrozenMap[str, str] = field(default_factory=FrozenMap)
    names: FrozenMap[str, tuple[str, ...]] = field(default_factory=FrozenMap)
    """Names of services by the address at which its sidecar answers for them, when explicit."""


class Capturer:
    """Captures workloads on one host, all in the same way."""

    def __init__(self, sandbox: Sandbox, mode: CaptureMode, ports: Ports) -> None:
        self.sandbox = sandbox
        self.mode = mode
        self.ports = ports

    async def add(self, request: CaptureRequest) -> Captured:
        """Capture a workload. CaptureError if this host refuses or has no free port."""
        if request.uids and self.sandbox.isolation is not Isolation.ROOT:
            raise CaptureError(
                "processes of this machine are captured by root alone: run the agent as root, with transparent capture"
            )
        mesh_ports = FrozenMap(
            (port, self.ports.allocate(f"{request.key}/mesh/{port}", request.mesh_address)) for port in request.ports
        )
        base = Capture(mode=self.mode, mesh_address=request.mesh_address, mesh_ports=mesh_ports)
        if self.mode is CaptureMode.TRANSPARENT:
            outbound, inbound = self._listening(request)
            base = replace(base, outbound_port=outbound, inbound_port=inbound)
        if request.uids:
            return await self._on_host(request, base)
        if self.mode is CaptureMode.EXPLICIT:
            return self._explicit(request, base)
        own = ipaddress.IPv4Address(self.ports.address(f"{request.key}/own", SHARED))
        addresses = (str(own), str(_OWN_SIX + int(own)))
        network = Network(
            name=request.key,
            addresses=addresses,
            search=request.search,
            outbound_port=base.outbound_port,
            inbound_port=base.inbound_port,
        )
        path = await self.sandbox.add_network(network)
        capture = replace(base, network_namespace=str(path), application_address="127.0.0.1", dns=True)
        return Captured(capture=capture, addresses=addresses, network=request.key)

    def _listening(self, request: CaptureRequest) -> tuple[int, int]:
        """Where Envoy takes what this workload sends, and what it is sent."""
        wanted = (("outbound", request.outbound_port, OUTBOUND_PORT), ("inbound", request.inbound_port, INBOUND_PORT))
        stands = request.key in self.sandbox.networks | self.sandbox.captures
        found = []
        for name, port, usual in wanted:
            purpose = f"{request.key}/captured/{name}"
            if not stands:
                self.ports.remember(purpose, port)
            found.append((self.ports.remembered(purpose) or usual) if stands else port)
        return found[0], found[1]

    async def undo(self, key: str) -> None:
        """Capture a workload no more, and keep its ports: it is to be captured anew."""
        if self.mode is CaptureMode.TRANSPARENT:
            await self.sandbox.remove_network(key)
            await self.sandbox.release_host(key)

    async def _on_host(self, request: CaptureRequest, base: Capture) -> Captured:
        """The host's address is the workload's own, and its ports are redirected where they are. Other sidecars dial
        ports of their own all the same: what comes from this host itself comes over loopback, and is not redirected."""
        await self.sandbox.capture_host(
            HostCapture(
                name=request.key,
                uids=request.uids,
                ports=request.ports,
                outbound_port=base.outbound_port,
                inbound_port=base.inbound_port,
            )
        )
        capture = replace(base, application_address="127.0.0.1", dns=True)
        return Captured(capture=capture, addresses=(request.mesh_address,))

    def _explicit(self, request: CaptureRequest, base: Capture) -> Captured:
        address = self.ports.address(f"{request.key}/loopback", LOOPBACK)
        proxy_port = self.ports.allocate(f"{request.key}/proxy", address)
        with self.ports.together():
            opened = open_services(self.ports, request.key, service_ports(request.services, request.web_services))
        capture = replace(
            base,
            address=address,
            application_address=address,
            http_proxy_port=proxy_port,
            outbound_ports=opened.ports,
            service_addresses=opened.addresses,
            web_address=opened.web_address,
            web_ports=opened.web_ports,
            dns_port=dns_port(self.ports, request.key, address),
        )
        names = {
            name: (opened.addresses[host], opened.ports[service])
            for service in sorted(request.services)
            if (name := short_name(host := service.rpartition(":")[0], request.namespace))
        }
        variables = explicit_environment(capture, request.ports, names)
        shorter = {host: short_names(host, request.namespace, request.domain) for host in opened.named}
        return Captured(
            capture=capture,
            addresses=(address,),
            environment=FrozenMap(variables),
            names=names_by_address(opened.named, shorter),
        )

    async def remove(self, key: str) -> None:
        """Let go of a workload for good (`CaptureRequest.key`); its ports may be given to others."""
        await self.undo(key)
        self.ports.release(f"{key}/")

    async def remove_all_but(self, keys: Iterable[str]) -> None:
        """Let go of what an earlier agent left and this one does not want."""
        for key in sorted((self.sandbox.networks | self.sandbox.captures) - set(keys)):
            await self.remove(key)
