"""What a control plane is started with, and what follows from that alone."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from gossamer.api.profile import Profile
from gossamer.ca.authority import Lifetimes

if TYPE_CHECKING:
    from gossamer.plane.bundle_endpoint import BundleEndpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a control plane is started with. Ports may be 0: the system chooses; `serve` tells which."""

    config: tuple[Path, ...]
    state: Path
    mesh_config: Path | None = None
    listen: str = "127.0.0.1:15012"
    join_listen: str = "127.0.0.1:15013"
    ca_folder: Path | None = None
    trust_domain: str = ""
    """Empty: what MeshConfig says, else `cluster.local`."""
    names: tuple[str, ...] = ()
    """Further names and addresses by which hosts dial this control plane; they go into its certificate."""
    lifetime: timedelta = timedelta(hours=24)
    profile: Profile = Profile.NONE
    drain_s: float = 5.0
    private_redirects: bool = False
    """Whether an issuer of tokens may redirect whoever fetches its keys to a private address."""
    attestors: Path | None = None
    """The file of those who vouch for hosts without a join token."""
    bundle: BundleEndpoint | None = None
    """Where the mesh's roots are published for other trust domains; None: nowhere."""
    envoy: Path | None = None
    """The Envoy that EnvoyFilters and extensions are tried on; None: nobody is asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """The addresses that a control plane really listens on."""

    xds: str
    join: str


def clock() -> datetime:
    """The time."""
    return datetime.now(UTC)


def lifetimes_of(settings: Settings) -> Lifetimes:
    """How long what this control plane signs is valid."""
    return Lifetimes(workload=settings.lifetime, control_plane=settings.lifetime)


def names_of(settings: Settings) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names, and the addresses, by which this control plane is dialled."""
    named = {"localhost", "127.0.0.1", "::1", *settings.names}
    named |= {listen.rpartition(":")[0].strip("[]") for listen in (settings.listen, settings.join_listen)}
    addresses = {name for name in named if _is_address(name)}
    return tuple(sorted(named - addresses)), tuple(sorted(addresses))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
