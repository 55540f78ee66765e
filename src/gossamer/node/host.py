"""What all workloads of one host share: settings, identities, sandbox, registration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gossamer.node.capture.choose import Choice, Way
from gossamer.node.capture.workloads import Capturer
from gossamer.node.envoy_settings import DRAIN_SECONDS
from gossamer.node.evidence import Attestation
from gossamer.node.groups import Groups
from gossamer.node.identity_renewal import Identities
from gossamer.node.registration import Registration
from gossamer.node.sandbox import Lifeline, Sandbox
from gossamer.node.starts import Starts
from gossamer.node.store import Store

RESTARTS: Final = "hot"
"""In the runtime folder: where Envoys that follow each other meet. A short name, for the sake of sockets' paths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """How an agent runs. `address` is where workloads of other hosts dial those of this one."""

    state: Path
    runtime: Path
    control_plane: str
    join: str
    envoy: Path
    token: str | None = None
    attestation: Attestation | None = None
    """What vouches for this host in place of a token."""
    address: str = "127.0.0.1"
    way: Way = Way.AUTO
    lifeline: Lifeline = Lifeline.OUTLIVE
    drain_seconds: int = DRAIN_SECONDS
    domain: str = "cluster.local"
    hidden: tuple[Path, ...] = ()
    """Further folders that no application may see: where other meshes of this user keep theirs."""


@dataclass(slots=True, kw_only=True)
class Host:
    """One host that has joined."""

    settings: AgentSettings
    trust_domain: str
    incarnation: int
    sandbox: Sandbox
    choice: Choice
    capturer: Capturer
    identities: Identities
    registration: Registration
    store: Store
    starts: Starts
    groups: Groups
    chance: Callable[[], float]

    @property
    def domain(self) -> str:
        return self.settings.domain
