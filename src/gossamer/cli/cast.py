"""Who is who in configuration that does not run: the workloads that its documents tell of.

Invariant: every workload has an address: a Deployment, whose pods nobody has started, gets one that no network uses
(198.18.0.0/15, RFC 2544), in the order of namespaces and names.
"""

from __future__ import annotations

import difflib
import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from gossamer.api.config import Config
from gossamer.cli.inputs import load_labels
from gossamer.cli.offline import Fleet, build_fleet
from gossamer.core.errors import UsageError
from gossamer.core.frozen import EMPTY, FrozenMap
from gossamer.core.memo import Memo
from gossamer.model.endpoint_sources import TLS_MODE
from gossamer.model.inbound import instances_of
from gossamer.model.names import most_specific
from gossamer.model.proxy import DEFAULT_CLUSTER, Capture, CaptureMode, Proxy, ProxyType
from gossamer.model.service import Service, Workload
from gossamer.model.tokens import KeySource
from gossamer.node.workload import WorkloadSpec
from gossamer.simulate.call import Peer
from gossamer.simulate.outcome import EndpointChoice
from gossamer.simulate.request import Address, Certificate
from gossamer.simulate.simulator import Simulator

_POOL: Final = ipaddress.ip_network("198.18.0.0/15")
_NOBODYS: Final = str(_POOL[-2])
"""The address of a workload that might be."""
STRANGER: Final = "203.0.113.7"
"""The address of a client that is not of the mesh (RFC 5737)."""
ELSEWHERE: Final = "192.0.2.1"
"""The address of a host that nothing is known of (RFC 5737)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cast:
    """The fleet with its workloads, and the proxy of each when it is asked for."""

    fleet: Fleet
    workloads: tuple[Workload, ...]
    proxies: Mapping[tuple[str, str], Proxy] = EMPTY
    """Those that run, by namespace and name; others are made up."""
    _peers: dict[tuple[Proxy, ProxyType], Peer] = field(default_factory=dict)

    @property
    def trust_domain(self) -> str:
        return self.fleet.mesh.settings.trust_domain

    def peer(self, workload: Workload, kind: ProxyType = ProxyType.SIDECAR) -> Peer:
        """A workload with its proxy."""
        return self._peer(workload, kind, self.proxy_for(workload, kind))

    def caller(self, workload: Workload) -> Peer:
        """A workload whose calls its proxy captures. One that its host cannot keep from going round its proxy is taken
        to use it."""
        proxy = self.proxy_for(workload, ProxyType.SIDECAR)
        if proxy.capture.mode is CaptureMode.EXPLICIT:
            proxy = replace(proxy, capture=Capture(dns=True, mesh_address=proxy.capture.mesh_address))
        return self._peer(workload, ProxyType.SIDECAR, proxy)

    def proxy_for(self, workload: Workload, kind: ProxyType) -> Proxy:
        """The proxy of a workload: the one that runs, or the one that it would have."""
        running = self.proxies.get((workload.namespace, workload.name))
        if running is None:
            proxy = proxy_of(workload, kind, self.trust_domain)
            start = self.fleet.mesh.proxies.for_proxy(proxy)
            listening = replace(proxy.capture, outbound_port=start.outbound_port, inbound_port=start.inbound_port)
            return replace(proxy, capture=listening)
        return replace(running, service_account=workload.service_account)

    def bypassable(self, name: str) -> bool:
        """Whether a workload (`namespace/name`) runs, and nothing keeps it from going round its proxy."""
        namespace, _, own = name.partition("/")
        proxy = self.proxies.get((namespace, own))
        return proxy is not None and proxy.capture.mode is CaptureMode.EXPLICIT

    def _peer(self, workload: Workload, kind: ProxyType, proxy: Proxy) -> Peer:
        key = (proxy, kind)
        if key not in self._peers:
            self._peers[key] = Peer(
                name=name_of(workload),
                simulator=Simulator(self.fleet.resources(proxy)),
                identity=Certificate(uris=(proxy.spiffe_id,), dns_names=(proxy.dns_name,)),
                address=workload.address,
                gateway=kind is ProxyType.ROUTER,
            )
        return self._peers[key]

    def at(self, endpoint: EndpointChoice) -> Peer | None:
        """Who answers at an endpoint."""
        there = [w for w in self.workloads if w.address == endpoint.address.ip]
        dialled = (w for w in there if endpoint.address.port in (*w.ports.values(), *w.service_numbers.values()))
        found = next(dialled, there[0] if there else None)
        if found is not None and found.router:
            return self.peer(found, ProxyType.ROUTER)
        return self.peer(found) if found is not None and found.tls else None

    def service(self, host: str, namespace: str) -> Service | None:
        """The service that a client in a namespace means by a host: that of this name, an instance of a headless one,
        or one with a wildcard whose names have an address."""
        domain = self.fleet.mesh.settings.domain
        services = (*self.fleet.mesh.services.all, *self.fleet.endpoints.instances)
        forms = (host, f"{host}.{namespace}.svc.{domain}", f"{host}.svc.{domain}", f"{host}.{domain}")
        for form in forms:
            for service in services:
                if service.hostname == form.lower():
                    return service
        placed = {one.hostname: one for one in services if one.wildcard and (one.addresses or one.allocated)}
        best = most_specific(placed, host.lower())
        return placed[best] if best is not None else None

    def address_of(self, service: Service) -> str:
        """An address by which a service is called: its own, the one given to it, an instance's or an endpoint's."""
        instance = next((i for i in self.fleet.endpoints.instances if i.instance_of == service.hostname), service)
        for text in (*service.addresses, service.allocated, *instance.addresses, instance.allocated):
            if text:
                return str(ipaddress.ip_network(text, strict=False)[0])
        endpoints = self.fleet.endpoints.by_service.get(service.key)
        for places in endpoints.by_port.values() if endpoints is not None else ():
            for place in places:
                if _is_ip(place.address):
                    return place.address
        return ELSEWHERE

    def answering(self, host: str, port: int) -> tuple[Workload, Address] | None:
        """A workload with a sidecar that answers for a port of a host, or for any of its ports, and where it is called;
        None where there is none."""
        service = self.service(host, "default") or self._only(host)
        endpoints = self.fleet.endpoints.by_service.get(service.key) if service is not None else None
        if endpoints is None:
            return None
        others = (place for places in endpoints.by_port.values() for place in places)
        for place in (*endpoints.by_port.get(port, ()), *others):
            address = Address(ip=place.address, port=place.port)
            for workload in self.workloads:
                if workload.tls and (workload.namespace, workload.name) == (place.namespace, place.workload):
                    return workload, address
        return None

    def _only(self, name: str) -> Service | None:
        """The one service of a short name, in whatever namespace."""
        found = [service for service in self.fleet.mesh.services.all if service.hostname.partition(".")[0] == name]
        return found[0] if len(found) == 1 else None

    def gateways(self) -> tuple[str, ...]:
        """The names of all gateways that run."""
        return tuple(name_of(workload) for workload in self.workloads if workload.router)

    def gateway_port(self, workload: Workload, port: int) -> int:
        """The port on which a gateway listens for a port of the services before it."""
        proxy = self.proxy_for(workload, ProxyType.ROUTER)
        if port in proxy.gateway_ports:
            return proxy.gateway_ports[port]
        instances = instances_of(proxy, self.fleet.endpoints)
        return next((instance.workload_port for instance in instances if instance.port.number == port), port)


def build_cast(config: Config, memo: Memo, specs: Sequence[WorkloadSpec] = ()) -> Cast:
    """The workloads of a configuration, in the mesh that it makes; `specs` are those of a mesh file."""
    listed = {spec.key for spec in specs}
    started = tuple(w for w in _started(config) if (w.namespace, w.name) not in listed)
    started += tuple(_listed(spec, str(_POOL[-3 - number]), config) for number, spec in enumerate(specs))
    fleet = build_fleet(config, memo, started)
    return Cast(fleet=fleet, workloads=(*started, *_declared(config), *_inline(fleet)))


def build_running_cast(
    config: Config, memo: Memo, registrations: Sequence[tuple[Proxy, Workload]], keys: FrozenMap[KeySource, str]
) -> Cast:
    """Those who run in a mesh, and beside them those that only its documents tell of."""
    workloads = tuple(workload for _, workload in registrations)
    fleet = build_fleet(config, memo, workloads, keys)
    return Cast(
        fleet=fleet,
        workloads=(*workloads, *_declared(config), *_inline(fleet)),
        proxies={(proxy.namespace, proxy.name): proxy for proxy, _ in registrations},
    )


def name_of(workload: Workload) -> str:
    """What a workload is called: by its name, or else by its address, or by the labels of one that might be."""
    labels = ",".join(f"{name}={value}" for name, value in workload.labels.items())
    return f"{workload.namespace}/{workload.name or (labels if workload.address == _NOBODYS else workload.address)}"


def proxy_of(workload: Workload, kind: ProxyType, trust_domain: str) -> Proxy:
    """The proxy of a workload, as the control plane knows it."""
    return Proxy(
        type=kind,
        namespace=workload.namespace,
        name=workload.name,
        service_account=workload.service_account or "default",
        labels=workload.labels,
        addresses=(workload.address,) if _is_ip(workload.address) else (),
        trust_domain=trust_domain,
        cluster=workload.cluster or DEFAULT_CLUSTER,
        network=workload.network,
        group=workload.group,
        locality=workload.locality,
        capture=Capture(dns=kind is ProxyType.SIDECAR),
    )


def _started(config: Config) -> Iterator[Workload]:
    for number, deployment in enumerate(config.deployments):
        template = deployment.spec.template
        ports = [port for container in template.spec.containers for port in container.ports]
        yield Workload(
            name=deployment.name,
            namespace=deployment.namespace,
            service_account=deployment.spec.service_account,
            labels=template.metadata.labels,
            address=str(_POOL[number + 1]),
            named_ports=FrozenMap({port.name: port.container_port for port in ports if port.name}),
            tls=True,
        )


def _listed(spec: WorkloadSpec, address: str, config: Config) -> Workload:
    groups = {(one.namespace, one.name): one.spec.template.service_account for one in config.workload_groups}
    return Workload(
        name=spec.name,
        namespace=spec.namespace,
        service_account=spec.service_account or groups.get((spec.namespace, spec.group)) or "default",
        group=spec.group,
        labels=spec.labels,
        address=address,
        network=spec.place.network,
        cluster=spec.place.cluster or DEFAULT_CLUSTER,
        locality=spec.place.locality,
        weight=spec.weight,
        named_ports=FrozenMap({port.name: port.number for port in spec.ports if port.name}),
        tls=spec.type is ProxyType.SIDECAR,
        router=spec.type is ProxyType.ROUTER,
    )


def _declared(config: Config) -> Iterator[Workload]:
    for entry in config.workload_entries:
        labels = FrozenMap({**entry.labels, **entry.spec.labels})
        mode = labels.get(TLS_MODE)
        yield Workload(
            name=entry.name,
            namespace=entry.namespace,
            service_account=entry.spec.service_account or "default",
            labels=labels,
            address=entry.spec.address,
            tls=mode == "istio" if mode else bool(entry.spec.service_account),
        )


def _inline(fleet: Fleet) -> Iterator[Workload]:
    """Endpoints that a ServiceEntry or EndpointSlice lists; by address, since nobody named them."""
    seen: set[str] = set()
    for endpoints in fleet.endpoints.by_service.values():
        for places in endpoints.by_port.values():
            for place in places:
                inline = place.origin is not None and place.origin.resource.kind in ("ServiceEntry", "EndpointSlice")
                if inline and place.address not in seen and _is_ip(place.address):
                    seen.add(place.address)
                    yield Workload(
                        name=place.workload,
                        namespace=place.namespace or endpoints.namespace,
                        service_account=place.service_account or "default",
                        labels=place.labels,
                        address=place.address,
                        tls=place.tls,
                    )


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def find_workload(cast: Cast, who: str, option: str) -> Workload:
    """The workload that `who` names: `namespace/name`, `name`, an address, or `namespace/label=value,...`.

    Labels that nobody carries make a workload of their own, for who asks what would be; a name that nobody has is a
    UsageError with the names that there are.
    """
    namespace, slash, rest = who.partition("/")
    if not slash:
        namespace, rest = "default", who
    if "=" in rest or not rest:
        labels = load_labels(rest)
        found = next(
            (w for w in cast.workloads if w.namespace == namespace and labels.items() <= w.labels.items()), None
        )
        if rest and found is not None:
            return found
        return Workload(name="", namespace=namespace, labels=FrozenMap(labels), address=_NOBODYS, tls=True)
    for workload in cast.workloads:
        if (workload.namespace == namespace and workload.name == rest) or workload.address == who:
            return workload
    raise UsageError(_unknown(cast, f"{namespace}/{rest}", option))


def _unknown(cast: Cast, who: str, option: str) -> str:
    names = [name_of(workload) for workload in cast.workloads]
    close = difflib.get_close_matches(who, names, n=3, cutoff=0.5)
    if close:
        more = f"did you mean {' or '.join(close)}?"
    elif names:
        more = f"there are {', '.join(names[:8])}{' and more' if len(names) > 8 else ''}"
    else:
        more = "the files declare none (no Deployment, WorkloadEntry or endpoints)"
    return f"{option} {who}: no such workload; {more}. Labels work too: {option} default/app=web,version=v1"
