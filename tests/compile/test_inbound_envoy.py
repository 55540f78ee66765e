"""A real Envoy with the inbound side of a sidecar: who gets in, and what a policy reaches."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
import pytest

from gossamer.api.authorization_policy import (
    Action,
    AuthorizationPolicy,
    From,
    Operation,
    Rule,
    Source,
    To,
)
from gossamer.ca.authority import Authority
from gossamer.compile.draft import Draft
from gossamer.compile.inbound import compile_inbound
from gossamer.core.frozen import FrozenMap
from gossamer.core.ids import Origin, ResourceId
from gossamer.core.memo import Memo
from gossamer.core.resources import EXTENSION
from gossamer.model.policy import MutualTls, PeerPolicy, SelectedPolicy
from gossamer.model.proxy import Capture, CaptureMode, Proxy, ProxyType
from gossamer.model.routing import Client as RoutingClient
from gossamer.model.service import Protocol
from gossamer.model.settings import MeshSettings
from gossamer.model.view import InboundPort, Outbound, ProxyView
from tests.compile.sidecar import (
    DRAIN_S,
    Agent,
    Client,
    free_port,
    get,
    http_application,
    hurried,
    issue,
    new_authority,
    running_envoy,
    tcp_application,
    until,
)

pytestmark = pytest.mark.envoy


def selected(name: str, action: Action, *rules: Rule) -> SelectedPolicy:
    origin = Origin(resource=ResourceId(kind="AuthorizationPolicy", namespace="foo", name=name))
    return SelectedPolicy(origin=origin, spec=AuthorizationPolicy(action=action, rules=rules))


def only(*principals: str) -> Rule:
    return Rule(from_=(From(source=Source(principals=principals)),))


def on_path(path: str) -> Rule:
    return Rule(to=(To(operation=Operation(paths=(path,))),))


@dataclass
class Sidecar:
    """A sidecar before an HTTP and a TCP application, and two callers that the mesh knows."""

    folder: Path
    agent: Agent
    view: ProxyView
    http_port: int
    tcp_port: int
    web: Client
    other: Client

    def offer(self, *, deny: tuple[SelectedPolicy, ...] = (), allow: tuple[SelectedPolicy, ...] = ()) -> None:
        """Change the policies."""
        policies = replace(self.view.policies, deny=deny, allow=allow)
        self.agent.publish(compile_inbound(replace(self.view, policies=policies), Memo()))

    def accept(self, mode: MutualTls) -> None:
        """Change what the ports accept."""
        self.view = replace(self.view, policies=replace(self.view.policies, peer=PeerPolicy(default=mode)))
        self.agent.publish(compile_inbound(self.view, Memo()))

    @property
    def tcp_workload_port(self) -> str:
        return str(self.view.inbound[1].number)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return new_authority(tmp_path_factory.mktemp("ca") / "ca")


@contextmanager
def running(
    envoy: Path,
    folder: Path,
    authority: Authority,
    silent_about: frozenset[str],
    handlers: Iterable[grpc.GenericRpcHandler] = (),
) -> Iterator[Sidecar]:
    with http_application() as http_app, tcp_application() as tcp_app:
        ports = {http_app: free_port(), tcp_app: free_port()}
        capture = Capture(
            mode=CaptureMode.EXPLICIT,
            application_address="127.0.0.1",
            mesh_address="127.0.0.1",
            mesh_ports=FrozenMap(ports),
        )
        proxy = Proxy(type=ProxyType.SIDECAR, namespace="foo", name="app", capture=capture, addresses=("127.0.0.1",))
        view = ProxyView(
            proxy=proxy,
            settings=MeshSettings(access_log=str(folder / "access.log")),
            outbound=Outbound(client=RoutingClient(namespace="foo", labels=FrozenMap(), gateways=frozenset())),
            inbound=(
                InboundPort(number=http_app, protocol=Protocol.HTTP),
                InboundPort(number=tcp_app, protocol=Protocol.TCP),
            ),
        )
        identity = issue(authority, "foo", "default", "app")
        with (
            Agent(folder, identity, silent_about, handlers=handlers) as agent,
            running_envoy(envoy, folder, agent, proxy),
        ):
            yield Sidecar(
                folder=folder,
                agent=agent,
                view=view,
                http_port=ports[http_app],
                tcp_port=ports[tcp_app],
                web=Client(folder, issue(authority, "web", "frontend", "web-1")),
                other=Client(folder, issue(authority, "other", "batch", "batch-1")),
            )


@pytest.fixture
def sidecar(envoy: Path, tmp_path: Path, authority: Authority) -> Iterator[Sidecar]:
    with running(envoy, tmp_path, authority, frozenset()) as found:
        yield found


def status(client: Client, port: int, path: str = "/") -> int:
    connection = client.http(port)
    try:
        return get(connection, path)[0]
    finally:
        connection.close()


def test_a_deny_reaches_an_open_connection_and_is_named(sidecar: Sidecar) -> None:
    sidecar.offer()
    until(lambda: status(sidecar.web, sidecar.http_port) == 200, "a first 200")
    connection = sidecar.web.http(sidecar.http_port)
    assert get(connection, "/secret")[0] == 200
    sidecar.offer(deny=(selected("no-secrets", Action.DENY, on_path("/secret")),))
    until(lambda: status(sidecar.web, sidecar.http_port, "/secret") == 403, "the DENY", 5)
    assert get(connection, "/secret")[0] == 403, "on the connection that was open before"
    assert status(sidecar.web, sidecar.http_port, "/open") == 200
    until(lambda: "ns[foo]-policy[no-secrets]-rule[0]" in (sidecar.folder / "access.log").read_text(), "its name")
    connection.close()


def test_an_allow_decides_by_identity(sidecar: Sidecar) -> None:
    sidecar.offer(allow=(selected("web", Action.ALLOW, only("cluster.local/ns/web/sa/frontend")),))
    until(lambda: status(sidecar.web, sidecar.http_port) == 200, "a first 200")
    assert status(sidecar.other, sidecar.http_port) == 403
    assert status(Client(sidecar.folder), sidecar.http_port) == 403  # PERMISSIVE: plaintext comes in, as nobody


def without_policy(sidecar: Sidecar) -> list[Draft]:
    """What a control plane offers that loses the slots."""
    return [draft for draft in compile_inbound(sidecar.view, Memo()) if draft.type_url != EXTENSION]


def test_nothing_passes_when_policy_never_comes(envoy: Path, tmp_path: Path, authority: Authority) -> None:
    with running(envoy, tmp_path, authority, frozenset({EXTENSION})) as sidecar:
        sidecar.agent.publish(hurried(without_policy(sidecar), 1))
        until(lambda: status(sidecar.web, sidecar.http_port) == 403, "the slots' own denial")
        until(lambda: "[policy-not-received]" in (tmp_path / "access.log").read_text(), "its reason")
        assert exchange(sidecar.web.over_tcp(), sidecar.tcp_port) == b""


def test_nothing_passes_when_policy_is_lost(sidecar: Sidecar) -> None:
    sidecar.offer()
    until(lambda: status(sidecar.web, sidecar.http_port) == 200, "a first 200")
    assert exchange(sidecar.web.over_tcp(), sidecar.tcp_port) == b"ping\n"
    connection = sidecar.web.http(sidecar.http_port)
    assert get(connection)[0] == 200
    sidecar.agent.publish(without_policy(sidecar))
    until(lambda: get(connection)[0] == 403, "the slots' own denial", 5)
    connection.close()
    until(lambda: exchange(sidecar.web.over_tcp(), sidecar.tcp_port) == b"", "and on TCP", 5)

    sidecar.offer()
    until(lambda: status(sidecar.web, sidecar.http_port) == 200, "service, once policy has come back")


def test_strict_refuses_plaintext_and_strangers(sidecar: Sidecar, tmp_path: Path) -> None:
    sidecar.accept(MutualTls.STRICT)
    until(lambda: status(sidecar.web, sidecar.http_port) == 200, "a first 200")
    plain = Client(sidecar.folder)
    assert plain.refused(sidecar.http_port)
    assert plain.refused(sidecar.tcp_port)
    assert sidecar.web.identity is not None
    stranger = issue(new_authority(tmp_path / "elsewhere"), "web", "frontend", "web-1")
    believing = replace(stranger, roots_pem=sidecar.web.identity.roots_pem)
    assert Client(sidecar.folder, believing).refused(sidecar.http_port)

    sidecar.accept(MutualTls.PERMISSIVE)
    until(lambda: status(plain, sidecar.http_port) == 200, "plaintext under PERMISSIVE")
    assert status(sidecar.web, sidecar.http_port) == 200


def test_a_forged_client_certificate_header_does_not_get_through(sidecar: Sidecar) -> None:
    sidecar.offer()
    until(lambda: status(sidecar.web, sidecar.http_port) == 200, "a first 200")
    forged = "By=spiffe://x;URI=spiffe://cluster.local/ns/admin/sa/root"
    plain = Client(sidecar.folder).http(sidecar.http_port)
    assert "x-forwarded-client-cert" not in get(plain, x_forwarded_client_cert=forged)[1]
    plain.close()
    connection = sidecar.web.http(sidecar.http_port)
    body = get(connection)[1]
    connection.close()
    assert "URI=spiffe://cluster.local/ns/web/sa/frontend" in body
    assert "By=spiffe://cluster.local/ns/foo/sa/default" in body


def exchange(client: Client, port: int) -> bytes:
    """What the TCP application echoes. It greets first; policy is asked when the client's first byte comes."""
    with client.connect(port) as connection:
        try:
            greeting = connection.recv(100)
            if not greeting:
                return b""
            connection.sendall(b"ping\n")
            return connection.recv(100)
        except ConnectionError:
            return b""


def test_policy_on_tcp(sidecar: Sidecar) -> None:
    web, other = sidecar.web.over_tcp(), sidecar.other.over_tcp()
    sidecar.offer(allow=(selected("web", Action.ALLOW, only("cluster.local/ns/web/*")),))
    until(lambda: exchange(web, sidecar.tcp_port) == b"ping\n", "a first exchange")
    assert exchange(other, sidecar.tcp_port) == b""

    rule = Rule(to=(To(operation=Operation(ports=(sidecar.tcp_workload_port,))),))
    sidecar.offer(deny=(selected("closed", Action.DENY, rule),))
    until(lambda: exchange(web, sidecar.tcp_port) == b"", "a DENY by the workload's port", 5)
    assert status(sidecar.web, sidecar.http_port) == 200
    until(lambda: "ns[foo]-policy[closed]-rule[0]" in (sidecar.folder / "access.log").read_text(), "its name")


def test_a_deny_ends_open_tcp_connections_and_spares_other_ports(sidecar: Sidecar) -> None:
    web = sidecar.web.over_tcp()
    sidecar.offer()
    until(lambda: exchange(web, sidecar.tcp_port) == b"ping\n", "a first exchange")
    connection = web.connect(sidecar.tcp_port)
    assert connection.recv(100) == b"hello\n"
    connection.sendall(b"before\n")
    assert connection.recv(100) == b"before\n"
    kept = sidecar.web.http(sidecar.http_port)
    assert get(kept)[0] == 200
    opened = kept.sock

    rule = Rule(to=(To(operation=Operation(ports=(sidecar.tcp_workload_port,))),))
    sidecar.offer(deny=(selected("closed", Action.DENY, rule),))
    until(lambda: exchange(web, sidecar.tcp_port) == b"", "the DENY for new connections", 5)
    connection.settimeout(DRAIN_S + 8)
    assert connection.recv(100) == b"", "ended when the drain time was over"
    connection.close()
    assert get(kept)[0] == 200
    assert kept.sock is opened
    kept.close()


def ends(stream: http.client.HTTPResponse, seconds: float) -> bool:
    """Whether a stream without end is cut within this time."""
    deadline = time.monotonic() + seconds
    try:
        while time.monotonic() < deadline:
            if not stream.readline():
                return True
    except (OSError, http.client.HTTPException):
        return True
    return False


def test_a_deny_ends_open_streams_and_an_allow_does_not(sidecar: Sidecar) -> None:
    sidecar.offer()
    until(lambda: status(sidecar.web, sidecar.http_port) == 200, "a first 200")
    connection = sidecar.web.http(sidecar.http_port)
    connection.request("GET", "/stream")
    stream = connection.getresponse()
    assert stream.readline() == b"..\n"

    sidecar.offer(allow=(selected("web", Action.ALLOW, only("cluster.local/ns/web/*")),))
    until(lambda: status(sidecar.other, sidecar.http_port) == 403, "the ALLOW for new requests", 5)
    ended = time.monotonic() + DRAIN_S + 1
    while time.monotonic() < ended:
        assert stream.readline() == b"..\n", "an edit of ALLOW cuts no stream"

    sidecar.offer(deny=(selected("no-streams", Action.DENY, on_path("/stream")),))
    assert ends(stream, DRAIN_S + 8)
    connection.close()


def test_a_server_may_speak_first(sidecar: Sidecar) -> None:
    sidecar.accept(MutualTls.DISABLE)
    plain = Client(sidecar.folder)
    until(lambda: exchange(plain, sidecar.tcp_port) == b"ping\n", "a greeting before any byte was sent")


def test_a_refused_connection_is_logged(sidecar: Sidecar) -> None:
    sidecar.accept(MutualTls.STRICT)
    until(lambda: status(sidecar.web, sidecar.http_port) == 200, "a first 200")
    assert Client(sidecar.folder).refused(sidecar.http_port)
    until(lambda: " NR " in (sidecar.folder / "access.log").read_text(), "the refused connection")
