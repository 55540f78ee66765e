"""Envoy configuration written by hand, short enough to read in a test, as a simulator takes it."""

from __future__ import annotations

from typing import Any as AnyValue

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from google.protobuf.any_pb2 import Any
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

# ParseDict finds the types in an Any only where their modules are loaded.
from gossamer.core.frozen import FrozenMap
from gossamer.core.ids import Origin
from gossamer.core.resources import (
    CLUSTER,
    ENDPOINT,
    EXTENSION,
    LISTENER,
    ROUTE,
    Resource,
    Resources,
    Table,
    version_of,
)
from gossamer.simulate import decode as _decode  # noqa: F401
from gossamer.simulate.outcome import Outcome
from gossamer.simulate.request import Address, Arrival, Certificate, HttpRequest, Request, Tls
from gossamer.simulate.simulator import simulate

Json = dict[str, AnyValue]
TYPE = "type.googleapis.com/envoy."
KINDS: dict[str, type[Message]] = {
    LISTENER: Listener,
    ROUTE: RouteConfiguration,
    CLUSTER: Cluster,
    ENDPOINT: ClusterLoadAssignment,
    EXTENSION: TypedExtensionConfig,
}


def resource(type_url: str, message: Json, origins: tuple[Origin, ...] = ()) -> Resource:
    """One resource of its JSON."""
    parsed = ParseDict(message, KINDS[type_url]())
    body = Any(type_url=type_url, value=parsed.SerializeToString(deterministic=True)).SerializeToString()
    name = message.get("name") or message["cluster_name"]
    return Resource(type_url=type_url, name=name, version=version_of(body), body=body, origins=origins)


def resources(
    *,
    listeners: list[Json] | None = None,
    routes: list[Json] | None = None,
    clusters: list[Json] | None = None,
    endpoints: list[Json] | None = None,
    extensions: list[Json] | None = None,
    origins: tuple[Origin, ...] = (),
) -> Resources:
    """All that one proxy is told; every resource has the same origins."""
    given = {LISTENER: listeners, ROUTE: routes, CLUSTER: clusters, ENDPOINT: endpoints, EXTENSION: extensions}
    tables = {
        type_url: (Table(type_url, [resource(type_url, message, origins) for message in messages or []]),)
        for type_url, messages in given.items()
    }
    return Resources(tables=FrozenMap(tables))


def typed(kind: str, **fields: AnyValue) -> Json:
    """A typed_config."""
    return {"@type": TYPE + kind, **fields}


def direct(name: str, match: Json | None = None, status: int = 200, **more: AnyValue) -> Json:
    """A route that answers with its own name."""
    answer = {"status": status, "body": {"inline_string": name}}
    return {"name": name, "match": match or {"prefix": "/"}, "direct_response": answer, **more}


def to(cluster: str, match: Json | None = None, name: str = "", **action: AnyValue) -> Json:
    """A route to a cluster."""
    return {"name": name or cluster, "match": match or {"prefix": "/"}, "route": {"cluster": cluster, **action}}


def host(name: str, domains: list[str], routes: list[Json], **more: AnyValue) -> Json:
    """A virtual host."""
    return {"name": name, "domains": domains, "routes": routes, **more}


def table(*hosts: Json, name: str = "table", **more: AnyValue) -> Json:
    """A route configuration."""
    return {"name": name, "virtual_hosts": list(hosts), **more}


ROUTER: Json = {
    "name": "envoy.filters.http.router",
    "typed_config": typed("extensions.filters.http.router.v3.Router"),
}


def rbac(policies: Json, action: str = "DENY", name: str = "rbac", **more: AnyValue) -> Json:
    """An HTTP RBAC filter."""
    config = typed("extensions.filters.http.rbac.v3.RBAC", rules={"action": action, "policies": policies}, **more)
    return {"name": name, "typed_config": config}


def policy(permission: Json | None = None, principal: Json | None = None) -> Json:
    """An RBAC policy."""
    return {"permissions": [permission or {"any": True}], "principals": [principal or {"any": True}]}


def manager(routes: Json | str, filters: list[Json] | None = None, **more: AnyValue) -> Json:
    """The network filter that serves HTTP; routes by name come by RDS."""
    source: Json = (
        {"route_config": routes}
        if isinstance(routes, dict)
        else {"rds": {"route_config_name": routes, "config_source": {"ads": {}, "resource_api_version": "V3"}}}
    )
    kind = "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    config = typed(kind, stat_prefix="test", http_filters=[*(filters or []), ROUTER], **source, **more)
    return {"name": "manager", "typed_config": config}


def tcp(cluster: str) -> Json:
    """The network filter that tunnels."""
    config = typed("extensions.filters.network.tcp_proxy.v3.TcpProxy", stat_prefix="test", cluster=cluster)
    return {"name": "tcp", "typed_config": config}


def chain(filters: list[Json], match: Json | None = None, name: str = "", **more: AnyValue) -> Json:
    """A filter chain."""
    return {"name": name, "filters": filters, **({"filter_chain_match": match} if match else {}), **more}


def listener(port: int, chains: list[Json], name: str = "", address: str = "127.0.0.1", **more: AnyValue) -> Json:
    """A listener."""
    socket = {"socket_address": {"address": address, "port_value": port}}
    given = {key: value for key, value in more.items() if value is not None}
    return {"name": name or f"{address}_{port}", "address": socket, "filter_chains": chains, **given}


def inspector(kind: str) -> Json:
    """A listener filter: `tls`, `http` or `original_dst`."""
    names = {
        "tls": "extensions.filters.listener.tls_inspector.v3.TlsInspector",
        "http": "extensions.filters.listener.http_inspector.v3.HttpInspector",
        "original_dst": "extensions.filters.listener.original_dst.v3.OriginalDst",
    }
    return {"name": f"envoy.filters.listener.{kind}", "typed_config": typed(names[kind])}


def endpoint(address: str, port: int, **more: AnyValue) -> Json:
    """An endpoint of an assignment."""
    return {"endpoint": {"address": {"socket_address": {"address": address, "port_value": port}}}, **more}


def static(name: str, endpoints: list[Json], **more: AnyValue) -> Json:
    """A cluster with endpoints of its own."""
    assignment = {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]}
    return {"name": name, "type": "STATIC", "connect_timeout": "1s", "load_assignment": assignment, **more}


def get(
    port: int,
    path: str = "/",
    authority: str = "a.example",
    headers: list[tuple[str, str]] | None = None,
    **more: AnyValue,
) -> Request:
    """A request to a listener of the proxy's own, on 127.0.0.1."""
    connection = {key: more.pop(key) for key in ("tls", "chance", "metadata", "source") if key in more}
    return Request(
        arrival=Arrival.DIRECT,
        destination=Address(ip="127.0.0.1", port=port),
        http=HttpRequest(authority=authority, path=path, headers=tuple(headers or []), **more),
        **connection,
    )


def mesh_tls(identity: str, *alpn: str, server_name: str = "") -> Tls:
    """What a sidecar offers to another one."""
    return Tls(server_name=server_name, alpn=alpn, certificate=Certificate(uris=(identity,)))


ONE = [endpoint("10.0.0.1", 80)]


def captured(port: int, ip: str = "10.9.9.9", arrival: Arrival = Arrival.OUTBOUND, **more: AnyValue) -> Request:
    """A connection that the kernel redirects to the proxy."""
    given = {"http": HttpRequest(authority="a.example"), **more}
    return Request(arrival=arrival, destination=Address(ip=ip, port=port), **given)


def serving(routes: Json, filters: list[Json] | None = None, clusters: list[Json] | None = None) -> Resources:
    """One listener on port 80 with these routes, and the clusters a and b."""
    return resources(
        listeners=[listener(80, [chain([manager(routes, filters)])])],
        clusters=clusters if clusters is not None else [static("a", ONE), static("b", ONE)],
    )


def ask(compiled: Resources, path: str = "/", **more: AnyValue) -> Outcome:
    """What becomes of a request on port 80."""
    return simulate(compiled, get(80, path, **more))
