"""What services ask of a caller's place, and the place of each caller.

Invariant: a caller's place has only what is asked, so that alike callers share what is compiled for them.
"""

from __future__ import annotations

from gossamer.core.frozen import FrozenMap
from gossamer.core.memo import Memo
from gossamer.model.build_endpoints import Endpoints, Instance
from gossamer.model.destinations import NO_POLICY, Subset
from gossamer.model.health_checks import check_on
from gossamer.model.nearness import Nearness, nearness_of, preferred
from gossamer.model.place import NODE, NOTHING_ASKED, NOWHERE, Asked, Place, joined, locality_of, zone_of
from gossamer.model.proxy import Proxy
from gossamer.model.service import Distribution, Health
from gossamer.model.settings import MeshSettings
from gossamer.model.view import OutboundService


def asked_of_place(services: tuple[OutboundService, ...], settings: MeshSettings, memo: Memo) -> Asked:
    """What any of the services asks of its callers' place."""
    return memo.keep("", _asked_by_all, services, settings, memo)


def _asked_by_all(services: tuple[OutboundService, ...], settings: MeshSettings, memo: Memo) -> Asked:
    return joined(memo(asked_by, outbound, settings) for outbound in services)


def asked_by(outbound: OutboundService, settings: MeshSettings) -> Asked:
    """What one service asks, on any port and in any subset."""
    if _silent(outbound, settings):
        return NOTHING_ASKED
    return joined(
        nearness.asked
        for port in outbound.service.ports
        for subset in (None, *outbound.destination.subsets)
        if (nearness := nearness_on(outbound, port.number, subset, settings)) is not None
    )


def nearness_on(outbound: OutboundService, port: int, subset: Subset | None, settings: MeshSettings) -> Nearness | None:
    """How near endpoints matter for calls to a port (of a subset) of a service."""
    if _silent(outbound, settings):
        return None
    policy = outbound.destination.on(port, subset)
    balancer = policy.load_balancer
    said = balancer is not None and (balancer.locality_lb_setting or balancer.zone_aware_lb_setting)
    if outbound.service.distribution is not Distribution.ANY and not said:
        return preferred(outbound.service.distribution)
    return nearness_of(policy, settings, checked=check_on(outbound.checks, port) is not None)


def _silent(outbound: OutboundService, settings: MeshSettings) -> bool:
    """Whether nobody says anything by which it could matter who is near: so it is with most services of most meshes."""
    by_all = (settings.locality, settings.zone_aware, settings.default_outlier_detection)
    return (
        outbound.destination is NO_POLICY
        and not outbound.checks
        and outbound.service.distribution is Distribution.ANY
        and all(said is None for said in by_all)
    )


def place_of(proxy: Proxy, asked: Asked, instances: tuple[Instance, ...], endpoints: Endpoints) -> Place:
    """Where a proxy is, as far as it was asked."""
    if asked is NOTHING_ASKED or not asked.place:
        return NOWHERE
    known = {NODE: proxy.node, **proxy.labels} if proxy.node else proxy.labels
    labels = {name: known[name] for name in sorted(asked.labels) if name in known}
    return Place(
        locality=proxy.locality or locality_of(proxy.labels),
        network=proxy.network,
        cluster=proxy.cluster,
        labels=FrozenMap(labels),
        peers=_peers(instances, endpoints) if asked.peers else FrozenMap(),
    )


def _peers(instances: tuple[Instance, ...], endpoints: Endpoints) -> FrozenMap[str, int]:
    """The well instances of the caller's own service (the first of several) by zone."""
    counts: dict[str, int] = {}
    for instance in instances[:1]:
        for endpoint in endpoints.by_service[instance.service.key].by_port.get(instance.port.number, ()):
            if endpoint.health is Health.HEALTHY:
                counts[zone_of(endpoint.locality)] = counts.get(zone_of(endpoint.locality), 0) + 1
    return FrozenMap(sorted(counts.items()))
