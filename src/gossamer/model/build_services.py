"""The hostnames of the mesh, from Kubernetes Services and ServiceEntries.

Invariant: a service depends on what declares it and never on who answers there, so endpoints come and go without it.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Final

from gossamer.api import kubernetes
from gossamer.api.resource import Resource
from gossamer.api.service_entry import Location, ServiceEntry
from gossamer.core.frozen import EMPTY, FrozenMap
from gossamer.core.ids import Origin
from gossamer.core.memo import Memo
from gossamer.model.names import export_targets, qualified
from gossamer.model.protocols import declared_protocol, kubernetes_protocol
from gossamer.model.service import Distribution, Port, Resolution, Service, six_of
from gossamer.model.settings import MeshSettings

EXPORT_TO: Final = "networking.istio.io/exportTo"
DISTRIBUTION: Final = "networking.istio.io/traffic-distribution"
_POOL: Final = ipaddress.ip_network("240.240.0.0/16")


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """All services, sorted by hostname and namespace, and the ways to find them."""

    all: tuple[Service, ...] = ()
    by_key: FrozenMap[tuple[str, str], Service] = EMPTY

    @property
    def looks_up(self) -> bool:
        """Whether some service's hosts are looked up as they are asked for."""
        return any(service.resolution is Resolution.DYNAMIC_DNS for service in self.all)


def build_services(
    declared: tuple[Resource[kubernetes.Service], ...],
    entries: tuple[Resource[ServiceEntry], ...],
    namespaces: tuple[Resource[kubernetes.Namespace], ...],
    settings: MeshSettings,
    memo: Memo,
) -> Services:
    """Every service of the mesh; those that share a hostname and a namespace are one. Of the namespaces it is what they
    say of their services' traffic distribution that counts."""
    homes = {one.name: one.annotations[DISTRIBUTION] for one in namespaces if DISTRIBUTION in one.annotations}
    resources = [memo(_from_kubernetes, one, homes.get(one.namespace, ""), settings) for one in declared]
    resources += [memo(_from_entry, one, homes.get(one.namespace, ""), settings) for one in entries]
    found: dict[tuple[str, str], list[Service]] = {}
    for services in resources:
        for service in services:
            found.setdefault(service.key, []).append(service)
    one_each = tuple(group[0] if len(group) == 1 else _merged(group) for _, group in sorted(found.items()))
    return memo.keep("", _index, one_each, memo)


def _index(services: tuple[Service, ...], memo: Memo) -> Services:
    given = _allocate(services)
    placed = tuple(
        memo(_placed, service, given[service.hostname]) if service.hostname in given else service
        for service in services
    )
    return Services(all=placed, by_key=FrozenMap({service.key: service for service in placed}))


def _placed(service: Service, address: str) -> Service:
    return service if service.addresses or service.headless else replace(service, allocated=address)


def _from_kubernetes(resource: Resource[kubernetes.Service], home: str, settings: MeshSettings) -> tuple[Service, ...]:
    spec, namespace = resource.spec, resource.namespace
    annotated = tuple(part.strip() for part in resource.annotations.get(EXPORT_TO, "").split(",") if part.strip())
    alias = spec.external_name.rstrip(".").lower() if spec.type == "ExternalName" else ""
    ports = {
        port.port: Port(
            number=port.port,
            name=port.name,
            protocol=kubernetes_protocol(port.port, port.name, port.app_protocol, port.protocol),
            target=port.target_port,
        )
        for port in spec.ports
    }
    addresses = tuple(dict.fromkeys(ip for ip in (spec.cluster_ip, *spec.cluster_ips) if ip and ip != "None"))
    return (
        Service(
            hostname=qualified(resource.name, namespace, settings.domain),
            namespace=namespace,
            name=resource.name,
            ports=tuple(ports[number] for number in sorted(ports)),
            addresses=addresses,
            resolution=Resolution.ALIAS if alias else Resolution.STATIC,
            headless=spec.headless,
            alias_of=alias,
            export_to=export_targets(annotated, settings.export_services_to, namespace),
            selector=spec.selector,
            labels=resource.labels,
            external_ips=tuple(ip for ip in spec.external_ips if ip not in addresses),
            cluster_local=settings.is_cluster_local(qualified(resource.name, namespace, settings.domain)),
            node_local=spec.internal_traffic_policy == "Local",
            distribution=_distribution(spec.traffic_distribution, resource.annotations.get(DISTRIBUTION), home),
            publish_not_ready=spec.publish_not_ready_addresses,
            kubernetes=True,
            created=resource.creation,
            origin=Origin(resource=resource.id),
        ),
    )


def _from_entry(resource: Resource[ServiceEntry], home: str, settings: MeshSettings) -> tuple[Service, ...]:
    spec, namespace = resource.spec, resource.namespace
    ports = {
        port.number: Port(
            number=port.number, name=port.name, protocol=declared_protocol(port.protocol), target=port.target_port
        )
        for port in spec.ports
    }
    selector = spec.workload_selector
    return tuple(
        Service(
            hostname=host.lower(),
            namespace=namespace,
            name=resource.name,
            ports=tuple(ports[number] for number in sorted(ports)),
            addresses=tuple(_canonical(address) for address in spec.addresses),
            resolution=Resolution(spec.resolution.value),
            external=spec.location is Location.MESH_EXTERNAL,
            export_to=export_targets(spec.export_to, settings.export_services_to, namespace),
            subject_alt_names=spec.subject_alt_names,
            selector=selector.labels if selector else EMPTY,
            cluster_local=settings.is_cluster_local(host.lower()),
            distribution=_distribution(resource.annotations.get(DISTRIBUTION), home),
            labels=resource.labels,
            created=resource.creation,
            origin=Origin(resource=resource.id),
        )
        for host in dict.fromkeys(spec.hosts)
    )


def _distribution(*said: str | None) -> Distribution:
    """The first word that anyone says; one that is not known is none."""
    return next((_DISTRIBUTIONS.get(word, Distribution.ANY) for word in said if word), Distribution.ANY)


_DISTRIBUTIONS: Final = {"PreferClose": Distribution.SAME_ZONE, **{one.value: one for one in Distribution}}


def _canonical(address: str) -> str:
    """An address or network in the one spelling that Envoy would give it."""
    try:
        network = ipaddress.ip_network(address, strict=False)
    except ValueError:
        return address
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def _merged(declared: list[Service]) -> Service:
    """Declarations of one hostname in one namespace: the oldest decides (Kubernetes' own before all), the others add
    ports, addresses and names."""
    ordered = sorted(declared, key=lambda service: (not service.kubernetes, service.created, service.name))
    ports = {port.number: port for service in reversed(ordered) for port in service.ports}
    return replace(
        ordered[0],
        ports=tuple(ports[number] for number in sorted(ports)),
        addresses=tuple(dict.fromkeys(address for service in ordered for address in service.addresses)),
        subject_alt_names=tuple(dict.fromkeys(name for service in ordered for name in service.subject_alt_names)),
        export_to=frozenset[str]().union(*(service.export_to for service in ordered)),
    )


def _allocate(services: Iterable[Service]) -> dict[str, str]:
    """An address for every hostname that has none of its own."""
    declared = {address for service in services for address in service.addresses}
    return allocate({s.hostname for s in services if not s.addresses and _allocatable(s)}, declared)


def allocate(wanted: Collection[str], declared: Collection[str]) -> dict[str, str]:
    """An address for each of these hostnames, none of them `declared`: where its hash says, or at the next free one.
    Hostnames are taken in order, so equal sets of hostnames get equal addresses."""
    taken: set[int] = set()
    given: dict[str, str] = {}
    size = _POOL.num_addresses
    for hostname in sorted(wanted)[: size // 2]:
        slot = int.from_bytes(hashlib.sha256(hostname.encode()).digest()[:4], "big") % size
        while slot in taken or slot % 256 in (0, 255) or not _free(str(_POOL[slot]), declared):
            slot = (slot + 1) % size
        taken.add(slot)
        given[hostname] = str(_POOL[slot])
    return given


def _free(address: str, declared: Collection[str]) -> bool:
    return address not in declared and six_of(address) not in declared


def _allocatable(service: Service) -> bool:
    """Not what is called at the address that its caller dialled, or looked up by the name that he asked for (NONE,
    DYNAMIC_DNS); a headless service is its endpoints. Wildcards have one too, unlike in Istio: our DNS answers for
    them."""
    return not service.headless and service.resolution not in _UNPLACED


_UNPLACED: Final = (Resolution.NONE, Resolution.ALIAS, Resolution.DYNAMIC_DNS)
