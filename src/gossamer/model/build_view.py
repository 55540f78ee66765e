"""The last step of the model: the mesh and its endpoints as one proxy sees them.

Invariant: a view holds nothing that its proxy may not see; what proxies have in common is one object.
"""

from __future__ import annotations

from dataclasses import replace

from gossamer.core.frozen import FrozenMap
from gossamer.core.memo import Memo
from gossamer.model.build_endpoints import Endpoints, Instance
from gossamer.model.build_outbound import build_outbound
from gossamer.model.credentials import asked_by_destinations, asked_by_servers, bundles_for, credentials_for
from gossamer.model.decisions import with_decisions
from gossamer.model.explicit import explicit_binds, explicit_tables
from gossamer.model.groups import grouped_proxy
from gossamer.model.inbound import inbound_ports, instances_of
from gossamer.model.mesh import Mesh
from gossamer.model.node_metadata import node_metadata
from gossamer.model.places import asked_of_place, place_of
from gossamer.model.policy import WorkloadPolicies
from gossamer.model.proxy import DEFAULT_CLUSTER, Capture, CaptureMode, Proxy, ProxyType
from gossamer.model.routing import MESH, Client
from gossamer.model.server_chains import with_chains
from gossamer.model.servers import build_gateway_tables, servers_for
from gossamer.model.service import Service, ServiceEndpoints
from gossamer.model.sidecars import SidecarRule, Sidecars, egress_listeners, sidecar_for, without_paths
from gossamer.model.view import NOTHING, InboundPort, Opened, Outbound, OutboundService, ProxyView


def view_for(mesh: Mesh, endpoints: Endpoints, proxy: Proxy, memo: Memo) -> ProxyView:
    """What `proxy` sees. Equal views are the same object as before."""
    if proxy.group:
        proxy = grouped_proxy(proxy, mesh.groups)
    return memo.keep(proxy, _view, mesh, endpoints, proxy, memo)


def _view(mesh: Mesh, endpoints: Endpoints, proxy: Proxy, memo: Memo) -> ProxyView:
    sidecar = memo.keep(proxy, _sidecar, mesh.sidecars, proxy)
    outbound, policies = memo.keep(
        proxy, _without_endpoints, mesh, endpoints.accounts, endpoints.instances, proxy, sidecar, memo=memo
    )
    seen = memo.keep("", _endpoints_of, outbound.services, endpoints.by_service)
    if not proxy.binds_paths:
        seen = memo.keep("no paths", _without_sockets, seen, memo)
    if outbound.node_local:
        seen = memo.keep(("on", proxy.node), _on_node, outbound.services, seen, proxy.node, memo)
    if outbound.cluster_local:
        near = ("in", proxy.node if outbound.node_local else "", proxy.cluster)
        seen = memo.keep(near, _in_cluster, outbound.services, seen, proxy.cluster, memo)
    instances = instances_of(proxy, endpoints)
    if proxy.type is ProxyType.ROUTER:
        opened = memo.keep(proxy, _gateway, mesh, outbound, proxy, instances, memo)
    elif proxy.capture.mode is CaptureMode.EXPLICIT:
        opened = memo.keep(proxy, _explicit, outbound, proxy.capture, memo)
    elif outbound.settings.http_proxy_port:
        opened = memo.keep(proxy, _proxied, outbound, memo)
    else:
        opened = NOTHING
    if proxy.type is ProxyType.SIDECAR and (names := memo.keep("", asked_by_destinations, outbound.services)):
        found = memo.keep(proxy.namespace, credentials_for, names, mesh.secrets, proxy.namespace)
        opened = replace(opened, credentials=found)
    return ProxyView(
        proxy=proxy,
        settings=outbound.settings,
        inbound=_inbound(mesh, proxy, instances, sidecar, memo) if proxy.type is ProxyType.SIDECAR else (),
        policies=policies,
        outbound=outbound,
        endpoints=seen,
        opened=opened,
        extensions=mesh.extensions.for_proxy(proxy),
        patches=mesh.patches.for_proxy(proxy, metadata_for(mesh, proxy)) if mesh.patches.filters else (),
        place=place_of(proxy, asked_of_place(outbound.services, outbound.settings, memo), instances, endpoints),
    )


def _inbound(
    mesh: Mesh, proxy: Proxy, instances: tuple[Instance, ...], sidecar: SidecarRule | None, memo: Memo
) -> tuple[InboundPort, ...]:
    ports = memo.keep(proxy, inbound_ports, instances, sidecar, proxy.capture.mode)
    if not mesh.decided:
        return ports
    return memo.keep(proxy, with_decisions, ports, mesh.decided, mesh.settings.root_namespace)


def _sidecar(sidecars: Sidecars, proxy: Proxy) -> SidecarRule | None:
    """The Sidecar of a proxy; none speaks for a gateway."""
    found = sidecar_for(sidecars, proxy.namespace, proxy.labels) if proxy.type is ProxyType.SIDECAR else None
    return found if found is None or proxy.binds_paths else without_paths(found)


def _without_endpoints(
    mesh: Mesh,
    accounts: FrozenMap[tuple[str, str], tuple[str, ...]],
    instances: tuple[Service, ...],
    proxy: Proxy,
    sidecar: SidecarRule | None,
    *,
    memo: Memo,
) -> tuple[Outbound, WorkloadPolicies]:
    """What stays while instances come and go."""
    client = client_of(proxy, mesh.asked_labels, sidecar)
    outbound = memo.keep(client, build_outbound, mesh, accounts, instances, client, memo)
    return outbound, mesh.policies.for_workload(proxy.namespace, proxy.labels, memo)


def _gateway(mesh: Mesh, outbound: Outbound, proxy: Proxy, instances: tuple[Instance, ...], memo: Memo) -> Opened:
    client, services = outbound.client, outbound.services
    servers = with_chains(servers_for(mesh.gateways, proxy, instances), services, mesh.routings, client, memo)
    return Opened(
        servers=servers,
        tables=build_gateway_tables(servers, services, mesh.routings, client, memo),
        credentials=memo.keep(
            proxy,
            credentials_for,
            asked_by_servers(servers) | memo.keep(client, asked_by_destinations, services),
            mesh.secrets,
            proxy.namespace,
            bundles_for(servers, mesh.config_maps, proxy.namespace),
        ),
    )


def _explicit(outbound: Outbound, capture: Capture, memo: Memo) -> Opened:
    return Opened(
        binds=explicit_binds(outbound, capture), tables=explicit_tables(outbound, capture, outbound.settings, memo)
    )


def _proxied(outbound: Outbound, memo: Memo) -> Opened:
    """The table of an HTTP proxy for a workload whose traffic is redirected too (MeshConfig.proxyHttpPort)."""
    capture = Capture(http_proxy_port=outbound.settings.http_proxy_port)
    return Opened(tables=explicit_tables(outbound, capture, outbound.settings, memo))


def client_of(proxy: Proxy, asked_labels: frozenset[tuple[str, str]], sidecar: SidecarRule | None) -> Client:
    """What the mesh's rules can tell of this proxy as a client: a sidecar's gateway is `mesh`, a gateway has none."""
    captured = proxy.capture.mode is CaptureMode.TRANSPARENT
    labels = {name: value for name, value in sorted(proxy.labels.items()) if (name, value) in asked_labels}
    gateways = frozenset({MESH}) if proxy.type is ProxyType.SIDECAR else frozenset[str]()
    return Client(
        namespace=proxy.namespace,
        labels=FrozenMap(labels),
        gateways=gateways,
        allocated=proxy.capture.dns,
        six=proxy.capture.dns and proxy.only_six,
        egress=egress_listeners(sidecar, proxy.namespace, captured, proxy.capture.address) if sidecar else None,
        policy=sidecar.outbound if sidecar else None,
    )


def _on_node(
    services: tuple[OutboundService, ...], endpoints: tuple[ServiceEndpoints, ...], node: str, memo: Memo
) -> tuple[ServiceEndpoints, ...]:
    """The endpoints with those of other nodes left out where a service asks for that. Kubernetes' rule: with none on
    the caller's node its calls fail, whatever there is elsewhere."""
    return tuple(
        memo.keep((node, found.key), _local, found, node) if outbound.service.node_local else found
        for outbound, found in zip(services, endpoints, strict=True)
    )


def _local(endpoints: ServiceEndpoints, node: str) -> ServiceEndpoints:
    near = {
        number: tuple(member for member in members if node and member.node == node)
        for number, members in endpoints.by_port.items()
    }
    return replace(endpoints, by_port=FrozenMap(near))


def _in_cluster(
    services: tuple[OutboundService, ...], endpoints: tuple[ServiceEndpoints, ...], cluster: str, memo: Memo
) -> tuple[ServiceEndpoints, ...]:
    """The endpoints with those of other clusters left out where the mesh asks for that of a service."""
    return tuple(
        memo.keep(("in", cluster, found.key), _of_cluster, found, cluster) if outbound.service.cluster_local else found
        for outbound, found in zip(services, endpoints, strict=True)
    )


def _of_cluster(endpoints: ServiceEndpoints, cluster: str) -> ServiceEndpoints:
    own = {
        number: tuple(member for member in members if (member.cluster or DEFAULT_CLUSTER) == cluster)
        for number, members in endpoints.by_port.items()
    }
    return replace(endpoints, by_port=FrozenMap(own))


def _endpoints_of(
    services: tuple[OutboundService, ...], by_service: FrozenMap[tuple[str, str], ServiceEndpoints]
) -> tuple[ServiceEndpoints, ...]:
    return tuple(by_service[outbound.service.key] for outbound in services)


def _without_sockets(seen: tuple[ServiceEndpoints, ...], memo: Memo) -> tuple[ServiceEndpoints, ...]:
    return tuple([memo.keep(found.key, without_sockets, found) for found in seen])


def without_sockets(found: ServiceEndpoints) -> ServiceEndpoints:
    """The endpoints that have an address on a network. The Envoys of a host run as one user, so a UNIX socket that one
    of them could open by its path may be another workload's, or its agent's."""
    if not any(one.address.startswith("/") for places in found.by_port.values() for one in places):
        return found
    kept = {
        port: tuple(one for one in places if not one.address.startswith("/")) for port, places in found.by_port.items()
    }
    return replace(found, by_port=FrozenMap(kept))


def metadata_for(mesh: Mesh, proxy: Proxy) -> FrozenMap[str, str]:
    """The node metadata of a proxy, as EnvoyFilters ask for it."""
    return node_metadata(proxy, mesh.proxies.for_proxy(proxy).environment)
