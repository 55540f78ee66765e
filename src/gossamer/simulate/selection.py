"""The route that a request takes, with everything that belongs to it, chosen before any filter runs.

Invariant: Envoy chooses once. Filters see the choice, and the router does what it says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from envoy.config.route.v3.route_components_pb2 import FilterConfig, Route, RouteAction, VirtualHost, WeightedCluster
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct

from gossamer.simulate.decode import short_type, unpack
from gossamer.simulate.headers import Headers
from gossamer.simulate.notes import NotSimulatedError
from gossamer.simulate.outcome import ClusterWeight
from gossamer.simulate.rewrites import Edits

_LB: Final = "envoy.lb"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Selection:
    """A route in its virtual host and table, and the cluster that was drawn (`weighted` if from several)."""

    table: RouteConfiguration
    virtual_host: VirtualHost
    route: Route | None = None
    weighted: WeightedCluster.ClusterWeight | None = None
    cluster: str = ""
    clusters: tuple[ClusterWeight, ...] = ()

    def edits(self) -> Iterator[Edits]:
        """Whose header edits apply, in order."""
        levels: list[Edits] = [self.table, self.virtual_host]
        if self.route is not None:
            levels.append(self.route)
        if self.weighted is not None:
            levels.append(self.weighted)
        most_specific_last = self.table.most_specific_header_mutations_wins
        yield from levels if most_specific_last else reversed(levels)

    def filter_config(self, name: str) -> tuple[Message | None, bool | None]:
        """What the most specific level says to a filter: its configuration, and whether it is off (None: not said)."""
        for level in (self.weighted, self.route, self.virtual_host, self.table):
            if level is None or name not in level.typed_per_filter_config:
                continue
            return _unwrapped(level.typed_per_filter_config[name])
        return None, None

    def subset(self) -> Struct | None:
        """The metadata that endpoints must have."""
        found = Struct()
        if self.route is not None and _LB in self.route.route.metadata_match.filter_metadata:
            found.MergeFrom(self.route.route.metadata_match.filter_metadata[_LB])
        if self.weighted is not None and _LB in self.weighted.metadata_match.filter_metadata:
            found.MergeFrom(self.weighted.metadata_match.filter_metadata[_LB])
        return found if found.fields else None


def _unwrapped(packed: Any) -> tuple[Message | None, bool | None]:
    config = unpack(packed)
    if isinstance(config, FilterConfig):
        if config.disabled:
            return None, True
        return (unpack(config.config) if config.config.type_url else None), False
    if config is None:
        raise NotSimulatedError(f"the per-route settings {short_type(packed)}")
    return config, False


def draw_cluster(
    action: RouteAction, headers: Headers, chance: float
) -> tuple[str, WeightedCluster.ClusterWeight | None, tuple[ClusterWeight, ...]]:
    """The cluster of a route's action, the entry it was drawn from, and all that could have been drawn."""
    match action.WhichOneof("cluster_specifier"):
        case "cluster":
            return action.cluster, None, (ClusterWeight(name=action.cluster, weight=1.0),)
        case "cluster_header":
            name = headers.get(action.cluster_header)
            return name, None, (ClusterWeight(name=name, weight=1.0),)
        case "weighted_clusters":
            return _draw(action.weighted_clusters, headers, chance)
    raise NotSimulatedError("cluster specifiers by extension")


def _draw(
    weighted: WeightedCluster, headers: Headers, chance: float
) -> tuple[str, WeightedCluster.ClusterWeight, tuple[ClusterWeight, ...]]:
    total = sum(entry.weight.value for entry in weighted.clusters)
    if not total:
        raise NotSimulatedError("weighted clusters whose weights are all zero")
    names = [entry.name or headers.get(entry.cluster_header) for entry in weighted.clusters]
    shares = tuple(
        ClusterWeight(name=name, weight=entry.weight.value / total)
        for name, entry in zip(names, weighted.clusters, strict=True)
    )
    point, below = int(chance * total), 0
    for name, entry in zip(names, weighted.clusters, strict=True):
        below += entry.weight.value
        if point < below:
            return name, entry, shares
    raise AssertionError("a chance below one draws some cluster")
