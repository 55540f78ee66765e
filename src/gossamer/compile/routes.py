"""Route tables: virtual hosts, their domains and routes.

Invariant: no domain stands twice in a table (Envoy would refuse all of it): a host has its own name by right, and a
shorter name or an address belongs to who comes first among those that claim it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from envoy.config.core.v3.base_pb2 import DataSource, HeaderValue, HeaderValueOption
from envoy.config.route.v3.route_components_pb2 import (
    DirectResponseAction,
    RedirectAction,
    Route,
    RouteAction,
    RouteMatch,
    VirtualHost,
)
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import BoolValue

from gossamer.api.virtual_service import HTTPMatchRequest, HTTPRedirect
from gossamer.compile.draft import references
from gossamer.compile.names import FORWARD_PROXY, target_name
from gossamer.compile.origins import metadata_of, service_origins
from gossamer.compile.path_rewrites import replace_matched
from gossamer.compile.route_action import change_headers, forward, forward_default, per_target, rewrite_path
from gossamer.compile.route_filters import direct_response, per_route, redirect
from gossamer.compile.route_match import route_match
from gossamer.compile.serialise import repeated, resource_from_bytes, wire
from gossamer.compile.streams import unknown_cluster
from gossamer.core.ids import Origin
from gossamer.core.memo import Memo
from gossamer.core.resources import CLUSTER, ROUTE, Reference, Resource
from gossamer.model.routing import HttpRule
from gossamer.model.settings import MeshSettings
from gossamer.model.targets import Targets
from gossamer.model.view import HostRoutes, Rest, RouteTable

_VIRTUAL_HOSTS = RouteConfiguration.DESCRIPTOR.fields_by_name["virtual_hosts"].number


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CompiledHost:
    """A virtual host's bytes, what it names, and whose it is."""

    content: bytes
    references: frozenset[Reference]
    origins: tuple[Origin, ...]


def compile_table(table: RouteTable, settings: MeshSettings, memo: Memo) -> Resource:
    """A table. It is put together from its virtual hosts' bytes: one that changed costs no more than itself."""
    hosts = [memo(compile_host, host, refused, settings) for host, refused in _with_refused(table.hosts)]
    rest = _rest(table, settings)
    contents = [host.content for host in hosts]
    named = frozenset[Reference]().union(*(host.references for host in hosts))
    if rest is not None and not any(host.everything or host.host == "*" for host in table.hosts):
        contents.append(wire(rest))
    if table.rest in _FORWARDED:
        named |= references(CLUSTER, [_unknown(table, settings)])
    before = RouteConfiguration(name=table.name)
    after = RouteConfiguration(
        validate_clusters=BoolValue(value=False), ignore_port_in_host_matching=not table.with_ports
    )
    if table.http3_port:
        after.response_headers_to_add.append(_alt_svc(table.http3_port))
    content = wire(before) + repeated(_VIRTUAL_HOSTS, contents) + wire(after)
    origins = tuple(dict.fromkeys(origin for host in hosts for origin in host.origins))
    return resource_from_bytes(ROUTE, table.name, content, named, origins)


def _alt_svc(port: int) -> HeaderValueOption:
    """Tells clients that the same is to be had by HTTP/3."""
    return HeaderValueOption(
        header=HeaderValue(key="alt-svc", value=f'h3=":{port}"; ma=86400'),
        append_action=HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
    )


def _with_refused(hosts: tuple[HostRoutes, ...]) -> Iterator[tuple[HostRoutes, tuple[str, ...]]]:
    """Each host with the names that it may not have, since they are another's."""
    names = [name for host in hosts for name in host.aliases]
    taken = {host.host for host in hosts}
    if len(taken.union(names)) == len(names) + len(hosts):  # as it almost always is: nothing stands twice
        yield from ((host, ()) for host in hosts)
        return
    for host in hosts:
        refused = tuple(name for name in host.aliases if name in taken)
        taken.update(host.aliases)
        yield host, refused


def compile_host(host: HostRoutes, refused: tuple[str, ...], settings: MeshSettings) -> CompiledHost:
    """One virtual host, without the names that are refused to it."""
    own = f"[{host.host}]" if host.host.count(":") > 1 else host.host  # an IPv6 address, as a Host header has it
    domains = [own, *(name for name in host.aliases if name not in refused)]
    message = VirtualHost(
        name=host.name,
        domains=[*domains, "*"] if host.everything else domains,
        routes=_routes(host, settings),
        require_tls=VirtualHost.ALL if host.https_redirect else VirtualHost.NONE,
        include_request_attempt_count=settings.counts_attempts,
    )
    targets = [*host.targets.values(), *((host.default,) if host.default else ())]
    rules = dict.fromkeys(origin.resource for rule in host.rules for origin in rule.origins)
    service = host.service.origin if host.service else None
    return CompiledHost(
        content=wire(message),
        references=references(CLUSTER, (target_name(target) for target in targets)),
        origins=service_origins(service, *(Origin(resource=resource) for resource in rules)),
    )


def _routes(host: HostRoutes, settings: MeshSettings) -> Iterator[Route]:
    for rule in host.rules:
        for match in rule.spec.match or (None,):
            yield _route(rule, match, host, settings)
        if not rule.spec.match:
            return  # nothing gets past a rule that takes everything
    if host.default is not None:
        yield Route(
            name="default",
            match=RouteMatch(prefix="/"),
            route=forward_default(host.default, settings),
            metadata=metadata_of(service_origins(host.service.origin if host.service else None)),
            typed_per_filter_config=per_target(host.default),
        )


def _route(rule: HttpRule, match: HTTPMatchRequest | None, host: HostRoutes, settings: MeshSettings) -> Route:
    spec, targets = rule.spec, host.targets
    named = ".".join(name for name in (spec.name, match.name if match else "") if name)
    route = Route(
        name=named,
        match=route_match(match, segments=rule.gateway_api),
        metadata=metadata_of(rule.origins),
        stat_prefix=match.stat_prefix if match else "",
        typed_per_filter_config=per_route(spec),
    )
    change_headers(route, spec.headers)
    if spec.redirect is not None:
        route.redirect.CopyFrom(compile_redirect(rule, spec.redirect, match, host))
    elif spec.direct_response is not None:
        route.direct_response.CopyFrom(direct_response(spec.direct_response))
    else:
        route.route.CopyFrom(forward(spec, targets, settings))
        if spec.rewrite is not None:
            rewrite_path(route.route, spec.rewrite, match, segments=rule.gateway_api)
        if rule.gateway_api:
            route.route.cluster_not_found_response_code = RouteAction.INTERNAL_SERVER_ERROR
        if len(spec.route) == 1:
            _of_only_destination(route, rule, targets)
    return route


def compile_redirect(
    rule: HttpRule, spec: HTTPRedirect, match: HTTPMatchRequest | None, host: HostRoutes
) -> RedirectAction:
    """The redirect of a rule."""
    action = redirect(spec, tls=host.tls, port=host.port, brief=rule.gateway_api)
    if spec.prefix_rewrite:
        replace_matched(action, spec.prefix_rewrite, match, segments=rule.gateway_api)
    return action


def _of_only_destination(route: Route, rule: HttpRule, targets: Targets) -> None:
    """What a single destination asks for belongs to the route."""
    (part,) = rule.spec.route
    change_headers(route, part.headers)
    for name, config in per_target(targets[part.destination]).items():
        route.typed_per_filter_config[name].CopyFrom(config)


def _rest(table: RouteTable, settings: MeshSettings) -> VirtualHost | None:
    """What is done with hosts that nobody declared; a gateway without any route still says so by a name."""
    if table.rest in _FORWARDED:
        action = RouteAction(cluster=_unknown(table, settings), timeout=Duration())
        route = Route(name=table.rest, match=RouteMatch(prefix="/"), route=action)
    elif table.rest is Rest.BLOCK:
        answer = DirectResponseAction(status=502, body=DataSource(inline_string=_BLOCKED))
        route = Route(name=Rest.BLOCK, match=RouteMatch(prefix="/"), direct_response=answer)
    else:
        return None if table.hosts else VirtualHost(name=f"blackhole:{table.port}", domains=["*"])
    return VirtualHost(
        name=table.rest, domains=["*"], routes=[route], include_request_attempt_count=settings.counts_attempts
    )


_FORWARDED = (Rest.ALLOW, Rest.FORWARD)


def _unknown(table: RouteTable, settings: MeshSettings) -> str:
    return FORWARD_PROXY if table.rest is Rest.FORWARD else unknown_cluster(settings)


_BLOCKED = (
    "no service of the mesh has this host, and the mesh allows no others (outboundTrafficPolicy: REGISTRY_ONLY)\n"
)
