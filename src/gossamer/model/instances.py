"""Each instance of a headless service as a service of its own: `db-0.db.default.svc.cluster.local`.

Invariant: an instance differs from its service in its name, its address and in having one endpoint. It comes and goes
with that endpoint; what other instances do leaves it as it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from gossamer.core.frozen import EMPTY, FrozenMap
from gossamer.core.memo import Memo
from gossamer.model.build_services import allocate
from gossamer.model.service import Endpoint, Service, ServiceEndpoints


@dataclass(frozen=True, slots=True, kw_only=True)
class Instances:
    """Instances of all headless services with their endpoints, in the same order."""

    services: tuple[Service, ...] = ()
    endpoints: tuple[ServiceEndpoints, ...] = ()


def build_instances(services: tuple[Service, ...], endpoints: tuple[ServiceEndpoints, ...], memo: Memo) -> Instances:
    """The instances of the headless ones among `services`, whose endpoints stand in the same order. Where callers can
    dial an instance's own address it keeps that; one behind its host's address is given one."""
    pairs = zip(services, endpoints, strict=True)
    found = [
        pair
        for service, members in pairs
        if service.headless
        for pair in memo.keep(service.key, _instances, service, members)
    ]
    wanted = {instance.hostname for instance, _ in found if not instance.addresses}
    taken = {address for service in services for address in (*service.addresses, service.allocated)} if wanted else ()
    given = allocate(wanted, taken)
    return Instances(
        services=tuple(memo(_placed, instance, given.get(instance.hostname, "")) for instance, _ in found),
        endpoints=tuple(members for _, members in found),
    )


def _placed(instance: Service, address: str) -> Service:
    return replace(instance, allocated=address) if address else instance


def _instances(service: Service, endpoints: ServiceEndpoints) -> tuple[tuple[Service, ServiceEndpoints], ...]:
    by_name: dict[str, dict[int, Endpoint]] = {}
    for number, members in endpoints.by_port.items():
        for member in members:
            if member.workload:
                by_name.setdefault(member.workload, {}).setdefault(number, member)
    return tuple(_instance(service, name, by_name[name]) for name in sorted(by_name))


def _instance(service: Service, name: str, by_port: dict[int, Endpoint]) -> tuple[Service, ServiceEndpoints]:
    hostname = f"{name.lower()}.{service.hostname}"
    members = list(by_port.values())
    instance = replace(
        service,
        hostname=hostname,
        addresses=_own_addresses(members),
        headless=False,
        selector=EMPTY,
        instance_of=service.hostname,
        ports=tuple(port for port in service.ports if port.number in by_port),
    )
    accounts = {f"ns/{one.namespace}/sa/{one.service_account}" for one in members if one.tls and one.service_account}
    return instance, ServiceEndpoints(
        hostname=hostname,
        namespace=service.namespace,
        by_port=FrozenMap({number: (member,) for number, member in by_port.items()}),
        accounts=tuple(sorted(accounts)),
    )


def _own_addresses(members: Iterable[Endpoint]) -> tuple[str, ...]:
    """Where callers dial the instance itself: nobody else answers there, as a document says (EndpointSlice,
    WorkloadEntry)."""
    declared = (member.address for member in members if member.origin is not None and member.address[:1].isalnum())
    return tuple(dict.fromkeys(declared))
