"""Who answers for each service right now: inline endpoints, workloads that a selector finds, EndpointSlices.

Invariant: a snapshot of its own. It is made anew when instances come and go, and nothing of the mesh is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from gossamer.api.common import EMPTY
from gossamer.api.config import Config
from gossamer.api.kubernetes import EndpointSlice, SliceEndpoint
from gossamer.api.resource import Resource
from gossamer.api.service_entry import ServiceEntry, WorkloadEntry
from gossamer.core.frozen import FrozenMap
from gossamer.core.ids import Origin
from gossamer.core.memo import Memo
from gossamer.model.mesh import Mesh
from gossamer.model.service import Endpoint, Health, Port, Resolution, Service, ServiceEndpoints, Workload

TLS_MODE: Final = "security.istio.io/tlsMode"
LOCALITY: Final = "istio-locality"
SLICE_OF: Final = "kubernetes.io/service-name"
_DNS: Final = frozenset({Resolution.DNS, Resolution.DNS_ROUND_ROBIN})

Key = tuple[str, str]
K = TypeVar("K")


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One service port that one workload answers for."""

    service: Service
    port: Port
    workload_port: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Endpoints:
    """Endpoints by service (hostname, namespace), and the same seen from the workload: by its registered (namespace,
    name), and by address for those that a document declares."""

    by_service: FrozenMap[Key, ServiceEndpoints] = EMPTY
    accounts: FrozenMap[Key, tuple[str, ...]] = EMPTY
    by_workload: FrozenMap[Key, tuple[Instance, ...]] = EMPTY
    by_address: FrozenMap[str, tuple[Instance, ...]] = EMPTY


def build_endpoints(config: Config, registrations: tuple[Workload, ...], mesh: Mesh, memo: Memo) -> Endpoints:
    """Endpoints of every service of `mesh`. `registrations` are the workloads that agents vouch for."""
    return memo.keep(
        "",
        _build,
        config.service_entries,
        config.endpoint_slices,
        config.workload_entries,
        registrations,
        mesh.services.all,
        memo,
    )


def _build(
    service_entries: tuple[Resource[ServiceEntry], ...],
    endpoint_slices: tuple[Resource[EndpointSlice], ...],
    workload_entries: tuple[Resource[WorkloadEntry], ...],
    registrations: tuple[Workload, ...],
    services: tuple[Service, ...],
    memo: Memo,
) -> Endpoints:
    entries: dict[Key, list[Resource[ServiceEntry]]] = {}
    for entry in service_entries:
        for host in dict.fromkeys(entry.spec.hosts):
            entries.setdefault((host.lower(), entry.namespace), []).append(entry)
    slices: dict[Key, list[Resource[EndpointSlice]]] = {}
    for part in endpoint_slices:
        slices.setdefault((part.labels.get(SLICE_OF, ""), part.namespace), []).append(part)
    declared = tuple(memo(_workload_of, entry) for entry in workload_entries)
    workloads = memo.keep("", _index, (*registrations, *declared))
    built = tuple(
        memo.keep(
            service.key,
            _endpoints,
            service,
            tuple(entries.get(service.key, ())),
            tuple(slices.get((service.name, service.namespace), ())),
            _candidates(service, workloads) if service.selector else (),
        )
        for service in services
    )
    return memo.keep("", _snapshot, built, services, memo)


def _index(workloads: tuple[Workload, ...]) -> FrozenMap[tuple[str, str, str], tuple[Workload, ...]]:
    """Workloads by namespace and one of their labels."""
    index: dict[tuple[str, str, str], list[Workload]] = {}
    for workload in sorted(workloads, key=lambda w: (w.namespace, w.name, w.address)):
        for name, value in workload.labels.items():
            index.setdefault((workload.namespace, name, value), []).append(workload)
    return FrozenMap({key: tuple(found) for key, found in index.items()})


def _candidates(
    service: Service, workloads: Mapping[tuple[str, str, str], tuple[Workload, ...]]
) -> tuple[Workload, ...]:
    """The fewest workloads among which all that the service selects are found."""
    buckets = (workloads.get((service.namespace, name, value), ()) for name, value in service.selector.items())
    return min(buckets, key=len, default=())


def _endpoints(
    service: Service,
    entries: tuple[Resource[ServiceEntry], ...],
    slices: tuple[Resource[EndpointSlice], ...],
    candidates: tuple[Workload, ...],
) -> ServiceEndpoints:
    selected = [w for w in candidates if service.selector.items() <= w.labels.items()]
    by_port = {}
    for port in service.ports:
        found = [*(_of_workload(w, port) for w in selected), *_inline(service, port, entries)]
        found += [endpoint for part in slices for endpoint in _of_slice(part, port)]
        unique = {(endpoint.address, endpoint.port): endpoint for endpoint in reversed(found) if endpoint is not None}
        by_port[port.number] = tuple(unique[place] for place in sorted(unique))
    accounts = {
        f"ns/{endpoint.namespace}/sa/{endpoint.service_account}"
        for endpoints in by_port.values()
        for endpoint in endpoints
        if endpoint.tls and endpoint.service_account
    }
    return ServiceEndpoints(
        hostname=service.hostname,
        namespace=service.namespace,
        by_port=FrozenMap(by_port),
        accounts=tuple(sorted(accounts)),
    )


def _of_workload(workload: Workload, port: Port) -> Endpoint | None:
    """Where `workload` answers for a service's port; None if it has no port of that name."""
    if port.name in workload.service_ports:
        number = dialled = workload.service_ports[port.name]
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
        locality=workload.locality,
        weight=workload.weight,
        tls=workload.tls,
        health=workload.health,
        origin=workload.origin,
    )


def _workload_of(resource: Resource[WorkloadEntry]) -> Workload:
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
        network=entry.network,
        locality=entry.locality or merged.get(LOCALITY, "").replace(".", "/"),
        weight=entry.weight,
        tls=mode == "istio" if mode else bool(entry.service_account),
        origin=origin,
    )


def _inline(service: Service, port: Port, entries: Iterable[Resource[ServiceEntry]]) -> Iterator[Endpoint | None]:
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
                yield _of_workload(_declared(entry, resource.namespace, "", origin), port)
        if service.resolution in _DNS and not resource.spec.endpoints and not service.wildcard:
            number = port.target if isinstance(port.target, int) and port.target else port.number
            yield Endpoint(address=service.hostname, port=number, workload_port=number, origin=service.origin)


def _of_slice(resource: Resource[EndpointSlice], port: Port) -> Iterator[Endpoint]:
    """The ready endpoints of a slice; Kubernetes matches its ports to the Service's by name."""
    numbers = [p.port for p in resource.spec.ports if p.name == port.name and p.port]
    for number in numbers:
        for endpoint in resource.spec.endpoints:
            health = _health(endpoint)
            if health is None:
                continue
            for address in endpoint.addresses:
                yield Endpoint(
                    address=address,
                    port=number,
                    workload_port=number,
                    namespace=resource.namespace,
                    workload=endpoint.target_ref.name if endpoint.target_ref else "",
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


def _snapshot(built: tuple[ServiceEndpoints, ...], services: tuple[Service, ...], memo: Memo) -> Endpoints:
    by_workload: dict[Key, tuple[Instance, ...]] = {}
    by_address: dict[str, tuple[Instance, ...]] = {}
    for service, endpoints in zip(services, built, strict=True):
        workloads, addresses = memo.keep(service.key, _instances, service, endpoints)
        _join(by_workload, workloads)
        _join(by_address, addresses)
    return Endpoints(
        by_service=FrozenMap({endpoints.key: endpoints for endpoints in built}),
        accounts=memo.keep("", _accounts, tuple(endpoints.accounts for endpoints in built), services),
        by_workload=FrozenMap(by_workload),
        by_address=FrozenMap(by_address),
    )


def _join(index: dict[K, tuple[Instance, ...]], part: dict[K, tuple[Instance, ...]]) -> None:
    if index.keys().isdisjoint(part):  # the common case, and a tenth of the other's cost
        index |= part
        return
    for key, found in part.items():
        index[key] = index.get(key, ()) + found


def _accounts(accounts: tuple[tuple[str, ...], ...], services: tuple[Service, ...]) -> FrozenMap[Key, tuple[str, ...]]:
    return FrozenMap({service.key: names for service, names in zip(services, accounts, strict=True)})


def _instances(
    service: Service, endpoints: ServiceEndpoints
) -> tuple[dict[Key, tuple[Instance, ...]], dict[str, tuple[Instance, ...]]]:
    """The instances of one service, by registered workload and by declared address."""
    workloads: dict[Key, tuple[Instance, ...]] = {}
    addresses: dict[str, tuple[Instance, ...]] = {}
    for port in service.ports:
        for endpoint in endpoints.by_port.get(port.number, ()):
            instance = (Instance(service=service, port=port, workload_port=endpoint.workload_port),)
            if endpoint.origin is None:
                key = (endpoint.namespace, endpoint.workload)
                workloads[key] = workloads.get(key, ()) + instance
            else:
                addresses[endpoint.address] = addresses.get(endpoint.address, ()) + instance
    return workloads, addresses
