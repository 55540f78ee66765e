"""Patches of clusters.

Invariant: a cluster keeps its name. Whether a patch is for a cluster is seen by that name alone, so that no other has
to be opened.
"""

from __future__ import annotations

from gossamer.api.envoy_filter import ClusterMatch, PatchContext
from gossamer.compile.inbound_clusters import PASSTHROUGH as INBOUND_PASSTHROUGH
from gossamer.compile.patches.patch import Patch, Place


def context_of(name: str, place: Place) -> PatchContext:
    """For whom Istio says that a cluster is."""
    if place.gateway:
        return PatchContext.GATEWAY
    if name.startswith("inbound|") or name == INBOUND_PASSTHROUGH:
        return PatchContext.SIDECAR_INBOUND
    return PatchContext.SIDECAR_OUTBOUND


def is_meant(name: str, patch: Patch, place: Place) -> bool:
    """Whether a patch is for the cluster of this name."""
    return patch.is_for(context_of(name, place)) and _fits(name, patch.cluster, place)


def _fits(name: str, asked: ClusterMatch, place: Place) -> bool:
    if asked.name:
        return asked.name == name
    if not (asked.port_number or asked.service or asked.subset):
        return True
    parts = name.split("|")
    if len(parts) != 4:
        return False
    direction, port, subset, host = parts
    if not port.isdecimal() or not place.is_port(int(port), asked.port_number):
        return False
    return direction == "inbound" or (asked.service in ("", host) and asked.subset in ("", subset))
