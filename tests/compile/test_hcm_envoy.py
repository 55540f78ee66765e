"""A real Envoy that calls itself: out through one listener, over the mesh's mutual TLS, in through another."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.address_pb2 import Address, SocketAddress
from envoy.config.endpoint.v3.endpoint_components_pb2 import Endpoint, LbEndpoint, LocalityLbEndpoints
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_components_pb2 import Filter, FilterChain
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_components_pb2 import Route, RouteAction, RouteMatch, VirtualHost
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from google.protobuf.duration_pb2 import Duration

from gossamer.api.authorization_policy import Action, AuthorizationPolicy, Operation, Rule, To
from gossamer.compile.draft import Draft, references
from gossamer.compile.hcm import Direction, connection_manager
from gossamer.compile.inbound import compile_inbound
from gossamer.compile.policies.slots import HTTP_SLOTS, slot_references
from gossamer.compile.streams import pass_to
from gossamer.compile.tls import mesh_alpn, mesh_client_context
from gossamer.core.frozen import FrozenMap
from gossamer.core.ids import Origin, ResourceId
from gossamer.core.memo import Memo
from gossamer.core.resources import CLUSTER, LISTENER
from gossamer.model.policy import MutualTls, PeerPolicy, SelectedPolicy, WorkloadPolicies
from gossamer.model.proxy import Capture, CaptureMode, Proxy, ProxyType
from gossamer.model.routing import Client as RoutingClient
from gossamer.model.service import Protocol
from gossamer.model.settings import MeshSettings
from gossamer.model.view import InboundPort, Outbound, ProxyView
from tests.compile.sidecar import (
    Agent,
    Client,
    admin,
    free_port,
    get,
    http_application,
    issue,
    new_authority,
    running_envoy,
    until,
)

pytestmark = pytest.mark.envoy
SELF = "spiffe://cluster.local/ns/foo/sa/default"
FORGED = "By=spiffe://x;URI=spiffe://cluster.local/ns/admin/sa/root"


@dataclass
class Loop:
    """The ports of three ways to the same application, in plaintext from the test."""

    folder: Path
    http: int
    tcp: int
    impostor: int
    gateway: int


def cluster(name: str, port: int, spiffe_id: str) -> Draft:
    """A cluster over the mesh's mutual TLS."""
    place = LbEndpoint(endpoint=Endpoint(address=address(port)))
    message = Cluster(
        name=name,
        type=Cluster.STATIC,
        connect_timeout=Duration(seconds=5),
        transport_socket=mesh_client_context("app.foo", (spiffe_id,), mesh_alpn(Protocol.AUTO)),
        load_assignment=ClusterLoadAssignment(cluster_name=name, endpoints=[LocalityLbEndpoints(lb_endpoints=[place])]),
    )
    return Draft(type_url=CLUSTER, name=name, message=message, references=frozenset())


def address(port: int) -> Address:
    return Address(socket_address=SocketAddress(address="127.0.0.1", port_value=port))


def listener(name: str, port: int, part: Filter, to: str, *, policed: bool = False) -> Draft:
    message = Listener(name=name, address=address(port), filter_chains=[FilterChain(filters=[part])])
    slots = slot_references(*HTTP_SLOTS) if policed else frozenset()
    return Draft(type_url=LISTENER, name=name, message=message, references=references(CLUSTER, [to]) | slots)


def routes(to: str) -> RouteConfiguration:
    route = Route(match=RouteMatch(prefix="/"), route=RouteAction(cluster=to))
    return RouteConfiguration(name=to, virtual_hosts=[VirtualHost(name="all", domains=["*"], routes=[route])])


@pytest.fixture
def loop(envoy: Path, tmp_path: Path) -> Iterator[Loop]:
    authority = new_authority(tmp_path / "ca")
    found = Loop(folder=tmp_path, http=free_port(), tcp=free_port(), impostor=free_port(), gateway=free_port())
    with http_application() as app:
        mesh_port = free_port()
        capture = Capture(
            mode=CaptureMode.EXPLICIT,
            application_address="127.0.0.1",
            mesh_address="127.0.0.1",
            mesh_ports=FrozenMap({app: mesh_port}),
        )
        proxy = Proxy(type=ProxyType.SIDECAR, namespace="foo", name="app", capture=capture, addresses=("127.0.0.1",))
        secret = Rule(to=(To(operation=Operation(paths=("/secret",))),))
        policy = SelectedPolicy(
            origin=Origin(resource=ResourceId(kind="AuthorizationPolicy", namespace="foo", name="no-secrets")),
            spec=AuthorizationPolicy(action=Action.DENY, rules=(secret,)),
        )
        view = ProxyView(
            proxy=proxy,
            settings=MeshSettings(),
            outbound=Outbound(client=RoutingClient(namespace="foo", labels=FrozenMap(), gateways=frozenset())),
            inbound=(InboundPort(number=app, protocol=Protocol.AUTO),),
            policies=WorkloadPolicies(
                peer=PeerPolicy(default=MutualTls.STRICT),
                deny=(policy,),
            ),
        )
        settings = view.settings
        drafts = [
            *compile_inbound(view, Memo()),
            cluster("self", mesh_port, SELF),
            cluster("other", mesh_port, "spiffe://cluster.local/ns/foo/sa/other"),
            listener("http", found.http, connection_manager(Direction.OUTBOUND, "o", routes("self"), settings), "self"),
            listener("tcp", found.tcp, pass_to("self", settings), "self"),
            listener(
                "impostor",
                found.impostor,
                connection_manager(Direction.OUTBOUND, "i", routes("other"), settings),
                "other",
            ),
            listener(
                "gateway",
                found.gateway,
                connection_manager(Direction.GATEWAY, "g", routes("self"), settings),
                "self",
                policed=True,
            ),
        ]
        identity = issue(authority, "foo", "default", "app")
        with Agent(tmp_path, identity) as agent, running_envoy(envoy, tmp_path, agent, proxy):
            agent.publish(drafts)
            until(lambda: ask(found, found.http)[0] == 200, "a first 200")
            yield found


def ask(loop: Loop, port: int, path: str = "/", **headers: str) -> tuple[int, str, dict[str, str]]:
    connection = Client(loop.folder).http(port)
    try:
        return get(connection, path, **headers)
    finally:
        connection.close()


def test_an_auto_port_tells_http_by_its_alpn(loop: Loop) -> None:
    assert ask(loop, loop.http, "/open")[0] == 200
    assert ask(loop, loop.http, "/secret")[0] == 403
    assert Client(loop.folder).refused(loop.tcp), "a TCP connection of the mesh is not looked into: a DENY reaches all"


def test_secure_naming_refuses_a_server_with_another_name(loop: Loop) -> None:
    assert ask(loop, loop.impostor)[0] == 503
    failures = admin(loop.folder, "/stats?filter=cluster.other.ssl.fail_verify_san&format=json")
    assert json.loads(failures)["stats"][0]["value"] > 0


def test_an_application_cannot_forge_who_it_is(loop: Loop) -> None:
    _, body, _ = ask(loop, loop.http, x_forwarded_client_cert=FORGED)
    (seen,) = [line for line in body.splitlines() if line.startswith("x-forwarded-client-cert")]
    assert "admin" not in seen
    assert f"URI={SELF}" in seen


def test_a_gateway_believes_no_client(loop: Loop) -> None:
    _, body, _ = ask(loop, loop.gateway, x_forwarded_client_cert=FORGED, x_forwarded_for="203.0.113.1")
    assert "admin" not in body
    (forwarded,) = [line for line in body.splitlines() if line.startswith("x-forwarded-for")]
    assert len(forwarded.split(",")) == 2, "where it came from is added to what it said"


def test_a_sidecar_says_who_serves(loop: Loop) -> None:
    assert ask(loop, loop.http)[2]["server"] == "istio-envoy"


def test_paths_are_normalised_before_policy(loop: Loop) -> None:
    assert ask(loop, loop.http, "/open/../secret")[0] == 403
    assert ask(loop, loop.http, "/%73ecret")[0] == 403
