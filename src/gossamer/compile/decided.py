"""Routes to the application whose rules a VirtualService has decided here, at the destination.

Invariant: a request leads to the application only by a rule that routes to it; whom no rule takes is refused.
"""

from __future__ import annotations

from collections.abc import Iterator

from envoy.config.core.v3.base_pb2 import DataSource
from envoy.config.route.v3.route_components_pb2 import DirectResponseAction, Route, RouteMatch, VirtualHost
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from google.protobuf.wrappers_pb2 import BoolValue

from gossamer.api.virtual_service import HTTPMatchRequest
from gossamer.compile.draft import Draft, references
from gossamer.compile.origins import metadata_of
from gossamer.compile.route_action import change_headers, forwarded_here
from gossamer.compile.route_filters import direct_response
from gossamer.compile.route_match import route_match
from gossamer.compile.routes import compile_redirect
from gossamer.compile.source import SOURCE_HEADER, source_matchers
from gossamer.core.resources import CLUSTER, ROUTE
from gossamer.model.routing import HttpRule
from gossamer.model.view import HostRoutes, InboundPort

_REFUSED = "no rule of the VirtualService that decides here takes this caller\n"


def decided_table(port: InboundPort, cluster: str) -> Draft | None:
    """The route table of a port, named as its cluster; None if nobody has it decided here."""
    if port.decided is None:
        return None
    host = VirtualHost(name=f"inbound|http|{port.number}", domains=["*"], routes=_routes(port, port.decided, cluster))
    table = RouteConfiguration(
        name=cluster,
        virtual_hosts=[host],
        request_headers_to_remove=[SOURCE_HEADER],
        validate_clusters=BoolValue(value=False),
    )
    return Draft(
        type_url=ROUTE,
        name=cluster,
        message=table,
        references=references(CLUSTER, [cluster]),
        origins=tuple(dict.fromkeys(rule.origin for rule in port.decided)),
    )


def _routes(port: InboundPort, rules: tuple[HttpRule, ...], cluster: str) -> Iterator[Route]:
    for rule in rules:
        for match in rule.spec.match or (None,):
            yield _route(port, rule, match, cluster)
    if all(rule.spec.match for rule in rules):
        answer = DirectResponseAction(status=403, body=DataSource(inline_string=_REFUSED))
        metadata = metadata_of(dict.fromkeys(rule.origin for rule in rules))
        yield Route(name="refused", match=RouteMatch(prefix="/"), direct_response=answer, metadata=metadata)


def _route(port: InboundPort, rule: HttpRule, match: HTTPMatchRequest | None, cluster: str) -> Route:
    spec = rule.spec
    route = Route(
        name=".".join(name for name in (spec.name, match.name if match else "") if name),
        match=route_match(match),
        metadata=metadata_of(rule.origins),
        stat_prefix=match.stat_prefix if match else "",
    )
    route.match.headers.extend(source_matchers(match) if match else ())
    change_headers(route, spec.headers)
    if spec.redirect is not None:
        number = port.services[0][1] if port.services else port.number
        host = HostRoutes(name="", port=number, host="")
        route.redirect.CopyFrom(compile_redirect(rule, spec.redirect, match, host))
    elif spec.direct_response is not None:
        route.direct_response.CopyFrom(direct_response(spec.direct_response))
    else:
        change_headers(route, spec.route[0].headers if spec.route else None)
        route.route.CopyFrom(forwarded_here(spec, match, cluster))
    return route
