"""All that one Envoy is told, from all that its proxy sees.

Invariant: what proxies share they share as one table. A proxy's own table of a type holds what is of it alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gossamer.compile.clusters import by_dns, compile_clusters, passthrough_clusters
from gossamer.compile.draft import Draft
from gossamer.compile.endpoints import compile_endpoints
from gossamer.compile.gateway import compile_gateway
from gossamer.compile.inbound import compile_inbound
from gossamer.compile.listeners import capture_listener, compile_binds, wildcards_of
from gossamer.compile.routes import compile_table
from gossamer.compile.secrets import compile_secrets
from gossamer.compile.serialise import one, resource_of
from gossamer.core.frozen import FrozenMap
from gossamer.core.memo import Memo
from gossamer.core.resources import CLUSTER, ENDPOINT, ROUTE, TYPES, Resource, Resources, Table
from gossamer.model.policy import WorkloadPolicies
from gossamer.model.proxy import CaptureMode, Proxy, ProxyType
from gossamer.model.routing import Client
from gossamer.model.service import ServiceEndpoints
from gossamer.model.settings import MeshSettings
from gossamer.model.view import InboundPort, Outbound, OutboundService, ProxyView, RouteTable, Server

LookedUp = FrozenMap[tuple[str, str], ServiceEndpoints]


def compile_proxy(view: ProxyView, memo: Memo) -> Resources:
    """The resources of a proxy. Equal views give the same tables."""
    return memo.keep(view.proxy, _compile, view, memo)


def _compile(view: ProxyView, memo: Memo) -> Resources:
    tables = [*_shared(view, memo)]
    tables += memo.keep(view.proxy, _inbound_tables, view.proxy, view.settings, view.inbound, view.policies, memo)
    if view.proxy.type is ProxyType.ROUTER:
        tables += memo.keep(view.proxy, _gateway_tables, view.proxy, view.settings, view.servers, view.tables, memo)
        tables += [compile_secrets(view.secrets, memo)]
    by_type = {type_url: tuple(table for table in tables if table.type_url == type_url and table) for type_url in TYPES}
    return Resources(tables=FrozenMap(by_type))


def _shared(view: ProxyView, memo: Memo) -> Iterator[Table]:
    """What every proxy that sees the same has too."""
    outbound, settings = view.outbound, view.settings
    original = view.proxy.type is ProxyType.SIDECAR and view.proxy.capture.mode is CaptureMode.TRANSPARENT
    looked_up = memo.keep("", _looked_up, outbound.services, view.endpoints)
    yield memo.keep("", _cluster_table, outbound.services, looked_up, settings, original, memo)
    yield memo.keep("", _endpoint_table, outbound.services, view.endpoints, memo)
    yield memo.keep(outbound.client, _route_tables, outbound.tables, outbound.client, settings, memo)
    if view.proxy.type is ProxyType.SIDECAR and view.proxy.capture.mode is CaptureMode.TRANSPARENT:
        yield memo.keep("", compile_binds, outbound.binds, wildcards_of(view.proxy), settings, memo)


def _looked_up(services: tuple[OutboundService, ...], endpoints: tuple[ServiceEndpoints, ...]) -> LookedUp:
    """The endpoints that stand in clusters themselves."""
    pairs = zip(services, endpoints, strict=True)
    return FrozenMap({found.key: found for outbound, found in pairs if by_dns(outbound.service.resolution)})


def _cluster_table(
    services: tuple[OutboundService, ...], looked_up: LookedUp, settings: MeshSettings, original: bool, memo: Memo
) -> Table:
    compiled = (
        memo.keep(
            service.service.key,
            compile_clusters,
            service,
            looked_up.get(service.service.key),
            settings,
            original=original,
        )
        for service in services
    )
    return _table(CLUSTER, compiled, memo)


def _endpoint_table(
    services: tuple[OutboundService, ...], endpoints: tuple[ServiceEndpoints, ...], memo: Memo
) -> Table:
    pairs = zip(services, endpoints, strict=True)
    compiled = (memo.keep(found.key, compile_endpoints, service, found) for service, found in pairs)
    return _table(ENDPOINT, compiled, memo)


def _route_tables(tables: tuple[RouteTable, ...], client: Client, settings: MeshSettings, memo: Memo) -> Table:
    compiled = (memo.keep((client, table.name), compile_table, table, settings, memo) for table in tables)
    return Table(ROUTE, [memo(one, resource) for resource in compiled])


def _table(type_url: str, groups: Iterable[Iterable[Resource]], memo: Memo) -> Table:
    return Table(type_url, [resource for group in groups for resource in group])


def _inbound_tables(
    proxy: Proxy,
    settings: MeshSettings,
    inbound: tuple[InboundPort, ...],
    policies: WorkloadPolicies,
    memo: Memo,
) -> tuple[Table, ...]:
    """What is of this workload alone. It does not see the rest of the view, so nothing of that makes it anew."""
    nothing = Outbound(client=Client(namespace=proxy.namespace))
    view = ProxyView(proxy=proxy, settings=settings, inbound=inbound, policies=policies, outbound=nothing)
    drafts = [*compile_inbound(view, memo), *memo(passthrough_clusters, settings)]
    if proxy.type is ProxyType.SIDECAR and proxy.capture.mode is CaptureMode.TRANSPARENT:
        drafts.append(capture_listener(proxy, settings))
    return _tables(drafts, memo)


def _gateway_tables(
    proxy: Proxy, settings: MeshSettings, servers: tuple[Server, ...], tables: tuple[RouteTable, ...], memo: Memo
) -> tuple[Table, ...]:
    routes = Table(ROUTE, [memo.keep((proxy, table.name), compile_table, table, settings, memo) for table in tables])
    return (*_tables(compile_gateway(servers, proxy.capture.address or wildcards_of(proxy)[0], settings), memo), routes)


def _tables(drafts: Iterable[Draft], memo: Memo) -> tuple[Table, ...]:
    by_type: dict[str, list[Resource]] = {}
    for draft in drafts:
        by_type.setdefault(draft.type_url, []).append(resource_of(draft, memo))
    return tuple(Table(type_url, found) for type_url, found in by_type.items())
