"""Who answers for each service right now: inline endpoints, workloads that a selector finds, EndpointSlices.

Invariant: a snapshot of its own. It is made anew when instances come and go, and nothing of the mesh is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from gossamer.api.config import Config
from gossamer.api.kubernetes import EndpointSlice
from gossamer.api.peer_authentication import MutualTLSMode, PeerAuthentication
from gossamer.api.resource import Resource
from gossamer.api.service_entry import ServiceEntry
from gossamer.core.frozen import EMPTY, FrozenMap
from gossamer.core.memo import Memo
from gossamer.model.build_policies import PolicyIndex
from gossamer.model.discovery import discovered
from gossamer.model.endpoint_sources import inline, of_slice, of_workload, workload_of
from gossamer.model.groups import grouped_workload
from gossamer.model.instances import build_instances
from gossamer.model.mesh import Mesh
from gossamer.model.policy import MutualTls
from gossamer.model.service import Endpoint, Health, Port, Service, ServiceEndpoints, Workload

SLICE_OF: Final = "kubernetes.io/service-name"
_NOT_READY: Final = frozenset({Health.UNHEALTHY, Health.UNREADY})

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
    instances: tuple[Service, ...] = ()
    """The instances of headless services, as services of their own."""
    by_workload: FrozenMap[Key, tuple[Instance, ...]] = EMPTY
    by_address: FrozenMap[str, tuple[Instance, ...]] = EMPTY


def build_endpoints(config: Config, registrations: tuple[Workload, ...], mesh: Mesh, memo: Memo) -> Endpoints:
    """Endpoints of every service of `mesh`. `registrations` are the workloads that agents vouch for."""
    config = memo.keep("", discovered, config)
    sources = _Sources(
        entries=config.service_entries,
        slices=config.endpoint_slices,
        workloads=(
            *(grouped_workload(one, mesh.groups) if one.group else one for one in registrations),
            *(memo(workload_of, entry) for entry in config.workload_entries),
        ),
    )
    policies = mesh.policies if memo.keep("", _some_disable, config.peer_authentications) else None
    return memo.keep("", _build, sources, mesh.services.all, policies, memo)


def _some_disable(policies: tuple[Resource[PeerAuthentication], ...]) -> bool:
    """Whether any workload may have to be called in plaintext though it has a sidecar."""
    modes = (mtls.mode for r in policies for mtls in (r.spec.mtls, *r.spec.port_level_mtls.values()) if mtls)
    return MutualTLSMode.DISABLE in modes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sources:
    """All that endpoints come from."""

    entries: tuple[Resource[ServiceEntry], ...]
    slices: tuple[Resource[EndpointSlice], ...]
    workloads: tuple[Workload, ...]


def _build(sources: _Sources, services: tuple[Service, ...], policies: PolicyIndex | None, memo: Memo) -> Endpoints:
    entries: dict[Key, list[Resource[ServiceEntry]]] = {}
    for entry in sources.entries:
        for host in dict.fromkeys(entry.spec.hosts):
            entries.setdefault((host.lower(), entry.namespace), []).append(entry)
    slices: dict[Key, list[Resource[EndpointSlice]]] = {}
    for part in sources.slices:
        slices.setdefault((part.labels.get(SLICE_OF, ""), part.namespace), []).append(part)
    namespaces: dict[str, list[Workload]] = {}
    for workload in sources.workloads:
        namespaces.setdefault(workload.namespace, []).append(workload)
    workloads = {name: memo.keep(name, _by_label, tuple(found)) for name, found in namespaces.items()}
    built = tuple(
        memo.keep(
            service.key,
            _endpoints,
            service,
            tuple(entries.get(service.key, ())),
            tuple(slices.get((service.name, service.namespace), ())),
            _candidates(service, workloads.get(service.namespace, EMPTY)) if service.selector else (),
            policies,
            memo,
        )
        for service in services
    )
    return memo.keep("", _snapshot, built, services, memo)


def _by_label(workloads: tuple[Workload, ...]) -> FrozenMap[tuple[str, str], tuple[Workload, ...]]:
    """Workloads of a namespace by each of their labels."""
    index: dict[tuple[str, str], list[Workload]] = {}
    for workload in sorted(workloads, key=lambda w: (w.name, w.address)):
        for label in workload.labels.items():
            index.setdefault(label, []).append(workload)
    return FrozenMap({label: tuple(found) for label, found in index.items()})


def _candidates(service: Service, workloads: Mapping[tuple[str, str], tuple[Workload, ...]]) -> tuple[Workload, ...]:
    """The fewest workloads among which all that the service selects are found."""
    return min((workloads.get(label, ()) for label in service.selector.items()), key=len, default=())


def _endpoints(
    service: Service,
    entries: tuple[Resource[ServiceEntry], ...],
    slices: tuple[Resource[EndpointSlice], ...],
    candidates: tuple[Workload, ...],
    policies: PolicyIndex | None,
    memo: Memo,
) -> ServiceEndpoints:
    selected = [w for w in candidates if service.selector.items() <= w.labels.items()]
    by_port = {}
    for port in service.ports:
        found = [*(of_workload(w, port) for w in selected), *inline(service, port, entries)]
        found += [e for part in slices for e in of_slice(part, port, unready=service.publish_not_ready)]
        if service.publish_not_ready:
            found = [replace(e, health=Health.HEALTHY) if e and e.health in _NOT_READY else e for e in found]
        unique = {(endpoint.address, endpoint.port): endpoint for endpoint in reversed(found) if endpoint is not None}
        members = [unique[place] for place in sorted(unique)]
        by_port[port.number] = tuple(_as_accepted(e, policies, memo) for e in members) if policies else tuple(members)
    accounts = {
        f"ns/{endpoint.namespace}/sa/{endpoint.service_account}"
        for endpoints in by_port.values()
        for endpoint in endpoints
        if endpoint.service_account and (endpoint.tls or endpoint.router)
    }
    return ServiceEndpoints(
        hostname=service.hostname,
        namespace=service.namespace,
        by_port=FrozenMap(by_port),
        accounts=tuple(sorted(accounts)),
    )


def _as_accepted(endpoint: Endpoint, policies: PolicyIndex, memo: Memo) -> Endpoint:
    """The endpoint, without mutual TLS where its own PeerAuthentication takes none (Istio's auto mTLS)."""
    if not endpoint.tls:
        return endpoint
    accepted = policies.peer_policy(endpoint.namespace, endpoint.labels, memo).on(endpoint.workload_port)
    return replace(endpoint, tls=False) if accepted is MutualTls.DISABLE else endpoint


def _snapshot(built: tuple[ServiceEndpoints, ...], services: tuple[Service, ...], memo: Memo) -> Endpoints:
    by_workload: dict[Key, tuple[Instance, ...]] = {}
    by_address: dict[str, tuple[Instance, ...]] = {}
    instances = memo.keep("", build_instances, services, built, memo)
    for service, endpoints in zip(services, built, strict=True):
        workloads, addresses = memo.keep(service.key, _instances, service, endpoints)
        _join(by_workload, workloads)
        _join(by_address, addresses)
    if instances.services:
        services, built = (*services, *instances.services), (*built, *instances.endpoints)
    return Endpoints(
        by_service=FrozenMap({endpoints.key: endpoints for endpoints in built}),
        accounts=memo.keep(
            "",
            _accounts,
            tuple(endpoints.accounts for endpoints in built),
            services,
        ),
        instances=instances.services,
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
