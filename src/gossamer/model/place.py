"""Where a caller is, for services whose endpoints are chosen by how near they are.

Invariant: a place holds no more than what some service asks of it, so that callers who are served alike are at one
place; where nobody asks, everyone is `NOWHERE`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from gossamer.core.frozen import EMPTY, FrozenMap, Value

REGION: Final = "topology.kubernetes.io/region"
ZONE: Final = "topology.kubernetes.io/zone"
SUBZONE: Final = "topology.istio.io/subzone"
NETWORK: Final = "topology.istio.io/network"
CLUSTER: Final = "topology.istio.io/cluster"
NODE: Final = "kubernetes.io/hostname"
LOCALITY: Final = "istio-locality"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Place(Value):
    """`locality` is `region/zone/subzone`; `labels` are the caller's values of the labels that some `failoverPriority`
    names; `peers` how many well instances of the caller's own service there are in each zone (`region/zone`)."""

    locality: str = ""
    network: str = ""
    cluster: str = ""
    labels: FrozenMap[str, str] = EMPTY
    peers: FrozenMap[str, int] = EMPTY


NOWHERE: Final = Place()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Asked(Value):
    """What services ask of a caller's place; `peers` for zone-aware routing."""

    place: bool = False
    labels: frozenset[str] = frozenset()
    peers: bool = False


NOTHING_ASKED: Final = Asked()


def joined(asked: Iterable[Asked]) -> Asked:
    """What any of these asks."""
    place, peers, labels = False, False, frozenset[str]()
    for one in asked:
        if one is not NOTHING_ASKED:
            place, peers, labels = place or one.place, peers or one.peers, labels | one.labels
    return Asked(place=place, labels=labels, peers=peers) if place else NOTHING_ASKED


def locality_of(labels: Mapping[str, str]) -> str:
    """`region/zone/subzone` as labels say it: Istio's `istio-locality` (with dots, or slashes), else Kubernetes'
    topology labels; empty if they say nothing."""
    if named := labels.get(LOCALITY, ""):
        return named if "/" in named else named.replace(".", "/")
    parts = [labels.get(name, "") for name in (REGION, ZONE, SUBZONE)]
    return "/".join(parts).rstrip("/") if parts[0] else ""


def parts_of(locality: str) -> tuple[str, str, str]:
    """Region, zone and subzone."""
    region, zone, subzone = (*locality.split("/"), "", "")[:3]
    return region, zone, subzone


def zone_of(locality: str) -> str:
    """`region/zone`."""
    return "/".join(parts_of(locality)[:2])
