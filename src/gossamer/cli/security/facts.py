"""What is known of a running mesh when its controls are judged: a value, gathered before.

Invariant: nothing here asks anybody; a fact that could not be had is empty, and a control says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from gossamer.api.config import Config
from gossamer.api.profile import Profile
from gossamer.api.source_index import SourceIndex
from gossamer.cli.cast import Cast
from gossamer.core.ids import Origin
from gossamer.model.policy import WorkloadPolicies
from gossamer.model.proxy import Proxy, ProxyType
from gossamer.model.settings import MeshSettings, OutboundPolicy
from gossamer.model.sidecars import SidecarRule, sidecar_for


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One workload that is registered, with what applies to it."""

    proxy: Proxy
    policies: WorkloadPolicies
    sidecar: SidecarRule | None
    outbound: OutboundPolicy
    ports: tuple[int, ...]

    @property
    def name(self) -> str:
        return f"{self.proxy.namespace}/{self.proxy.name}"

    @property
    def gateway(self) -> bool:
        return self.proxy.type is ProxyType.ROUTER


@dataclass(frozen=True, slots=True, kw_only=True)
class Connections:
    """Connections to one sidecar since its Envoy started: all, those over mutual TLS, and those turned away because
    they were not."""

    accepted: int = 0
    mutual: int = 0
    refused: int = 0

    @property
    def plain(self) -> int:
        return max(0, self.accepted - self.mutual)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Facts:
    """A mesh. `plane` is its control plane's status, `workloads` are the rows of agents on this host; `loose` are files
    and sockets that others than their user may use."""

    members: tuple[Member, ...]
    config: Config
    settings: MeshSettings
    index: SourceIndex
    profile: Profile
    lifetime: timedelta
    plugged: bool
    plane: Mapping[str, Any]
    workloads: Sequence[Mapping[str, Any]]
    now: datetime
    connections: Mapping[str, Connections] = field(default_factory=dict)
    loose: tuple[str, ...] = ()
    sockets: int = 0
    """How many of them there are here."""

    @property
    def sidecars(self) -> tuple[Member, ...]:
        return tuple(member for member in self.members if not member.gateway)

    def placed(self, origin: Origin) -> str:
        """An origin with its file and line."""
        place = self.index.position(origin.resource, origin.rule)
        return f"{origin} ({place.file}:{place.line})" if place.file else str(origin)


def members_of(cast: Cast) -> tuple[Member, ...]:
    """Everyone who is registered, by name."""
    mesh, memo = cast.fleet.mesh, cast.fleet.memo
    ports = {(one.namespace, one.name): tuple(sorted(one.ports)) for one in cast.workloads}
    found = []
    for key, proxy in sorted(cast.proxies.items()):
        sidecar = sidecar_for(mesh.sidecars, proxy.namespace, proxy.labels)
        own = sidecar.outbound if sidecar is not None and proxy.type is ProxyType.SIDECAR else None
        found.append(
            Member(
                proxy=proxy,
                policies=mesh.policies.for_workload(proxy.namespace, proxy.labels, memo),
                sidecar=sidecar,
                outbound=own or mesh.settings.outbound,
                ports=ports.get(key, ()),
            )
        )
    return tuple(found)
