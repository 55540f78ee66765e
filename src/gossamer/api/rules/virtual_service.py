"""VirtualService: its hosts and gateways, and its routes of the three layers.

Rules: Istio's documentation of VirtualService. HTTP actions have a module of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from gossamer.api import names
from gossamer.api.claims import claim_path, is_claim
from gossamer.api.common import Exact, Prefix, Present, Regex
from gossamer.api.decide_at import is_source
from gossamer.api.findings import At
from gossamer.api.resource import Resource
from gossamer.api.rules.common import (
    check,
    check_export_to,
    check_labels,
    check_port,
    check_port_selector,
    check_string_match,
    check_unique,
    require,
    written,
)
from gossamer.api.rules.decide_at import check_decide_at
from gossamer.api.rules.http_route import check_actions, check_header_edits
from gossamer.api.rules.unreachable import warn_of_unreachable
from gossamer.api.virtual_service import (
    Destination,
    HTTPMatchRequest,
    HTTPRoute,
    HTTPRouteDestination,
    L4MatchAttributes,
    RouteDestination,
    TLSMatchAttributes,
    VirtualService,
)

MESH: Final = "mesh"
IGNORED_HEADERS: Final = ("uri", "scheme", "method", "authority")
"""Names that Istio's documentation reserves: what they would ask has a field of its own."""


def check_virtual_service(resource: Resource[VirtualService], raw: Any, at: At) -> None:
    spec = resource.spec
    _check_nulls(raw, at["http"])
    _check_gateways(spec.gateways, at["gateways"])
    check_export_to(spec.export_to, at["exportTo"])
    if spec.hosts:
        _check_hosts(spec, at["hosts"])
    else:
        _check_delegate(spec, at)
    if not (spec.http or spec.tls or spec.tcp):
        at.error("required", "http, tls or tcp routes must be given")
    check_decide_at(resource, at)
    warn_of_unreachable(spec, at)
    if spec.hosts:
        _warn_of_claims(spec, at)
    for index, route in enumerate(spec.http):
        _check_http_route(route, at["http", index], delegate=not spec.hosts)
    for index, tls in enumerate(spec.tls):
        here = at["tls", index]
        require(tls.match, here["match"], "TLS route must have at least one match condition")
        for number, match in enumerate(tls.match):
            _check_tls_match(match, spec.hosts, here["match", number])
        _check_l4_destinations(tls.route, here["route"])
    for index, tcp in enumerate(spec.tcp):
        here = at["tcp", index]
        for number, attributes in enumerate(tcp.match):
            _check_l4_match(attributes, here["match", number])
            if attributes.source_subnet:
                problem = names.subnet_problem(attributes.source_subnet)
                check(problem, here["match", number, "sourceSubnet"])
        _check_l4_destinations(tcp.route, here["route"])


def _check_nulls(raw: Any, at: At) -> None:
    """A match that is written and left empty: the lines below it may be indented wrongly."""
    for index, route in enumerate(written(raw, "http") or ()):
        for number, match in enumerate(written(route, "match") or ()):
            for name in ("headers", "queryParams", "withoutHeaders"):
                for key, value in (written(match, name) or {}).items():
                    if value is None:
                        message = f'{name} match "{key}" cannot be null'
                        at[index, "match", number, name, key].error("required", message, "write {} for any value")


def _check_hosts(spec: VirtualService, at: At) -> None:
    for index, host in enumerate(spec.hosts):
        here = at[index]
        if not names.is_ip(host) and not check(names.wildcard_domain_problem(host), here, "invalid-host"):
            continue
        if host == "*" and (not spec.gateways or MESH in spec.gateways):
            message = 'wildcard host "*" is not allowed for virtual services bound to the mesh gateway'
            here.error("invalid-host", message)
        earlier = next((other for other in spec.hosts[:index] if names.hosts_overlap(other, host)), None)
        if earlier is not None:
            here.error("duplicate-host", f'duplicate hosts: "{host}" overlaps with "{earlier}"')


def _check_delegate(spec: VirtualService, at: At) -> None:
    """Without hosts a VirtualService is one that others delegate to: HTTP alone, and bound to no gateway."""
    if spec.gateways:
        at["gateways"].error("invalid-delegate", "a VirtualService without hosts (a delegate) must have no gateways")
    for name, routes in (("tls", spec.tls), ("tcp", spec.tcp)):
        if routes:
            message = f"a VirtualService without hosts (a delegate) must have no {name} routes"
            at[name].error("invalid-delegate", message)


def _check_gateways(gateways: Iterable[str], at: At) -> None:
    for index, gateway in enumerate(gateways):
        namespace, slash, name = gateway.rpartition("/")
        if gateway == MESH:
            continue
        here = at[index]
        if slash and namespace != "." and not check(names.namespace_problem(namespace), here, "invalid-gateway"):
            continue
        check(names.domain_problem(name), here, "invalid-gateway")
    check_unique(((gateway, at[index]) for index, gateway in enumerate(gateways)), "gateway")


def _check_http_route(route: HTTPRoute, at: At, *, delegate: bool) -> None:
    for index, match in enumerate(route.match):
        _check_http_match(match, at["match", index])
    if delegate and route.delegate:
        at["delegate"].error("invalid-delegate", "a delegate cannot delegate in its turn")
    check_actions(route, at)
    _check_http_destinations(route.route, at["route"])
    for index, mirror in enumerate(route.mirrors):
        check_destination(mirror.destination, at["mirrors", index, "destination"])
    if route.mirror:
        check_destination(route.mirror, at["mirror"])


def _check_http_match(match: HTTPMatchRequest, at: At) -> None:
    single = (("uri", match.uri), ("scheme", match.scheme), ("method", match.method), ("authority", match.authority))
    for name, value in single:
        check_string_match(value, at[name])
    for name, headers in (("headers", match.headers), ("withoutHeaders", match.without_headers)):
        _check_header_matches(headers, at[name])
    for name, parameter in match.query_params.items():
        check_string_match(parameter, at["queryParams", name])
        require(name, at["queryParams"], "query parameter name cannot be empty")
    _check_scope(match, at)


def _check_header_matches(headers: Mapping[str, Exact | Prefix | Regex | Present], at: At) -> None:
    for name, value in headers.items():
        check_string_match(value, at[name])
        if is_claim(name):
            hint = "write it as in @request.auth.claims.group or @request.auth.claims[realm][roles]"
            if not claim_path(name):
                at[name].error("invalid-claim", f'"{name}" names no claim', hint)
        elif is_source(name):
            continue  # said of the VirtualService as a whole, by who decides it
        elif name in IGNORED_HEADERS:
            at[name].warning("no-effect", f'a header match named "{name}" is ignored', f"match by {name} itself")
        else:  # pseudo-headers are matched like any other
            check(names.header_problem(name.removeprefix(":")), at[name], "invalid-header")


def _warn_of_claims(spec: VirtualService, at: At) -> None:
    """Tokens are verified, for routes to be chosen by them, at gateways alone."""
    for index, route in enumerate(spec.http):
        for number, match in enumerate(route.match):
            if MESH not in (match.gateways or spec.gateways or (MESH,)):
                continue
            for field, headers in (("headers", match.headers), ("withoutHeaders", match.without_headers)):
                for name in filter(is_claim, headers):
                    here = at["http", index, "match", number, field, name]
                    here.warning("no-effect", "claims are known at gateways only: no sidecar finds this one")


def _check_scope(match: HTTPMatchRequest | L4MatchAttributes | TLSMatchAttributes, at: At) -> None:
    """What every match says about where a call comes from and where it was sent."""
    if match.port:
        check_port(match.port, at["port"])
    check_labels(match.source_labels, at["sourceLabels"])
    _check_gateways(match.gateways, at["gateways"])
    if match.source_namespace:
        check(names.namespace_problem(match.source_namespace), at["sourceNamespace"])


def _check_http_destinations(route: tuple[HTTPRouteDestination, ...], at: At) -> None:
    for index, target in enumerate(route):
        check_destination(target.destination, at[index, "destination"])
        check_header_edits(target.headers, at[index, "headers"])
    _check_weights(route, at)


def _check_l4_destinations(route: tuple[RouteDestination, ...], at: At) -> None:
    require(route, at, "a route must name at least one destination")
    for index, target in enumerate(route):
        check_destination(target.destination, at[index, "destination"])
    _check_weights(route, at)


def _check_weights(route: tuple[HTTPRouteDestination | RouteDestination, ...], at: At) -> None:
    for index, target in enumerate(route):
        if target.weight < 0:
            at[index, "weight"].error("invalid-weight", f"weight must not be negative, not {target.weight}")
    if len(route) > 1 and sum(max(0, target.weight) for target in route) == 0:
        at.error("invalid-weight", "total destination weight must not be 0")


def check_destination(destination: Destination, at: At) -> None:
    """A host, and as far as written a subset and a port."""
    if require(destination.host, at["host"], "destination host must not be empty") and destination.host != "*":
        check(names.wildcard_domain_problem(destination.host), at["host"], "invalid-host")
    elif destination.host == "*":
        at["host"].error("invalid-host", 'destination host cannot be the wildcard "*"')
    if destination.subset:
        check(names.namespace_problem(destination.subset), at["subset"], "invalid-subset")
    check_port_selector(destination.port, at["port"])


def _check_tls_match(match: TLSMatchAttributes, hosts: tuple[str, ...], at: At) -> None:
    require(match.sni_hosts, at["sniHosts"], "TLS match must have at least one SNI host")
    for index, sni in enumerate(match.sni_hosts):
        here = at["sniHosts", index]
        if check(names.wildcard_domain_problem(sni), here, "invalid-host") and not any(
            names.is_within(sni, host) for host in hosts
        ):
            here.error("invalid-host", f'SNI host "{sni}" is not among the hosts of the VirtualService')
    for index, subnet in enumerate(match.destination_subnets):
        check(names.subnet_problem(subnet), at["destinationSubnets", index])
    _check_scope(match, at)


def _check_l4_match(match: L4MatchAttributes, at: At) -> None:
    for index, subnet in enumerate(match.destination_subnets):
        check(names.subnet_problem(subnet), at["destinationSubnets", index])
    _check_scope(match, at)
