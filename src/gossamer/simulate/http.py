"""A request through the HTTP connection manager: from its first line to the cluster.

Invariant: Envoy's order: protocol, path and authority are settled, the route is chosen, the filters run, and only then
does the router do what the route says.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from envoy.config.route.v3.route_components_pb2 import VirtualHost
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)

from gossamer.simulate.connection import Connection, Trace
from gossamer.simulate.early_headers import mutate_early
from gossamer.simulate.headers import Headers
from gossamer.simulate.http_filters import Passage, run_filters
from gossamer.simulate.index import Decoder, ManagerConfig
from gossamer.simulate.matchers import parse_ip
from gossamer.simulate.origins import origins_in
from gossamer.simulate.outcome import Outcome, RouteChoice, Verdict
from gossamer.simulate.paths import normal_path
from gossamer.simulate.rbac import Facts
from gossamer.simulate.redirects import STATUS, https_location, location
from gossamer.simulate.route_action import describe_action, forward
from gossamer.simulate.routes import describe_match, find_route
from gossamer.simulate.selection import Selection, draw_cluster
from gossamer.simulate.virtual_hosts import find_virtual_host, normal_authority, split_port

_ALPN_HTTP2: Final = "h2"
_ALPN_HTTP3: Final = "h3"


def simulate_http(message: HttpConnectionManager, connection: Connection, decoder: Decoder, trace: Trace) -> Outcome:
    """What becomes of the request on a chain that ends in this connection manager."""
    manager = decoder.manager(message)
    trace.outcome = replace(trace.outcome, protocol="http", route_configuration=manager.routes_name)
    problem = _undecodable(message, connection)
    if problem:
        return trace.end(Verdict.BAD_REQUEST, problem, status=400, flag="DPE")
    request = connection.request.http
    assert request is not None
    headers = Headers.of(request, "https" if connection.terminated else "http")
    mutate_early(headers, message, connection)
    problem = _settle(headers, message, connection)
    if problem:
        return trace.end(Verdict.BAD_REQUEST, problem, status=400)
    known = len(trace.origins)
    selection, missing = _select(manager, headers, connection, trace)
    passage = Passage(
        selection=selection,
        missing=missing,
        headers=headers,
        facts=replace(_facts(headers, message, connection), looked_up=_looked_up(selection, headers, decoder)),
        chance=connection.request.chance,
        trace=trace,
        check=connection.request.check,
    )

    def reselect() -> None:
        del trace.origins[known:]
        connection.request = replace(connection.request, metadata=passage.facts.metadata)
        passage.selection, passage.missing = _select(manager, headers, connection, trace)

    passage.reselect = reselect
    ended = run_filters(manager.filters, passage)
    _note_faults(passage, trace)
    if ended is not None:
        return replace(ended, route=trace.outcome.route)
    if passage.selection is None or passage.missing:
        return trace.end(Verdict.NOT_FOUND, passage.missing, status=404, flag="NR")
    return _route(passage.selection, passage, connection, decoder)


def _undecodable(message: HttpConnectionManager, connection: Connection) -> str:
    """Why the bytes are no HTTP that this manager reads."""
    request = connection.request
    if request.tls is not None and not connection.terminated:
        return "the chain expects HTTP and gets a TLS handshake that it does not terminate"
    if request.http is None:
        return "the chain expects HTTP and gets something else"
    codec = message.codec_type
    if (codec == HttpConnectionManager.HTTP3) != request.http.http3:
        return "HTTP/3 meets a chain that does not speak it" if request.http.http3 else "the chain speaks HTTP/3 only"
    if request.http.http3:
        return "" if connection.negotiated == _ALPN_HTTP3 else "the client does not offer h3 in its handshake"
    if codec == HttpConnectionManager.HTTP1 and request.http.http2:
        return "the chain speaks HTTP/1.1 only and gets HTTP/2"
    http1_expected = codec == HttpConnectionManager.HTTP2 or (
        codec == HttpConnectionManager.AUTO and connection.negotiated == _ALPN_HTTP2
    )
    if http1_expected and not request.http.http2:
        return "the chain expects HTTP/2 and gets HTTP/1.1"
    return ""


def _settle(headers: Headers, message: HttpConnectionManager, connection: Connection) -> str:
    """Bring path, authority and forwarding headers into the form that everything after this sees."""
    if "x-forwarded-proto" not in headers or message.use_remote_address.value:
        headers.set("x-forwarded-proto", headers.get(":scheme"))
    if not headers.get(":authority"):
        return "the request has no Host header"
    if "#" in headers.get(":path"):
        return "the path has a fragment (#)"
    if not all("!" <= char <= "~" for char in headers.get(":path")):
        return "the path has characters that must be percent-encoded"
    if not headers.get(":path").startswith("/") and headers.get(":method") not in ("CONNECT", "OPTIONS"):
        return "the path does not begin with a slash"
    path = normal_path(headers.get(":path"), message)
    if path is None:
        return "the path has escaped slashes or zeros, which are refused here"
    headers.set(":path", path)
    authority = normal_authority(headers.get(":authority"), message, connection.destination.port)
    headers.set(":authority", authority)
    return ""


def _facts(headers: Headers, message: HttpConnectionManager, connection: Connection) -> Facts:
    return Facts(
        destination=connection.destination,
        source=connection.source,
        remote=_remote_address(headers, message, connection),
        tls=connection.terminated,
        peer=connection.peer,
        server_name=connection.server_name,
        headers=headers,
        metadata=connection.request.metadata,
    )


def _looked_up(selection: Selection | None, headers: Headers, decoder: Decoder) -> str:
    """The host that is looked up for the request, if its cluster finds its endpoint so."""
    cluster = decoder.cluster(selection.cluster) if selection is not None and selection.cluster else None
    if cluster is None or "dynamic_forward_proxy" not in cluster.message.cluster_type.typed_config.type_url:
        return ""
    return split_port(headers.get(":authority"))[0]


def _remote_address(headers: Headers, message: HttpConnectionManager, connection: Connection) -> str:
    """The client's address by Envoy's rules for X-Forwarded-For; the header gets the connection's own appended."""
    listed = [part.strip() for value in headers.all("x-forwarded-for") for part in value.split(",") if part.strip()]
    own, hops = connection.source.ip, message.xff_num_trusted_hops
    if message.use_remote_address.value:
        remote = own if not hops else (listed[-hops] if len(listed) >= hops else own)
        if not message.skip_xff_append:
            headers.set("x-forwarded-for", ",".join((*listed, own)))
    else:
        remote = listed[-1 - hops] if len(listed) > hops else own
    return remote if parse_ip(remote) else own


def _select(
    manager: ManagerConfig, headers: Headers, connection: Connection, trace: Trace
) -> tuple[Selection | None, str]:
    """The route that the request takes; and, where there is none, why."""
    table = manager.routes
    if table is None:
        return None, f"the route configuration {manager.routes_name} has not been delivered"
    virtual_host = find_virtual_host(table, headers.get(":authority"))
    if virtual_host is None:
        return None, f"no virtual host of {table.name or 'the listener'} answers for {headers.get(':authority')}"
    trace.outcome = replace(trace.outcome, virtual_host=virtual_host.name, domains=tuple(virtual_host.domains))
    selection = Selection(table=table.message, virtual_host=virtual_host)
    if _needs_tls(virtual_host, headers):
        return selection, ""
    route = find_route(virtual_host, headers, connection)
    if route is None:
        trace.origins.append(origins_in(virtual_host.metadata))
        return selection, f"no route of virtual host {virtual_host.name} takes {headers.get(':path')}"
    origins = origins_in(route.metadata)
    trace.origins.append(origins)
    choice = RouteChoice(name=route.name, match=describe_match(route.match), origins=origins)
    trace.outcome = replace(trace.outcome, route=choice)
    if not route.HasField("route"):
        return replace(selection, route=route), ""
    cluster, weighted, clusters = draw_cluster(route.route, headers, connection.request.chance)
    choice = describe_action(choice, route.route, virtual_host)
    trace.outcome = replace(trace.outcome, route=choice, cluster=cluster, clusters=clusters)
    return replace(selection, route=route, weighted=weighted, cluster=cluster, clusters=clusters), ""


def _needs_tls(virtual_host: VirtualHost, headers: Headers) -> bool:
    return virtual_host.require_tls != VirtualHost.NONE and headers.get("x-forwarded-proto") != "https"


def _note_faults(passage: Passage, trace: Trace) -> None:
    if passage.faults and trace.outcome.route is not None:
        trace.outcome = replace(trace.outcome, route=replace(trace.outcome.route, fault=passage.faults[-1]))


def _route(selection: Selection, passage: Passage, connection: Connection, decoder: Decoder) -> Outcome:
    """The router filter."""
    trace, headers, route = passage.trace, passage.headers, selection.route
    if route is None:
        where = https_location(headers)
        trace.outcome = replace(trace.outcome, location=where)
        return trace.end(Verdict.REDIRECTED, f"plaintext is sent to {where}", status=301)
    match route.WhichOneof("action"):
        case "redirect":
            where = location(route.redirect, route.match, headers)
            trace.outcome = replace(trace.outcome, location=where)
            return trace.end(Verdict.REDIRECTED, f"sent to {where}", status=STATUS[route.redirect.response_code])
        case "direct_response":
            status = route.direct_response.status
            return trace.end(Verdict.ANSWERED, f"the proxy answers {status} by itself", status=status)
        case "route":
            return forward(selection, passage, connection, decoder)
    return trace.end(Verdict.NOT_FOUND, f"the route {route.name} forwards nothing", status=404, flag="NR")
