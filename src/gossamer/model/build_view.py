"""The last step of the model: the mesh and its endpoints as one proxy sees them.

Invariant: a view holds nothing that its proxy may not see; what proxies have in common is one object.
"""

from __future__ import annotations

from gossamer.core.frozen import FrozenMap
from gossamer.core.memo import Memo
from gossamer.model.build_endpoints import Endpoints, Instance
from gossamer.model.build_outbound import build_outbound
from gossamer.model.credentials import asked_by_destinations, asked_by_servers, credentials_for
from gossamer.model.explicit import explicit_binds, explicit_tables
from gossamer.model.inbound import inbound_ports, instances_of
from gossamer.model.mesh import Mesh
from gossamer.model.node_metadata import node_metadata
from gossamer.model.policy import WorkloadPolicies
from gossamer.model.proxy import Capture, CaptureMode, Proxy, ProxyType
from gossamer.model.routing import MESH, Client
from gossamer.model.server_chains import with_chains
from gossamer.model.servers import build_gateway_tables, servers_for
from gossamer.model.service import ServiceEndpoints
from gossamer.model.settings import MeshSettings
from gossamer.model.view import NOTHING, Opened, Outbound, OutboundService, ProxyView


def view_for(mesh: Mesh, endpoints: Endpoints, proxy: Proxy, memo: Memo) -> ProxyView:
    """What `proxy` sees. Equal views are the same object as before."""
    return memo.keep(proxy, _view, mesh, endpoints, proxy, memo)


def _view(mesh: Mesh, endpoints: Endpoints, proxy: Proxy, memo: Memo) -> ProxyView:
    outbound, policies = memo.keep(proxy, _without_endpoints, mesh, endpoints.accounts, proxy, memo)
    seen = memo.keep("", _endpoints_of, outbound.services, endpoints.by_service)
    instances = instances_of(proxy, endpoints)
    if proxy.type is ProxyType.ROUTER:
        opened = memo.keep(proxy, _gateway, mesh, outbound, proxy, instances, memo)
    elif proxy.capture.mode is CaptureMode.EXPLICIT:
        opened = memo.keep(proxy, _explicit, outbound, proxy.capture, mesh.settings, memo)
    else:
        opened = NOTHING
    return ProxyView(
        proxy=proxy,
        settings=mesh.settings,
        inbound=memo.keep(proxy, inbound_ports, instances) if proxy.type is ProxyType.SIDECAR else (),
        policies=policies,
        outbound=outbound,
        endpoints=seen,
        opened=opened,
        extensions=mesh.extensions.for_proxy(proxy),
        patches=mesh.patches.for_proxy(proxy, node_metadata(proxy)) if mesh.patches.filters else (),
    )


def _without_endpoints(
    mesh: Mesh, accounts: FrozenMap[tuple[str, str], tuple[str, ...]], proxy: Proxy, memo: Memo
) -> tuple[Outbound, WorkloadPolicies]:
    """What stays while instances come and go."""
    client = client_of(proxy, mesh.asked_labels, memo)
    outbound = memo.keep(client, build_outbound, mesh, accounts, client, memo)
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
        ),
    )


def _explicit(outbound: Outbound, capture: Capture, settings: MeshSettings, memo: Memo) -> Opened:
    return Opened(
        binds=explicit_binds(outbound.services, outbound.routings, capture),
        tables=explicit_tables(outbound, capture, settings, memo),
    )


def client_of(proxy: Proxy, asked_labels: frozenset[tuple[str, str]], memo: Memo) -> Client:
    """What the mesh's rules can tell of this proxy as a client: a sidecar's gateway is `mesh`, a gateway has none."""
    labels = {name: value for name, value in sorted(proxy.labels.items()) if (name, value) in asked_labels}
    gateways = frozenset({MESH}) if proxy.type is ProxyType.SIDECAR else frozenset[str]()
    return Client(namespace=proxy.namespace, labels=FrozenMap(labels), gateways=gateways, allocated=proxy.capture.dns)


def _endpoints_of(
    services: tuple[OutboundService, ...], by_service: FrozenMap[tuple[str, str], ServiceEndpoints]
) -> tuple[ServiceEndpoints, ...]:
    return tuple(by_service[outbound.service.key] for outbound in services)
