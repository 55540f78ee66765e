"""Clusters of a gateway that passes the mesh's own TLS on (AUTO_PASSTHROUGH): those that its callers would use
themselves, under the name that their server name encodes and without TLS of the gateway's.

Invariant: they differ from the services' own clusters in nothing else, and hold only endpoints that take mutual TLS.
"""

from __future__ import annotations

from collections.abc import Iterable

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from google.protobuf.any_pb2 import Any

from gossamer.compile.clusters import Caller, compile_clusters
from gossamer.compile.draft import references
from gossamer.compile.endpoints import compile_endpoints
from gossamer.compile.names import cluster_name, target_name
from gossamer.compile.serialise import resource_from_bytes, wire
from gossamer.core.memo import Memo
from gossamer.core.resources import CLUSTER, ENDPOINT, Resource, Table
from gossamer.model.service import ServiceEndpoints
from gossamer.model.settings import MeshSettings
from gossamer.model.view import OutboundService, Server, Target

_TLS_MATCH = "envoy.transport_socket_match"


def compile_passthrough(
    servers: tuple[Server, ...],
    services: tuple[OutboundService, ...],
    endpoints: tuple[ServiceEndpoints, ...],
    settings: MeshSettings,
    memo: Memo,
) -> tuple[Table, ...]:
    """The clusters and endpoints that the servers' chains pass the mesh's TLS on to; none where none does."""
    targets: dict[str, list[Target]] = {}
    for server in servers:
        for chain in server.chains:
            for target, _ in chain.targets:
                if target.passed_on:
                    targets.setdefault(target.host, []).append(target)
    if not targets:
        return ()
    clusters: list[Resource] = []
    assignments: list[Resource] = []
    for outbound, found in zip(services, endpoints, strict=True):
        wanted = tuple(dict.fromkeys(targets.get(outbound.service.hostname, ())))
        if wanted:
            key = ("passthrough", outbound.service.key)
            clusters += memo.keep(key, _clusters, outbound, wanted, settings)
            assignments += memo.keep(key, _assignments, outbound, found, wanted, settings)
    return Table(CLUSTER, clusters), Table(ENDPOINT, assignments)


def _names(wanted: Iterable[Target]) -> dict[str, str]:
    """The new name by the old one."""
    return {cluster_name(target.host, target.port, target.subset): target_name(target) for target in wanted}


def _clusters(outbound: OutboundService, wanted: tuple[Target, ...], settings: MeshSettings) -> tuple[Resource, ...]:
    names = _names(wanted)
    own = compile_clusters(outbound, None, Caller(), settings)
    return tuple(_without_tls(resource, names[resource.name]) for resource in own if resource.name in names)


def _without_tls(resource: Resource, name: str) -> Resource:
    cluster = Cluster.FromString(Any.FromString(resource.body).value)
    cluster.name = name
    cluster.ClearField("transport_socket")
    cluster.ClearField("transport_socket_matches")
    return resource_from_bytes(CLUSTER, name, wire(cluster), references(ENDPOINT, [name]), resource.origins)


def _assignments(
    outbound: OutboundService, endpoints: ServiceEndpoints, wanted: tuple[Target, ...], settings: MeshSettings
) -> tuple[Resource, ...]:
    names = _names(wanted)
    own = compile_endpoints(outbound, endpoints, settings)
    return tuple(_with_tls_only(resource, names[resource.name]) for resource in own if resource.name in names)


def _with_tls_only(resource: Resource, name: str) -> Resource:
    assignment = ClusterLoadAssignment.FromString(Any.FromString(resource.body).value)
    assignment.cluster_name = name
    for index in reversed(range(len(assignment.endpoints))):
        group = assignment.endpoints[index]
        kept = [one for one in group.lb_endpoints if _TLS_MATCH in one.metadata.filter_metadata]
        if len(kept) == len(group.lb_endpoints):
            continue
        if not kept:
            del assignment.endpoints[index]
            continue
        del group.lb_endpoints[:]
        group.lb_endpoints.extend(kept)
        if group.HasField("load_balancing_weight"):
            group.load_balancing_weight.value = sum(one.load_balancing_weight.value for one in kept)
    return resource_from_bytes(ENDPOINT, name, wire(assignment), frozenset(), resource.origins)
