"""ServiceEntry and WorkloadEntry: services and instances that no platform declares.

Invariant: every field of Istio's API is here, under its JSON name in snake_case; nothing is interpreted.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from gossamer.api.common import FROZEN, STRICT, StrMap, UInt32
from gossamer.core.frozen import EMPTY, FrozenMap, Value


class Location(StrEnum):
    MESH_EXTERNAL = "MESH_EXTERNAL"
    MESH_INTERNAL = "MESH_INTERNAL"


class Resolution(StrEnum):
    NONE = "NONE"
    STATIC = "STATIC"
    DNS = "DNS"
    DNS_ROUND_ROBIN = "DNS_ROUND_ROBIN"
    DYNAMIC_DNS = "DYNAMIC_DNS"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ServiceEntry(Value):
    """`ServiceEntry`."""

    __pydantic_config__ = STRICT
    hosts: tuple[str, ...]
    addresses: tuple[str, ...] = ()
    ports: tuple[ServicePort, ...] = ()
    location: Location = Location.MESH_EXTERNAL
    resolution: Resolution = Resolution.NONE
    endpoints: tuple[WorkloadEntry, ...] = ()
    workload_selector: WorkloadSelector | None = None
    export_to: tuple[str, ...] = ()
    subject_alt_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePort:
    """`ServiceEntry.ports[]`."""

    number: UInt32
    protocol: str = ""
    name: str
    target_port: UInt32 = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WorkloadEntry(Value):
    """`ServiceEntry.endpoints[]`."""

    __pydantic_config__ = STRICT
    address: str = ""
    ports: Annotated[FrozenMap[str, UInt32], FROZEN] = EMPTY
    labels: StrMap = EMPTY
    network: str = ""
    locality: str = ""
    weight: UInt32 = 0
    service_account: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadSelector:
    """`ServiceEntry.workloadSelector`."""

    labels: StrMap = EMPTY
