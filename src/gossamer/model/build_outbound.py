"""What the proxies of one kind of client see of others: services with their policies, and the hosts that routes serve.

Invariant: equal sights are one object, whoever has them, so that what is compiled from them is compiled once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple, TypeVar

from gossamer.api.common import PortSelector
from gossamer.core.frozen import FrozenMap
from gossamer.core.memo import Memo
from gossamer.model.destinations import NO_POLICY, DestinationPolicy, Destinations, destination_for
from gossamer.model.egress import Egress, build_egress
from gossamer.model.health_checks import Check
from gossamer.model.mesh import Mesh
from gossamer.model.names import exported
from gossamer.model.routing import MESH, Client, EgressListener, Routing, loaded
from gossamer.model.service import Service
from gossamer.model.settings import MeshSettings, OutboundPolicy
from gossamer.model.sidecars import imports_routing, imports_service
from gossamer.model.sight import Sight, sight_of
from gossamer.model.targets import resolve
from gossamer.model.view import Outbound, OutboundService

T = TypeVar("T")
_EVERYTHING = EgressListener(imports=())


class _Rules(NamedTuple):
    """What is said of services beside what they are."""

    destinations: Destinations
    checks: FrozenMap[tuple[str, str], tuple[Check, ...]]
    root: str

    @classmethod
    def of(cls, mesh: Mesh) -> _Rules:
        return cls(mesh.destinations, mesh.checks, mesh.settings.root_namespace)


def build_outbound(
    mesh: Mesh,
    accounts: FrozenMap[tuple[str, str], tuple[str, ...]],
    instances: tuple[Service, ...],
    client: Client,
    memo: Memo,
) -> Outbound:
    """The outbound sight of a client; `accounts` are who answers for each service, by hostname and namespace,
    `instances` those of headless services."""
    everything = (*mesh.services.all, *instances) if instances else mesh.services.all
    routings = shared(memo.keep(client, _routings, mesh.routings, client, memo), memo)
    if client.egress is None:
        visible = shared(memo.keep(client.namespace, _visible, everything, client.namespace), memo)
    else:
        visible = shared(memo.keep(client, _imported, everything, routings, client), memo)
    asked = mesh.policies.asked_in(client.namespace)
    known = memo.keep(client, _with_asked, visible, everything, asked) if asked else visible
    services = shared(memo.keep(client, _with_policies, known, _Rules.of(mesh), accounts, client, memo), memo)
    settings = mesh.settings
    if client.policy is not None:
        settings = memo.keep(client.policy, _settings, mesh.settings, client.policy, services)
    callable_ = services if known is visible else memo.keep(client, _only, services, visible)
    sights = memo.keep(client, _sights, callable_, routings, client.egress, memo)
    made = Egress()
    if MESH in client.gateways:
        made = memo.keep(client, build_egress, sights, client, settings, memo)
    return memo.keep(
        client,
        Outbound,
        client=client,
        services=services,
        routings=routings,
        tables=made.tables,
        binds=made.binds,
        opened=made.opened,
        opened_tables=made.opened_tables,
        named=callable_ if client.egress is None else memo.keep(client, _named, callable_, client.egress),
        node_local=any(outbound.service.node_local for outbound in services),
        cluster_local=any(outbound.service.cluster_local for outbound in services),
        settings=settings,
    )


def shared(value: T, memo: Memo) -> T:
    """The same object for equal values, however they were come by."""
    return memo.keep("", _same, value)


def _same(value: T) -> T:
    return value


def _visible(services: Iterable[Service], namespace: str) -> tuple[Service, ...]:
    """The services exported to a namespace, one for each hostname: the namespace's own, else Kubernetes' own, else the
    oldest."""
    chosen: dict[str, Service] = {}
    for service in services:
        if not exported(service.export_to, namespace):
            continue
        known = chosen.get(service.hostname)
        if known is None or _preference(service, namespace) < _preference(known, namespace):
            chosen[service.hostname] = service
    return tuple(chosen.values())


def _with_asked(
    visible: tuple[Service, ...], everything: Iterable[Service], asked: frozenset[tuple[str, str]]
) -> tuple[Service, ...]:
    """The services, and those of authorizers that the client has to ask whether or not it may call them."""
    known = {service.hostname for service in visible}
    added = [service for service in everything if service.key in asked and service.hostname not in known]
    return tuple(sorted((*visible, *added), key=lambda service: service.key)) if added else visible


def _only(services: tuple[OutboundService, ...], visible: tuple[Service, ...]) -> tuple[OutboundService, ...]:
    keys = {service.key for service in visible}
    return tuple(outbound for outbound in services if outbound.service.key in keys)


def _preference(service: Service, namespace: str) -> tuple[bool, bool, str, str]:
    return (service.namespace != namespace, not service.kubernetes, service.created, service.namespace)


def _imported(services: Iterable[Service], routings: Iterable[Routing], client: Client) -> tuple[Service, ...]:
    """The services that the client's Sidecar lets in, and those, though not let in, that routes let in lead to."""
    imports = tuple(one for listener in client.egress or () for one in listener.imports)
    known = _visible((s for s in services if imports_service(imports, s.namespace, s.declared_as)), client.namespace)
    hosts = {service.hostname for service in known}
    wanted = {host for routing in routings for host in routing.destinations} - hosts
    behind = {service.alias_of for service in known if service.alias_of} - hosts
    wanted |= behind
    others = _visible((s for s in services if s.hostname in wanted), client.namespace) if wanted else ()
    return tuple(sorted((*known, *others), key=lambda service: service.key))


def _named(services: tuple[OutboundService, ...], egress: tuple[EgressListener, ...]) -> tuple[OutboundService, ...]:
    imports = tuple(one for listener in egress for one in listener.imports)
    return tuple(s for s in services if imports_service(imports, s.service.namespace, s.service.declared_as))


def _sights(
    services: tuple[OutboundService, ...],
    routings: tuple[Routing, ...],
    egress: tuple[EgressListener, ...] | None,
    memo: Memo,
) -> tuple[tuple[EgressListener, Sight], ...]:
    if egress is None:
        return ((_EVERYTHING, Sight(services=services, routings=routings)),)
    redirected = tuple(listener for listener in egress if not listener.opened)
    return tuple((listener, sight_of(listener, redirected, services, routings, memo)) for listener in egress)


def _settings(settings: MeshSettings, policy: OutboundPolicy, services: tuple[OutboundService, ...]) -> MeshSettings:
    """The mesh's settings with a Sidecar's policy, the port of whose egress proxy is told by its service."""
    proxy = policy.egress_proxy
    if proxy is not None:
        target = resolve(proxy, {outbound.service.hostname: outbound for outbound in services}, 0)
        policy = replace(policy, egress_proxy=replace(proxy, port=PortSelector(number=target.port)))
    return replace(settings, outbound=policy)


def _with_policies(
    visible: Iterable[Service],
    rules: _Rules,
    accounts: Mapping[tuple[str, str], tuple[str, ...]],
    client: Client,
    memo: Memo,
) -> tuple[OutboundService, ...]:
    return tuple(
        memo(
            OutboundService,
            service=service,
            destination=_policy(rules.destinations, service, client, rules.root),
            accounts=accounts.get(service.key, ()),
            checks=rules.checks.get(service.key, ()),
        )
        for service in visible
    )


def _policy(destinations: Destinations, service: Service, client: Client, root: str) -> DestinationPolicy:
    """The policy of a service; an instance of a headless one has that one's unless it has one by its own name."""
    found = destination_for(destinations, service, client, root)
    if found is NO_POLICY and service.instance_of:
        return destination_for(destinations, replace(service, hostname=service.instance_of), client, root)
    return found


def _routings(routings: Iterable[Routing], client: Client, memo: Memo) -> tuple[Routing, ...]:
    """The VirtualServices that the client loads, and its Sidecar lets in."""
    found = _some(memo(loaded, routing, client) for routing in routings)
    if client.egress is None:
        return tuple(found)
    imports = tuple(one for listener in client.egress for one in listener.imports)
    return tuple(routing for routing in found if imports_routing(imports, routing.id.namespace, routing.hosts))


def _some(values: Iterable[T | None]) -> Iterator[T]:
    return (value for value in values if value is not None)
