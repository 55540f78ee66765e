"""Who one Envoy is: what its certificate attests and what the registry holds under that name.

Nothing here comes from what the proxy says of itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from gossamer.core.frozen import FrozenMap, Value

OUTBOUND_PORT: Final = 15001
INBOUND_PORT: Final = 15006
"""Where Envoy takes what the kernel redirects to it, unless the mesh says otherwise."""
DEFAULT_CLUSTER: Final = "Kubernetes"
"""Istio's name for the cluster of who says nothing else."""


class ProxyType(StrEnum):
    SIDECAR = "sidecar"
    ROUTER = "router"
    """A gateway: serves what Gateway resources select it for, on ports of its own."""


class CaptureMode(StrEnum):
    TRANSPARENT = "transparent"
    """Traffic is redirected to Envoy by the kernel: listeners 15001 and 15006, everything else unbound."""
    EXPLICIT = "explicit"
    """No redirection: the application calls loopback listeners and an HTTP proxy of its sidecar. Bypassable."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Capture(Value):
    """How traffic reaches and leaves one workload's Envoy on its host.

    `network_namespace` is the path of the application's network namespace; empty when Envoy shares it. Capture
    listeners (15001, 15006, DNS 15053) and connections to the application are opened inside it; everything else
    (traffic between sidecars, gateways' ports) is opened in Envoy's own.

    `mesh_ports` maps a port of the workload to the port, at `mesh_address` in Envoy's own namespace, on which its
    sidecar takes mutual TLS from other sidecars; that address and port is what the registry gives to callers. Empty
    where the workload's own address is routable and 15006 captures.

    In explicit mode `address` is the workload's own loopback address: per-service outbound listeners are bound there
    (`outbound_ports`: `hostname:port` of a service to the local port) and so is `http_proxy_port`.
    `application_address` is where the application listens.
    """

    mode: CaptureMode = CaptureMode.TRANSPARENT
    network_namespace: str = ""
    application_address: str = ""
    mesh_address: str = ""
    mesh_ports: FrozenMap[int, int] = field(default_factory=FrozenMap)
    address: str = ""
    http_proxy_port: int = 0
    outbound_ports: FrozenMap[str, int] = field(default_factory=FrozenMap)
    outbound_port: int = OUTBOUND_PORT
    inbound_port: int = INBOUND_PORT
    """Where redirected traffic is taken, in transparent mode."""
    dns: bool = False
    """Whether a DNS listener (15053, inside `network_namespace`) answers for mesh names."""
    service_addresses: FrozenMap[str, str] = field(default_factory=FrozenMap)
    """In explicit mode the loopback address that a service has, by hostname: its `outbound_ports` are bound there."""
    web_address: str = ""
    """In explicit mode the loopback address of all services that speak HTTP alone: requests name theirs."""
    web_ports: tuple[int, ...] = ()
    """The ports that can be bound there."""
    dns_port: int = 0
    """In explicit mode where DNS is answered, at `address`."""
    observed: bool = False
    """Whether its agent takes note of what comes in (Envoy's access log service, on the socket of its secrets)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Proxy(Value):
    """One Envoy. `name` and `namespace` are its workload's; `addresses` are the workload's IP addresses."""

    type: ProxyType
    namespace: str
    name: str = ""
    service_account: str = "default"
    labels: FrozenMap[str, str] = field(default_factory=FrozenMap)
    addresses: tuple[str, ...] = ()
    trust_domain: str = "cluster.local"
    cluster: str = DEFAULT_CLUSTER
    network: str = ""
    node: str = ""
    """The host that it runs on."""
    group: str = ""
    """The WorkloadGroup of its namespace that its workload belongs to."""
    locality: str = ""
    """`region/zone/subzone`, as Istio writes it."""
    capture: Capture = field(default_factory=Capture)
    gateway_ports: FrozenMap[int, int] = field(default_factory=FrozenMap)
    """For a gateway: a Gateway server's port to the port it really binds, where they differ (8080 instead of 80)."""
    binds_paths: bool = True
    """Whether it may bind UNIX sockets by path, and call those that a Sidecar names. Not where its host holds others'
    sockets and files, which Envoy would remove to make room, or which are not its workload's to call."""

    @property
    def only_six(self) -> bool:
        """Whether its workload has addresses of IPv6 and none of IPv4."""
        return bool(self.addresses) and all(":" in address for address in self.addresses)

    @property
    def spiffe_id(self) -> str:
        return f"spiffe://{self.trust_domain}/ns/{self.namespace}/sa/{self.service_account}"

    @property
    def dns_name(self) -> str:
        """The workload's name in its certificate, and the key of its registry entry."""
        return f"{self.name}.{self.namespace}.workload.{self.trust_domain}"
