"""What a workload serves, seen from its own proxy.

Invariant: a proxy serves a service because an endpoint of it is the proxy's workload, by registered name or by declared
address; what a proxy says of itself does not come into it.
"""

from __future__ import annotations

from gossamer.model.build_endpoints import Endpoints, Instance
from gossamer.model.proxy import Proxy
from gossamer.model.view import InboundPort


def instances_of(proxy: Proxy, endpoints: Endpoints) -> tuple[Instance, ...]:
    """The service ports that this proxy's workload answers for."""
    found = endpoints.by_workload.get((proxy.namespace, proxy.name), ())
    for address in proxy.addresses:
        found += endpoints.by_address.get(address, ())
    return found


def inbound_ports(instances: tuple[Instance, ...]) -> tuple[InboundPort, ...]:
    """The workload's ports in order of their numbers; the oldest service of each says which protocol it speaks."""
    ports: dict[int, list[Instance]] = {}
    unique = dict.fromkeys(instances)
    for instance in sorted(unique, key=lambda it: (it.service.created, it.service.key, it.port.number)):
        ports.setdefault(instance.workload_port, []).append(instance)
    return tuple(
        InboundPort(
            number=number,
            protocol=members[0].port.protocol,
            name=members[0].port.name,
            services=tuple((member.service, member.port.number) for member in members),
        )
        for number, members in sorted(ports.items())
    )
