"""What one proxy sees: visibility, precedence and policies resolved; nothing left to decide but how Envoy spells it.

Two proxies that see the same services in the same way hold the same `Outbound` object, so that everything compiled
from it is compiled, serialised and diffed once.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gossamer.api.destination_rule import TrafficPolicy
from gossamer.core.frozen import FrozenMap
from gossamer.core.ids import Origin
from gossamer.model.policy import WorkloadPolicies
from gossamer.model.proxy import Proxy
from gossamer.model.service import Protocol, Service, ServiceEndpoints
from gossamer.model.settings import MeshSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundPort:
    """A port on which a sidecar's own workload is served.

    `number` is the workload's port (the destination port of a captured connection), `services` the services (with
    their port) that lead here: the first one names what is reported.
    """

    number: int
    protocol: Protocol
    name: str = ""
    services: tuple[tuple[Service, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Subset:
    name: str
    labels: FrozenMap[str, str]
    policy: TrafficPolicy | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationPolicy:
    """The DestinationRules that apply to one service as its callers see it, merged into one."""

    policy: TrafficPolicy | None = None
    subsets: tuple[Subset, ...] = ()
    origins: tuple[Origin, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundService:
    """A service as a caller sees it."""

    service: Service
    endpoints: ServiceEndpoints
    destination: DestinationPolicy = field(default_factory=DestinationPolicy)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyView:
    """Everything `compile_proxy` may read."""

    proxy: Proxy
    settings: MeshSettings
    inbound: tuple[InboundPort, ...] = ()
    policies: WorkloadPolicies = field(default_factory=WorkloadPolicies)
    # outbound (services, virtual hosts, tcp routes) and gateways: added beside these
