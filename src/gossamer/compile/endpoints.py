"""Endpoints: who answers for a cluster, where, and whether a sidecar takes mutual TLS there.

Invariant: the order of endpoints is that of the model, so equal endpoints give equal bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from envoy.config.core.v3 import health_check_pb2 as health
from envoy.config.core.v3.address_pb2 import Address, Pipe, SocketAddress
from envoy.config.core.v3.base_pb2 import Locality, Metadata
from envoy.config.endpoint.v3.endpoint_components_pb2 import Endpoint as EnvoyEndpoint
from envoy.config.endpoint.v3.endpoint_components_pb2 import LbEndpoint, LocalityLbEndpoints
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.wrappers_pb2 import UInt32Value

from gossamer.compile.draft import Draft
from gossamer.compile.names import cluster_name
from gossamer.compile.origins import service_origins
from gossamer.compile.serialise import finished
from gossamer.core.resources import ENDPOINT, Resource
from gossamer.model.destinations import Subset
from gossamer.model.nearness import Group, Nearness, arranged
from gossamer.model.place import NOWHERE, Place, parts_of
from gossamer.model.places import nearness_on
from gossamer.model.service import Endpoint, Health, Protocol, Resolution, ServiceEndpoints
from gossamer.model.settings import MeshSettings
from gossamer.model.view import OutboundService

_MUTUAL_TLS: Final = Metadata(
    filter_metadata={"envoy.transport_socket_match": Struct(fields={"tlsMode": Value(string_value="istio")})}
)
_HEALTH: Final = {
    Health.HEALTHY: health.UNKNOWN,
    Health.UNHEALTHY: health.UNHEALTHY,
    Health.DRAINING: health.DRAINING,
}
_LOOKED_UP: Final = frozenset({Resolution.DNS, Resolution.DNS_ROUND_ROBIN, Resolution.ALIAS})


def compile_endpoints(
    outbound: OutboundService, endpoints: ServiceEndpoints, settings: MeshSettings, place: Place = NOWHERE
) -> tuple[Resource, ...]:
    """The assignments of a service's clusters for callers at `place`; none for what Envoy looks up itself."""
    if outbound.service.resolution in _LOOKED_UP:
        return ()
    return tuple(finished(draft) for draft in _assignments(outbound, endpoints, settings, place))


def _assignments(
    outbound: OutboundService, endpoints: ServiceEndpoints, settings: MeshSettings, place: Place
) -> Iterator[Draft]:
    service = outbound.service
    for port in service.ports:
        if port.protocol is Protocol.UDP:
            continue
        members = endpoints.by_port.get(port.number, ())
        for subset in (None, *outbound.destination.subsets):
            name = cluster_name(service.hostname, port.number, subset.name if subset else "")
            nearness = nearness_on(outbound, port.number, subset, settings)
            yield Draft(
                type_url=ENDPOINT,
                name=name,
                message=load_assignment(name, members_of(subset, members), nearness, place),
                references=frozenset(),
                origins=service_origins(service.origin),
            )


def members_of(subset: Subset | None, members: Iterable[Endpoint]) -> Iterable[Endpoint]:
    """Those that carry the subset's labels and may be called."""
    wanted = subset.labels.items() if subset is not None else frozenset()
    return [m for m in members if m.health is not Health.UNREADY and wanted <= m.labels.items()]


def load_assignment(
    name: str, members: Iterable[Endpoint], nearness: Nearness | None, place: Place
) -> ClusterLoadAssignment:
    """The assignment of one cluster for callers at `place`, by priority and locality."""
    return ClusterLoadAssignment(
        cluster_name=name,
        endpoints=[_group(group) for group in arranged(members, nearness, place)],
    )


def _group(group: Group) -> LocalityLbEndpoints:
    weight = group.own_weight if group.weight is None else group.weight
    return LocalityLbEndpoints(
        locality=_locality(group.locality) if group.locality else None,
        priority=group.priority,
        lb_endpoints=[_lb_endpoint(member) for member in group.members],
        load_balancing_weight=UInt32Value(value=weight) if weight else None,
    )


def _lb_endpoint(member: Endpoint) -> LbEndpoint:
    return LbEndpoint(
        endpoint=EnvoyEndpoint(address=address_of(member.address, member.port)),
        health_status=_HEALTH[member.health],
        metadata=_MUTUAL_TLS if member.tls else None,
        load_balancing_weight=UInt32Value(value=max(1, member.weight)),
    )


def address_of(address: str, port: int) -> Address:
    """A socket address, or a UNIX socket's path."""
    if address.startswith(("/", "@")):
        return Address(pipe=Pipe(path=address))
    return Address(socket_address=SocketAddress(address=address, port_value=port))


def _locality(text: str) -> Locality:
    region, zone, sub_zone = parts_of(text)
    return Locality(region=region, zone=zone, sub_zone=sub_zone)
