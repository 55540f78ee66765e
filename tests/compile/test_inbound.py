"""The inbound side, asked through the simulator: which connection a port takes, and as what."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gossamer.api.authorization_policy import Action, AuthorizationPolicy, From, Operation, Rule, Source, To
from gossamer.compile.inbound import compile_inbound
from gossamer.core.frozen import FrozenMap
from gossamer.core.ids import Origin, ResourceId
from gossamer.core.memo import Memo
from gossamer.core.resources import CLUSTER, EXTENSION, LISTENER
from gossamer.model.policy import MutualTls, PeerPolicy, SelectedPolicy, WorkloadPolicies
from gossamer.model.proxy import Capture, CaptureMode, Proxy, ProxyType
from gossamer.model.routing import Client
from gossamer.model.service import Protocol
from gossamer.model.settings import MeshSettings
from gossamer.model.view import InboundPort, Outbound, ProxyView
from gossamer.simulate.outcome import Outcome, Verdict
from gossamer.simulate.request import Address, Arrival, Certificate, HttpRequest, Request, Tls
from gossamer.simulate.simulator import simulate
from tests.compile.sidecar import resources_of

OWN = "10.0.0.1"
PORTS = {Protocol.TCP: 70, Protocol.HTTP: 80, Protocol.AUTO: 81, Protocol.GRPC: 82, None: 99}
PEER = Certificate(uris=("spiffe://cluster.local/ns/web/sa/a",))
PLAIN = None
FOREIGN_TLS = Tls(server_name="x", alpn=("h2", "http/1.1"))
MESH_HTTP = Tls(alpn=("istio-http/1.1",), certificate=PEER)
MESH_TCP = Tls(alpn=("istio-peer-exchange", "istio"), certificate=PEER)
NAMELESS = Tls(certificate=PEER)

SIDECAR = Proxy(type=ProxyType.SIDECAR, namespace="default", name="app", addresses=(OWN,))


def view_of(accepts: PeerPolicy, proxy: Proxy = SIDECAR, deny: tuple[SelectedPolicy, ...] = ()) -> ProxyView:
    return ProxyView(
        proxy=proxy,
        settings=MeshSettings(),
        outbound=Outbound(client=Client(namespace="default", labels=FrozenMap(), gateways=frozenset())),
        inbound=tuple(InboundPort(number=n, protocol=p) for p, n in PORTS.items() if p is not None),
        policies=WorkloadPolicies(peer=accepts, deny=deny),
    )


def ask(view: ProxyView, port: int, tls: Tls | None, *, http: bool = True, direct: str = "") -> Outcome:
    request = Request(
        arrival=Arrival.DIRECT if direct else Arrival.INBOUND,
        destination=Address(ip=direct or OWN, port=port),
        source=Address(ip="10.9.9.9", port=4000),
        tls=tls,
        http=HttpRequest(authority="app", path="/x") if http else None,
    )
    return simulate(resources_of(compile_inbound(view, Memo())), request)


def seen(outcome: Outcome) -> str:
    """In a word: how the connection was treated, or what became of it."""
    if outcome.cluster:
        return f"{outcome.protocol} {outcome.transport}"
    return outcome.verdict.value


STRICT, PERMISSIVE, DISABLE = MutualTls.STRICT, MutualTls.PERMISSIVE, MutualTls.DISABLE
TABLE = [
    (STRICT, Protocol.HTTP, PLAIN, "refused"),
    (STRICT, Protocol.HTTP, MESH_HTTP, "http mtls"),
    (STRICT, Protocol.HTTP, NAMELESS, "http mtls"),
    (STRICT, Protocol.HTTP, FOREIGN_TLS, "refused"),
    (STRICT, Protocol.TCP, PLAIN, "refused"),
    (STRICT, Protocol.TCP, MESH_TCP, "tcp mtls"),
    (STRICT, Protocol.AUTO, PLAIN, "refused"),
    (STRICT, Protocol.AUTO, MESH_HTTP, "http mtls"),
    (STRICT, Protocol.AUTO, MESH_TCP, "tcp mtls"),
    (STRICT, Protocol.AUTO, Tls(alpn=("http/1.1",), certificate=PEER), "http mtls"),
    (STRICT, None, PLAIN, "refused"),
    (STRICT, None, MESH_HTTP, "http mtls"),
    (PERMISSIVE, Protocol.HTTP, PLAIN, "http plaintext"),
    (PERMISSIVE, Protocol.HTTP, MESH_HTTP, "http mtls"),
    (PERMISSIVE, Protocol.HTTP, MESH_TCP, "http mtls"),
    (PERMISSIVE, Protocol.HTTP, FOREIGN_TLS, "refused"),
    (PERMISSIVE, Protocol.TCP, PLAIN, "tcp plaintext"),
    (PERMISSIVE, Protocol.TCP, MESH_HTTP, "tcp mtls"),
    (PERMISSIVE, Protocol.TCP, FOREIGN_TLS, "tcp tls passthrough"),
    (PERMISSIVE, Protocol.AUTO, PLAIN, "http plaintext"),
    (PERMISSIVE, Protocol.AUTO, MESH_HTTP, "http mtls"),
    (PERMISSIVE, Protocol.AUTO, MESH_TCP, "tcp mtls"),
    (PERMISSIVE, Protocol.AUTO, FOREIGN_TLS, "tcp tls passthrough"),
    (PERMISSIVE, Protocol.GRPC, MESH_HTTP, "http mtls"),
    (PERMISSIVE, None, FOREIGN_TLS, "tcp tls passthrough"),
    (DISABLE, Protocol.HTTP, PLAIN, "http plaintext"),
    (DISABLE, Protocol.TCP, MESH_TCP, "tcp tls passthrough"),
    (DISABLE, Protocol.AUTO, PLAIN, "http plaintext"),
    (DISABLE, Protocol.AUTO, MESH_HTTP, "tcp tls passthrough"),
    (DISABLE, None, MESH_HTTP, "tcp tls passthrough"),
]


@pytest.mark.parametrize(("mode", "protocol", "tls", "expected"), TABLE)
def test_what_a_captured_port_takes(mode: MutualTls, protocol: Protocol, tls: Tls | None, expected: str) -> None:
    view = view_of(PeerPolicy(default=mode))
    outcome = ask(view, PORTS[protocol], tls)
    assert seen(outcome) == expected, outcome.reason
    if outcome.cluster:
        known = protocol is not None
        assert outcome.cluster == (f"inbound|{PORTS[protocol]}||" if known else "InboundPassthroughCluster")


@pytest.mark.parametrize(("mode", "protocol", "tls", "expected"), [row for row in TABLE if row[1] is not None])
def test_a_mesh_port_takes_what_its_workloads_port_takes(
    mode: MutualTls, protocol: Protocol, tls: Tls | None, expected: str
) -> None:
    capture = Capture(
        mode=CaptureMode.EXPLICIT,
        mesh_address="192.168.0.1",
        mesh_ports=FrozenMap({PORTS[protocol]: 31000}),
        application_address="127.0.0.1",
    )
    view = view_of(PeerPolicy(default=mode), replace(SIDECAR, capture=capture))
    outcome = ask(view, 31000, tls, direct="192.168.0.1")
    assert seen(outcome) == expected, outcome.reason


def test_port_level_peer_authentication_reaches_ports_without_a_service() -> None:
    view = view_of(PeerPolicy(default=STRICT, ports=FrozenMap({80: DISABLE, 555: PERMISSIVE})))
    assert seen(ask(view, 80, PLAIN)) == "http plaintext"
    assert seen(ask(view, 555, PLAIN)) == "http plaintext"
    assert ask(view, 555, PLAIN).cluster == "InboundPassthroughCluster"
    assert seen(ask(view, 556, PLAIN)) == "refused"


def test_a_call_to_the_inbound_port_itself_goes_nowhere() -> None:
    assert ask(view_of(PeerPolicy()), 15006, PLAIN).verdict is Verdict.UNAVAILABLE


@pytest.mark.parametrize("port", [*PORTS.values()])
@pytest.mark.parametrize("tls", [PLAIN, MESH_HTTP, MESH_TCP, FOREIGN_TLS])
@pytest.mark.parametrize("mode", [STRICT, PERMISSIVE, DISABLE])
def test_a_deny_for_all_lets_nothing_through(port: int, tls: Tls | None, mode: MutualTls) -> None:
    origin = Origin(resource=ResourceId(kind="AuthorizationPolicy", namespace="default", name="closed"))
    spec = AuthorizationPolicy(action=Action.DENY, rules=(Rule(),))
    view = view_of(PeerPolicy(default=mode), deny=(SelectedPolicy(origin=origin, spec=spec),))
    for http in (True, False):
        assert ask(view, port, tls, http=http).verdict in (Verdict.DENIED, Verdict.REFUSED, Verdict.BAD_REQUEST)


def test_a_denial_names_its_policy() -> None:
    origin = Origin(resource=ResourceId(kind="AuthorizationPolicy", namespace="default", name="only-web"))
    rule = Rule(from_=(From(source=Source(namespaces=("web",))),))
    spec = AuthorizationPolicy(action=Action.DENY, rules=(rule,))
    view = view_of(PeerPolicy(), deny=(SelectedPolicy(origin=origin, spec=spec),))
    outcome = ask(view, 80, MESH_HTTP)
    assert (outcome.verdict, outcome.status) == (Verdict.DENIED, 403)
    assert replace(origin, rule="spec.rules[0]") in outcome.origins
    assert ask(view, 80, PLAIN).verdict is Verdict.SERVED


def names(view: ProxyView, type_url: str) -> list[str]:
    return [draft.name for draft in compile_inbound(view, Memo()) if draft.type_url == type_url]


def test_what_there_is_in_each_way_of_capture() -> None:
    mesh = Capture(mesh_address="192.168.0.1", mesh_ports=FrozenMap({80: 31000}), application_address="127.0.0.1")
    both = view_of(PeerPolicy(), replace(SIDECAR, capture=replace(mesh, network_namespace="/run/app")))
    assert names(both, LISTENER) == ["virtualInbound", "meshInbound|80"]
    explicit = view_of(PeerPolicy(), replace(SIDECAR, capture=replace(mesh, mode=CaptureMode.EXPLICIT)))
    assert names(explicit, LISTENER) == ["meshInbound|80"]
    assert "InboundPassthroughCluster" not in names(explicit, CLUSTER)
    gateway = view_of(PeerPolicy(), replace(SIDECAR, type=ProxyType.ROUTER))
    assert names(gateway, LISTENER) == names(gateway, CLUSTER) == []
    assert names(gateway, EXTENSION) == names(both, EXTENSION) != []


def test_namespaces_are_entered_by_capture_and_by_connections_to_the_application() -> None:
    capture = Capture(
        network_namespace="/run/app",
        mesh_address="192.168.0.1",
        mesh_ports=FrozenMap({80: 31000}),
        application_address="127.0.0.1",
    )
    view = view_of(PeerPolicy(), replace(SIDECAR, capture=capture, addresses=(OWN, "fd00::1")))
    text = {draft.name: str(draft.message) for draft in compile_inbound(view, Memo())}
    assert text["virtualInbound"].count('network_namespace_filepath: "/run/app"') == 2, "one for each family"
    assert "/run/app" not in text["meshInbound|80"]
    assert "/run/app" in text["inbound|80||"]
    assert "/run/app" in text["InboundPassthroughCluster"]
    assert 'address: "127.0.0.1"' in text["inbound|80||"]


def test_every_reference_leads_somewhere() -> None:
    drafts = compile_inbound(view_of(PeerPolicy(ports=FrozenMap({555: STRICT}))), Memo())
    there = {(draft.type_url, draft.name) for draft in drafts} | {(CLUSTER, "BlackHoleCluster")}
    for draft in drafts:
        assert draft.references is not None
        assert {(one.type_url, one.name) for one in draft.references} <= there


def test_a_server_that_speaks_first_is_not_waited_for_to_be_spoken_to() -> None:
    view = view_of(PeerPolicy(default=STRICT, ports=FrozenMap({70: DISABLE})))
    (listener,) = [draft.message for draft in compile_inbound(view, Memo()) if draft.name == "virtualInbound"]
    text = str(listener)
    assert "filter_disabled" in text
    assert "start: 70" in text
    assert text.count("start: 80") == 0


def test_what_hundreds_of_ports_and_policies_compile_to_grows_with_them_and_no_faster() -> None:
    def size(count: int) -> int:
        deny = tuple(
            SelectedPolicy(
                origin=Origin(resource=ResourceId(kind="AuthorizationPolicy", namespace="default", name=f"p{n}")),
                spec=AuthorizationPolicy(
                    action=Action.DENY,
                    rules=(Rule(to=(To(operation=Operation(ports=(str(1000 + n),))),)),),
                ),
            )
            for n in range(count)
        )
        view = replace(
            view_of(PeerPolicy(ports=FrozenMap({1000 + n: STRICT for n in range(0, count, 2)})), deny=deny),
            inbound=tuple(InboundPort(number=1000 + n, protocol=Protocol.AUTO) for n in range(count)),
        )
        return sum(draft.message.ByteSize() for draft in compile_inbound(view, Memo()))

    assert size(300) < 12 * size(30)
