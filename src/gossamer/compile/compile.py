"""All that one Envoy is told, from all that its proxy sees.

Invariant: what proxies share they share as one table. A proxy's own table of a type holds what is of it alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from gossamer.compile.anchors import compile_anchors
from gossamer.compile.clusters import Caller, by_dns, compile_clusters, passthrough_clusters
from gossamer.compile.customise import customised
from gossamer.compile.dns import dns_filter, dns_listener, explicit_dns_listener, services_of
from gossamer.compile.draft import Draft
from gossamer.compile.endpoints import compile_endpoints
from gossamer.compile.explicit import http_proxy
from gossamer.compile.gateway import compile_gateway
from gossamer.compile.inbound import compile_inbound
from gossamer.compile.listeners import capture_listener, compile_binds, compile_opened, wildcards_of
from gossamer.compile.passthrough import compile_passthrough
from gossamer.compile.routes import compile_table
from gossamer.compile.secrets import compile_secrets
from gossamer.compile.serialise import finished, one, resource_of
from gossamer.core.frozen import FrozenMap
from gossamer.core.memo import Memo
from gossamer.core.resources import CLUSTER, ENDPOINT, LISTENER, ROUTE, Resource, Resources, Table
from gossamer.model.place import NOWHERE, Place
from gossamer.model.places import asked_by
from gossamer.model.policy import WorkloadPolicies
from gossamer.model.proxy import Capture, CaptureMode, Proxy, ProxyType
from gossamer.model.routing import Client
from gossamer.model.service import Service, ServiceEndpoints
from gossamer.model.settings import MeshSettings, observed
from gossamer.model.sidecars import LOOPBACK
from gossamer.model.view import InboundPort, Opened, Outbound, OutboundService, ProxyView, RouteTable

LookedUp = FrozenMap[tuple[str, str], ServiceEndpoints]


def compile_proxy(view: ProxyView, memo: Memo) -> Resources:
    """The resources of a proxy. Equal views give the same tables."""
    return memo.keep(view.proxy, _compile, view, memo)


def _compile(view: ProxyView, memo: Memo) -> Resources:
    return _joined(customised(_parts(view, memo), view, memo))


def compile_plain(view: ProxyView, memo: Memo) -> Resources:
    """The resources of a proxy as they would be without what users change in them (EnvoyFilters, extensions)."""
    return _joined(_parts(view, memo))


def _joined(parts: list[tuple[Table, ...]]) -> Resources:
    joined: dict[str, tuple[Table, ...]] = {}
    for part in parts:
        for table in part:
            joined[table.type_url] = (*joined.get(table.type_url, ()), table)
    return Resources(tables=FrozenMap(joined))


def _parts(view: ProxyView, memo: Memo) -> list[tuple[Table, ...]]:
    """The tables of a proxy, the shared ones first."""
    proxy, settings = view.proxy, view.settings
    local = memo(_local, proxy, any(port.opened for port in view.inbound))
    captured = proxy.type is ProxyType.SIDECAR and proxy.capture.mode is CaptureMode.TRANSPARENT
    parts = [
        memo.keep(
            (view.outbound.client, captured, view.place),
            _shared,
            view.outbound,
            view.endpoints,
            view.place,
            wildcards_of(proxy) if captured else (),
            settings,
            memo,
        ),
        memo.keep((local, view.inbound), _inbound_tables, local, settings, view.inbound, view.policies, memo),
    ]
    if proxy.capture.dns and captured:
        services = memo.keep("", services_of, view.outbound.named)
        parts.append((memo.keep(proxy, _dns_table, proxy, services, settings.domain, memo),))
    if proxy.type is ProxyType.ROUTER:
        parts.append(memo.keep(proxy, _gateway_tables, proxy, settings, view.opened, memo))
        parts.append(compile_passthrough(view.opened.servers, view.outbound.services, view.endpoints, settings, memo))
    if view.outbound.opened:
        parts.append(memo.keep(view.outbound.client, _opened_tables, view.outbound, local.capture, settings, memo))
    if captured and settings.http_proxy_port:
        parts.append(memo.keep(proxy, _proxied_tables, proxy.capture, settings, view.opened, memo))
    if proxy.type is ProxyType.SIDECAR and not captured:
        parts.append(memo.keep(proxy, _explicit_tables, proxy, settings, view.opened, memo))
        if proxy.capture.dns_port:
            services = memo.keep("", services_of, view.outbound.named)
            parts.append((memo.keep(proxy, _explicit_dns_table, proxy, services, settings.domain),))
    parts.append(compile_secrets(view.opened.credentials, memo))
    parts.append(compile_anchors(settings.anchors, memo, settings.foreign))
    return parts


def _local(proxy: Proxy, addressed: bool) -> Proxy:
    """All of a proxy that its inbound side is made from: replicas that differ in name and address share that. Addresses
    count where connections do not come by redirection (`addressed`)."""
    return Proxy(
        type=proxy.type,
        namespace="",
        addresses=proxy.addresses if addressed or proxy.capture.mesh_ports else wildcards_of(proxy),
        trust_domain=proxy.trust_domain,
        capture=proxy.capture,
        gateway_ports=proxy.gateway_ports,
    )


def _shared(
    outbound: Outbound,
    endpoints: tuple[ServiceEndpoints, ...],
    place: Place,
    wildcards: tuple[str, ...],
    settings: MeshSettings,
    memo: Memo,
) -> tuple[Table, ...]:
    """What every proxy that sees the same has too. Without any address that stands for all, nothing is captured, and
    nobody knows where a caller meant to go."""
    looked_up = memo.keep("", _looked_up, outbound.services, endpoints)
    tables = [
        memo.keep(
            place if looked_up else NOWHERE,
            _cluster_table,
            outbound.services,
            looked_up,
            Caller(place=place if looked_up else NOWHERE, original=bool(wildcards)),
            settings,
            memo,
        ),
        memo.keep(place, _endpoint_table, outbound.services, endpoints, place, settings, memo),
    ]
    if wildcards:
        tables.append(memo.keep("", _route_table, outbound.tables, settings, memo))
        tables.append(memo.keep("", compile_binds, outbound.binds, wildcards, settings, memo))
    return tuple(tables)


def _looked_up(services: tuple[OutboundService, ...], endpoints: tuple[ServiceEndpoints, ...]) -> LookedUp:
    """The endpoints that stand in clusters themselves."""
    pairs = zip(services, endpoints, strict=True)
    return FrozenMap({found.key: found for outbound, found in pairs if by_dns(outbound.service.resolution)})


def _cluster_table(
    services: tuple[OutboundService, ...], looked_up: LookedUp, caller: Caller, settings: MeshSettings, memo: Memo
) -> Table:
    def compiled(outbound: OutboundService) -> tuple[Resource, ...]:
        found = looked_up.get(outbound.service.key)
        its = caller if found and memo(asked_by, outbound, settings).place else caller.anywhere
        return memo.keep((outbound.service.key, its.place), compile_clusters, outbound, found, its, settings)

    return _table(CLUSTER, (compiled(outbound) for outbound in services))


def _endpoint_table(
    services: tuple[OutboundService, ...],
    endpoints: tuple[ServiceEndpoints, ...],
    place: Place,
    settings: MeshSettings,
    memo: Memo,
) -> Table:
    def compiled(outbound: OutboundService, found: ServiceEndpoints) -> tuple[Resource, ...]:
        its = place if place is not NOWHERE and memo(asked_by, outbound, settings).place else NOWHERE
        return memo.keep((found.key, its), compile_endpoints, outbound, found, settings, its)

    return _table(ENDPOINT, (compiled(*pair) for pair in zip(services, endpoints, strict=True)))


def _route_table(tables: tuple[RouteTable, ...], settings: MeshSettings, memo: Memo) -> Table:
    compiled = (memo.keep(table.name, compile_table, table, settings, memo) for table in tables)
    return Table(ROUTE, [memo(one, resource, resource.origins) for resource in compiled])


def _table(type_url: str, groups: Iterable[Iterable[Resource]]) -> Table:
    return Table(type_url, [resource for group in groups for resource in group])


def _inbound_tables(
    proxy: Proxy,
    settings: MeshSettings,
    inbound: tuple[InboundPort, ...],
    policies: WorkloadPolicies,
    memo: Memo,
) -> tuple[Table, ...]:
    """What is of a workload alone. It does not see the rest of the view, so nothing of that makes it anew."""
    nothing = Outbound(client=Client(namespace=proxy.namespace))
    view = ProxyView(proxy=proxy, settings=settings, inbound=inbound, policies=policies, outbound=nothing)
    drafts = [*compile_inbound(view, memo), *memo(passthrough_clusters, settings)]
    if proxy.type is ProxyType.SIDECAR and proxy.capture.mode is CaptureMode.TRANSPARENT:
        drafts.append(capture_listener(proxy, settings))
    return _tables(drafts, memo)


def _explicit_tables(proxy: Proxy, settings: MeshSettings, opened: Opened, memo: Memo) -> tuple[Table, ...]:
    """What is opened for a workload whose traffic nobody redirects."""
    listed = (
        compile_binds(opened.binds, (), settings, memo),
        Table(ROUTE, [memo.keep((proxy, table.name), compile_table, table, settings, memo) for table in opened.tables]),
    )
    if not proxy.capture.http_proxy_port:
        return listed
    return (*listed, *_tables(memo(http_proxy, proxy.capture, settings), memo))


def _opened_tables(outbound: Outbound, capture: Capture, settings: MeshSettings, memo: Memo) -> tuple[Table, ...]:
    """What a Sidecar has opened for its workload to call."""
    return (
        memo.keep("", _route_table, outbound.opened_tables, settings, memo),
        memo.keep("", compile_opened, outbound.opened, capture.network_namespace, settings, memo),
    )


def _proxied_tables(capture: Capture, settings: MeshSettings, opened: Opened, memo: Memo) -> tuple[Table, ...]:
    """The HTTP proxy of a workload whose traffic is redirected too."""
    served = replace(capture, address=LOOPBACK, http_proxy_port=settings.http_proxy_port)
    routes = [memo.keep((served, table.name), compile_table, table, settings, memo) for table in opened.tables]
    return (Table(ROUTE, routes), *_tables(memo(http_proxy, served, settings), memo))


def _dns_table(proxy: Proxy, services: tuple[Service, ...], domain: str, memo: Memo) -> Table:
    lookup = memo.keep(proxy.namespace, dns_filter, services, proxy.namespace, domain, six=proxy.only_six)
    return Table(LISTENER, [finished(dns_listener(proxy, lookup))])


def _explicit_dns_table(proxy: Proxy, services: tuple[Service, ...], domain: str) -> Table:
    return Table(LISTENER, [finished(explicit_dns_listener(proxy, services, domain))])


def _gateway_tables(proxy: Proxy, settings: MeshSettings, opened: Opened, memo: Memo) -> tuple[Table, ...]:
    routes = Table(
        ROUTE, [memo.keep((proxy, table.name), compile_table, table, settings, memo) for table in opened.tables]
    )
    addresses = (proxy.capture.address,) if proxy.capture.address else wildcards_of(proxy)
    served = memo(observed, settings) if proxy.capture.observed else settings
    return (
        *_tables(compile_gateway(opened.servers, addresses, served), memo),
        routes,
    )


def _tables(drafts: Iterable[Draft], memo: Memo) -> tuple[Table, ...]:
    by_type: dict[str, list[Resource]] = {}
    for draft in drafts:
        by_type.setdefault(draft.type_url, []).append(resource_of(draft, memo))
    return tuple(Table(type_url, found) for type_url, found in by_type.items())
