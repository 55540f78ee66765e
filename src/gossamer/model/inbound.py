"""What a workload serves, seen from its own proxy.

Invariant: a proxy serves a service because an endpoint of it is the proxy's workload, by registered name or by declared
address; what a proxy says of itself does not come into it.
"""

from __future__ import annotations

from collections.abc import Sequence

from gossamer.api.destination_rule import ConnectionPoolSettings
from gossamer.api.sidecar import CaptureMode as Captured
from gossamer.model.build_endpoints import Endpoints, Instance
from gossamer.model.protocols import declared_protocol
from gossamer.model.proxy import CaptureMode, Proxy
from gossamer.model.sidecars import IngressRule, SidecarRule
from gossamer.model.view import InboundPort


def instances_of(proxy: Proxy, endpoints: Endpoints) -> tuple[Instance, ...]:
    """The service ports that this proxy's workload answers for."""
    found = endpoints.by_workload.get((proxy.namespace, proxy.name), ())
    for address in proxy.addresses:
        found += endpoints.by_address.get(address, ())
    return found


def inbound_ports(
    instances: tuple[Instance, ...], sidecar: SidecarRule | None, mode: CaptureMode
) -> tuple[InboundPort, ...]:
    """The workload's ports in order of their numbers: those of its Sidecar's ingress listeners and no others if it has
    any, else those of the services that it answers for."""
    ports: dict[int, list[Instance]] = {}
    unique = dict.fromkeys(instances)
    for instance in sorted(unique, key=lambda it: (it.service.created, it.service.key, it.port.number)):
        ports.setdefault(instance.workload_port, []).append(instance)
    if sidecar is not None and sidecar.ingress:
        listeners = {rule.spec.port.number: rule for rule in reversed(sidecar.ingress)}
        return tuple(_listener(listeners[number], ports.get(number, ()), sidecar, mode) for number in sorted(listeners))
    pool = sidecar.inbound_pool if sidecar is not None else None
    return tuple(_served(number, members, pool) for number, members in sorted(ports.items()))


def _served(number: int, members: Sequence[Instance], pool: ConnectionPoolSettings | None) -> InboundPort:
    """A port as services know it; the oldest service says which protocol it speaks."""
    return InboundPort(
        number=number,
        protocol=members[0].port.protocol,
        name=members[0].port.name,
        services=tuple((member.service, member.port.number) for member in members),
        pool=pool,
    )


def _listener(rule: IngressRule, members: Sequence[Instance], sidecar: SidecarRule, mode: CaptureMode) -> InboundPort:
    spec = rule.spec
    default = mode is CaptureMode.EXPLICIT and bool(spec.bind)
    return InboundPort(
        number=spec.port.number,
        protocol=declared_protocol(spec.port.protocol),
        name=spec.port.name,
        services=tuple((member.service, member.port.number) for member in members),
        pool=spec.connection_pool or sidecar.inbound_pool,
        bind=spec.bind,
        opened=default if spec.capture_mode is Captured.DEFAULT else spec.capture_mode is Captured.NONE,
        endpoint=spec.default_endpoint,
        tls=spec.tls,
        origin=rule.origin,
    )
