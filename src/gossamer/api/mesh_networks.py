"""MeshNetworks: which endpoints are in which network, and through which gateways a network is entered.

Invariant: every field of Istio's API is here, under its JSON name in snake_case; nothing is interpreted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from gossamer.api.common import FROZEN, STRICT, UInt32
from gossamer.core.frozen import EMPTY, FrozenMap


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshNetworks:
    """`MeshNetworks`."""

    __pydantic_config__ = STRICT
    networks: Annotated[FrozenMap[str, Network], FROZEN] = EMPTY


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """`MeshNetworks.networks{}`."""

    endpoints: tuple[NetworkEndpoints, ...]
    gateways: tuple[IstioNetworkGateway, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkEndpoints:
    """`MeshNetworks.networks{}.endpoints[]`."""

    from_cidr: str | None = None
    from_registry: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IstioNetworkGateway:
    """`MeshNetworks.networks{}.gateways[]`."""

    registry_service_name: str | None = None
    address: str | None = None
    port: UInt32
    locality: str = ""
