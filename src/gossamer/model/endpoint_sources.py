"""Endpoints as each source gives them: a workload, an inline endpoint of a ServiceEntry, a slice.

Invariant: a source says all it knows of an endpoint and nothing of others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from gossamer.api.kubernetes import EndpointSlice, SliceEndpoint
from gossamer.api.resource import Resource
from gossamer.api.service_entry import ServiceEntry, WorkloadEntry
from gossamer.core.frozen import EMPTY, FrozenMap
from gossamer.core.ids import Origin
from gossamer.model.place import CLUSTER, NETWORK, locality_of
from gossamer.model.service import Endpoint, Health, Port, Resolution, Service, Workload

TLS_MODE: Final = "security.istio.io/tlsMode"
_DNS: Final = frozenset({Resolution.DNS, Resolution.DNS_ROUND_ROBIN})


def of_workload(workload: Workload, port: Port) -> Endpoint | None:
    """Where `workload` answers for a service's port; None if it has no port of that name."""
    if port.name in workload.service_ports:
        number = workload.service_ports[port.name]
        dialled = workload.ports.get(number, number)
    elif port.number in workload.service_numbers:
        number = dialled = workload.service_numbers[port.number]
    else:
        target = port.target or port.number
        found = target if isinstance(target, int) else workload.named_ports.get(target)
        if found is None:
            return None
        number, dialled = found, workload.ports.get(found, found)
    return Endpoint(
        address=workload.address,
        port=dialled,
        workload_port=number,
        labels=workload.labels,
        namespace=workload.namespace,
        workload=workload.name,
        service_account=workload.service_account,
        network=workload.network,
        cluster=workload.cluster,
        node=workload.node,
        locality=workload.locality,
        weight=workload.weight,
        tls=workload.tls,
        health=workload.health,
        origin=workload.origin,
        router=workload.router,
    )


def workload_of(resource: Resource[WorkloadEntry]) -> Workload:
    return _declared(resource.spec, resource.namespace, resource.name, Origin(resource=resource.id), resource.labels)


def _declared(
    entry: WorkloadEntry, namespace: str, name: str, origin: Origin, labels: Mapping[str, str] = EMPTY
) -> Workload:
    """A WorkloadEntry, inline or by itself. It takes mutual TLS as its label says, else if it has an account."""
    merged = FrozenMap({**labels, **entry.labels})
    mode = merged.get(TLS_MODE)
    return Workload(
        name=name,
        namespace=namespace,
        service_account=entry.service_account,
        labels=merged,
        address=entry.address.removeprefix("unix://"),
        service_ports=entry.ports,
        network=entry.network or merged.get(NETWORK, ""),
        cluster=merged.get(CLUSTER, ""),
        locality=entry.locality or locality_of(merged),
        weight=entry.weight,
        tls=mode == "istio" if mode else bool(entry.service_account),
        origin=origin,
    )


def inline(service: Service, port: Port, entries: Iterable[Resource[ServiceEntry]]) -> Iterator[Endpoint | None]:
    for resource in entries:
        if all(declared.number != port.number for declared in resource.spec.ports):
            continue
        for place, entry in enumerate(resource.spec.endpoints):
            origin = Origin(resource=resource.id, rule=f"spec.endpoints[{place}]")
            if entry.address.startswith("unix://"):
                yield Endpoint(
                    address=entry.address.removeprefix("unix://"), port=0, labels=entry.labels, origin=origin
                )
            else:
                yield of_workload(_declared(entry, resource.namespace, "", origin), port)
        if service.resolution in _DNS and not resource.spec.endpoints and not service.wildcard:
            number = port.target if isinstance(port.target, int) and port.target else port.number
            yield Endpoint(address=service.hostname, port=number, workload_port=number, origin=service.origin)


def of_slice(resource: Resource[EndpointSlice], port: Port, *, unready: bool = False) -> Iterator[Endpoint]:
    """The endpoints of a slice that are ready (`unready`: or not); Kubernetes matches its ports to the Service's by
    name."""
    numbers = [p.port for p in resource.spec.ports if p.name == port.name and p.port]
    for number in numbers:
        for endpoint in resource.spec.endpoints:
            health = Health.HEALTHY if unready else _health(endpoint)
            if health is None:
                continue
            for address in endpoint.addresses:
                yield Endpoint(
                    address=address,
                    port=number,
                    workload_port=number,
                    namespace=resource.namespace,
                    workload=endpoint.target_ref.name if endpoint.target_ref else endpoint.hostname,
                    node=endpoint.node_name,
                    locality=f"/{endpoint.zone}" if endpoint.zone else "",
                    health=health,
                    origin=Origin(resource=resource.id),
                )


def _health(endpoint: SliceEndpoint) -> Health | None:
    """None for what takes no traffic. An unknown `ready` counts as true; serving while terminating is draining."""
    conditions = endpoint.conditions
    if conditions is None or conditions.ready in (None, True):
        return Health.HEALTHY
    return Health.DRAINING if conditions.terminating and conditions.serving else None
