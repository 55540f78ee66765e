"""Sidecar resources: whom a workload may call, by which listener, and how it is called itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gossamer.compile.static import Stub
from gossamer.core.frozen import FrozenMap
from gossamer.core.memo import Memo
from gossamer.core.resources import CLUSTER, LISTENER, ROUTE
from gossamer.model.proxy import Capture, CaptureMode, Proxy
from gossamer.simulate.outcome import Outcome, Verdict
from gossamer.simulate.request import Address, Arrival, Certificate, HttpRequest, Request, Tls
from gossamer.simulate.simulator import simulate
from tests.compile.compiled import SIDECAR, Compiled, compiled, istio, service
from tests.compile.validated import validated

HTTP = "{name: http, port: 80}"
A = service("a", f"{HTTP}, {{name: tcp, port: 82}}", extra="clusterIP: 10.0.0.1")
B = service("b", HTTP, namespace="other", extra="clusterIP: 10.0.0.2")
ROOT_ONLY = "  egress: [{hosts: [./*]}]"
MESH_PEER = Certificate(uris=("spiffe://cluster.local/ns/default/sa/x",))


def sidecar(spec: str, name: str = "s", namespace: str = "default") -> str:
    return istio("Sidecar", name, spec, namespace=namespace)


def call(
    found: Compiled,
    host: str,
    port: int = 80,
    *,
    to: str = "10.9.9.9",
    arrival: Arrival = Arrival.OUTBOUND,
    http: bool = True,
    tls: Tls | None = None,
) -> Outcome:
    request = Request(
        arrival=arrival,
        destination=Address(ip=to, port=port),
        tls=tls,
        http=HttpRequest(authority=host) if http else None,
    )
    return simulate(found.resources, request)


def seen_by(*documents: str, proxy: Proxy = SIDECAR) -> set[str]:
    names = compiled(*documents, proxy=proxy).names(CLUSTER)
    return {name.split("|")[3].partition(".")[0] for name in names if name.startswith("outbound|")}


def test_its_egress_is_all_that_a_workload_sees() -> None:
    assert seen_by(A, B) == {"a", "b"}
    assert seen_by(A, B, sidecar("  egress: [{hosts: [./*]}]")) == {"a"}
    assert seen_by(A, B, sidecar("  egress: [{hosts: ['*/b.other.svc.cluster.local']}]")) == {"b"}
    assert seen_by(A, B, sidecar("  egress: [{hosts: [other/*, ./a.default.svc.cluster.local]}]")) == {"a", "b"}
    assert seen_by(A, B, sidecar("  egress: [{hosts: ['*/*.default.svc.cluster.local']}]")) == {"a"}
    assert seen_by(A, B, sidecar("  egress: [{hosts: [~/*]}]")) == set()


def test_whose_word_counts() -> None:
    """A Sidecar that selects the workload, before its namespace's, before the root namespace's."""
    mine = sidecar("  workloadSelector: {labels: {app: mine}}\n  egress: [{hosts: [~/*]}]", "mine")
    default = sidecar("  egress: [{hosts: [other/*]}]", "default")
    root = sidecar(ROOT_ONLY, "root", "istio-system")
    selecting_root = sidecar("  workloadSelector: {labels: {app: x}}\n  egress: [{hosts: [~/*]}]", "x", "istio-system")
    labelled = replace(SIDECAR, labels=FrozenMap({"app": "mine"}))
    assert seen_by(A, B, mine, default, root, proxy=labelled) == set()
    assert seen_by(A, B, mine, default, root) == {"b"}
    assert seen_by(A, B, mine, root) == {"a"}, "of the root namespace's, . is the workload's namespace"
    assert seen_by(A, B, selecting_root, proxy=replace(SIDECAR, labels=FrozenMap({"app": "x"}))) == {"a", "b"}


def test_who_says_nothing_of_egress_has_his_namespaces() -> None:
    mine = sidecar("  workloadSelector: {labels: {app: mine}}\n  outboundTrafficPolicy: {mode: REGISTRY_ONLY}", "mine")
    labelled = replace(SIDECAR, labels=FrozenMap({"app": "mine"}))
    assert seen_by(A, B, mine, sidecar(ROOT_ONLY, "default"), proxy=labelled) == {"a"}
    assert seen_by(A, B, mine, proxy=labelled) == {"a", "b"}


def test_a_private_service_is_not_seen_whatever_is_imported() -> None:
    hidden = B.replace("namespace: other}", "namespace: other, annotations: {networking.istio.io/exportTo: '.'}}")
    assert seen_by(A, hidden, sidecar("  egress: [{hosts: ['*/*']}]")) == {"a"}


def test_a_route_that_is_let_in_brings_what_it_leads_to() -> None:
    route = istio(
        "VirtualService", "r", "  hosts: [x.com]\n  http: [{route: [{destination: {host: b.other.svc.cluster.local}}]}]"
    )
    found = compiled(A, B, route, sidecar("  egress: [{hosts: [default/x.com]}]"))
    assert call(found, "x.com").cluster == "outbound|80||b.other.svc.cluster.local"
    assert "outbound|80||b.other.svc.cluster.local" in found.names(CLUSTER)
    assert call(found, "b.other").cluster == "PassthroughCluster", "it is not to be called by its own name"
    elsewhere = compiled(A, B, route, sidecar("  egress: [{hosts: [other/*]}]"))
    assert call(elsewhere, "x.com").cluster == "PassthroughCluster"


def test_the_listener_with_the_port_decides() -> None:
    spec = """
  egress:
  - port: {number: 80, protocol: HTTP, name: web}
    hosts: [other/*]
  - hosts: [./*]"""
    found = compiled(A, B, sidecar(spec))
    assert call(found, "b.other").cluster == "outbound|80||b.other.svc.cluster.local"
    assert call(found, "a").cluster == "PassthroughCluster"
    assert call(found, "", 82, to="10.0.0.1", http=False).cluster == "outbound|82||a.default.svc.cluster.local"


def test_a_bound_listener_is_called_by_the_application() -> None:
    spec = """
  egress:
  - port: {number: 3306, protocol: TCP, name: db}
    bind: 127.0.0.1
    captureMode: NONE
    hosts: ["*/db.com"]
  - hosts: [./*]"""
    entry = istio(
        "ServiceEntry",
        "db",
        "  hosts: [db.com]\n  resolution: STATIC\n  endpoints: [{address: 10.7.7.7}]\n"
        "  ports: [{number: 3306, name: tcp, protocol: TCP}]",
        namespace="other",
    )
    found = compiled(A, entry, sidecar(spec), proxy=replace(SIDECAR, capture=Capture(network_namespace="/run/ns")))
    listener = found.listener("127.0.0.1_3306")
    assert listener["bind_to_port"] is True
    assert listener["address"]["socket_address"]["network_namespace_filepath"] == "/run/ns"
    outcome = call(found, "", 3306, to="127.0.0.1", arrival=Arrival.DIRECT, http=False)
    resource = found.resources.get(LISTENER, "127.0.0.1_3306")
    assert resource is not None
    assert "spec.egress[0]" in [origin.rule for origin in resource.origins], "whose listener it is"
    assert outcome.cluster == "outbound|3306||db.com"
    assert call(found, "", 3306, to="10.7.7.7", http=False).cluster == "PassthroughCluster"


def test_http_on_a_unix_socket_is_told_apart_by_host_and_port() -> None:
    spec = """
  egress:
  - port: {number: 0, protocol: HTTP, name: web}
    bind: unix:///run/web.sock
    hosts: [./*]"""
    found = compiled(service("c", "{name: http, port: 8080}"), A, sidecar(spec))
    listener = found.listener("unix:///run/web.sock")
    assert listener["address"] == {"pipe": {"path": "/run/web.sock"}}
    domains = {
        domain: host["name"]
        for host in found.table("unix:///run/web.sock")["virtual_hosts"]
        for domain in host["domains"]
    }
    assert domains["c"] == "c.default.svc.cluster.local:8080"
    assert domains["a.default.svc.cluster.local:80"] == domains["a"] == "a.default.svc.cluster.local:80"


def test_what_nobody_declared() -> None:
    closed = compiled(A, sidecar("  outboundTrafficPolicy: {mode: REGISTRY_ONLY}"))
    assert call(closed, "x.com").status == 502
    assert call(closed, "", 99, http=False).cluster == "BlackHoleCluster"
    opened = compiled(
        A,
        sidecar("  outboundTrafficPolicy: {mode: ALLOW_ANY}"),
        mesh_config="outboundTrafficPolicy: {mode: REGISTRY_ONLY}",
    )
    assert call(opened, "x.com").cluster == "PassthroughCluster"
    unsaid = compiled(
        A, sidecar("  egress: [{hosts: [./*]}]"), mesh_config="outboundTrafficPolicy: {mode: REGISTRY_ONLY}"
    )
    assert call(unsaid, "", 99, http=False).cluster == "BlackHoleCluster"


def test_an_egress_proxy_takes_what_nobody_declared() -> None:
    through = "{host: b.other.svc.cluster.local, port: {number: 80}}"
    policy = f"  outboundTrafficPolicy: {{mode: ALLOW_ANY, egressProxy: {through}}}"
    found = compiled(A, B, sidecar(policy))
    assert call(found, "x.com").cluster == "outbound|80||b.other.svc.cluster.local"
    assert call(found, "", 99, http=False).cluster == "outbound|80||b.other.svc.cluster.local"
    assert call(found, "a").cluster == "outbound|80||a.default.svc.cluster.local"


def test_ingress_listeners_are_all_that_is_known_of_a_workload() -> None:
    spec = "  ingress: [{port: {number: 9080, protocol: HTTP, name: web}, defaultEndpoint: '127.0.0.1:8080'}]"
    inbound = istio(
        "ServiceEntry",
        "own",
        "  hosts: [own.com]\n  location: MESH_INTERNAL\n  resolution: STATIC\n  endpoints: [{address: 1.1.1.1}]\n"
        "  ports: [{number: 70, name: tcp, protocol: TCP}]",
    )
    found = compiled(inbound, sidecar(spec))
    assert call(found, "x", 9080, to="1.1.1.1", arrival=Arrival.INBOUND).cluster == "inbound|9080||"
    assert call(found, "x", 70, to="1.1.1.1", arrival=Arrival.INBOUND).cluster == "InboundPassthroughCluster"
    (endpoint,) = call(found, "x", 9080, to="1.1.1.1", arrival=Arrival.INBOUND).endpoints
    assert endpoint.address == Address(ip="127.0.0.1", port=8080)


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("'[::1]:8080'", ("::1", 8080)),
        ("0.0.0.0:8080", ("1.1.1.1", 8080)),
        ("'[::]:8080'", ("1.1.1.1", 8080)),
        ("unix:///run/app.sock", ("/run/app.sock", 0)),
        ("", ("1.1.1.1", 9080)),
    ],
)
def test_where_the_application_is_called(endpoint: str, expected: tuple[str, int]) -> None:
    where = f", defaultEndpoint: {endpoint}" if endpoint else ""
    found = compiled(sidecar(f"  ingress: [{{port: {{number: 9080, protocol: HTTP, name: web}}{where}}}]"))
    (chosen,) = call(found, "x", 9080, to="1.1.1.1", arrival=Arrival.INBOUND).endpoints
    assert (chosen.address.ip, chosen.address.port) == expected


def test_an_ingress_listener_that_nothing_is_redirected_to_is_opened() -> None:
    spec = (
        "  ingress: [{port: {number: 9080, protocol: HTTP, name: web}, bind: 172.16.1.32, captureMode: NONE, "
        "defaultEndpoint: unix:///run/app.sock}]"
    )
    found = compiled(sidecar(spec))
    assert found.listener("172.16.1.32_9080").get("bind_to_port", True)
    outcome = call(found, "x", 9080, to="172.16.1.32", arrival=Arrival.DIRECT)
    assert (outcome.verdict, outcome.cluster) == (Verdict.SERVED, "inbound|9080||")


def test_limits_on_what_is_taken_in() -> None:
    spec = """
  inboundConnectionPool: {tcp: {maxConnections: 7}, http: {http1MaxPendingRequests: 8}}
  ingress:
  - port: {number: 80, protocol: HTTP, name: one}
  - port: {number: 81, protocol: HTTP, name: two}
    connectionPool: {http: {http2MaxRequests: 9}}"""
    found = compiled(sidecar(spec))
    (one,) = found.cluster("inbound|80||")["circuit_breakers"]["thresholds"]
    (two,) = found.cluster("inbound|81||")["circuit_breakers"]["thresholds"]
    assert (one["max_connections"], one["max_pending_requests"]) == (7, 8)
    assert (two["max_requests"], two["max_connections"]) == (9, 2**32 - 1), "a port's own takes the place of all of it"


@pytest.mark.parametrize(
    ("mode", "kind", "expected"),
    [
        ("DISABLE", "tls", "served"),
        ("DISABLE", "plain", "refused"),
        ("DISABLE", "mesh", "served"),  # no certificate is asked for: it is TLS like any other
        ("PERMISSIVE", "tls", "served"),
        ("PERMISSIVE", "plain", "served"),
        ("PERMISSIVE", "mesh", "served by mTLS"),
        ("STRICT", "tls", "refused"),
        ("STRICT", "mesh", "served by mTLS"),
    ],
)
def test_tls_from_outside_the_mesh(mode: str, kind: str, expected: str) -> None:
    tls = "tls: {mode: SIMPLE, serverCertificate: /c, privateKey: /k}"
    found = compiled(
        sidecar(f"  ingress: [{{port: {{number: 443, protocol: HTTPS, name: web}}, {tls}}}]"),
        istio("PeerAuthentication", "p", f"  mtls: {{mode: {mode}}}"),
    )
    offered = {
        "plain": None,
        "tls": Tls(server_name="x.com", alpn=("http/1.1",)),
        "mesh": Tls(alpn=("istio-http/1.1",), certificate=MESH_PEER),
    }[kind]
    outcome = call(found, "x.com", 443, to="1.1.1.1", arrival=Arrival.INBOUND, tls=offered)
    said = {Verdict.SERVED: "served", Verdict.REFUSED: "refused"}[outcome.verdict]
    assert said + (" by mTLS" if outcome.transport == "mtls" else "") == expected
    if said == "served":
        assert (outcome.protocol, outcome.cluster) == ("http", "inbound|443||")


def test_equal_sights_share_their_tables() -> None:
    memo = Memo()
    root = sidecar("  egress: [{hosts: [other/*]}]", "default", "istio-system")
    documents = (A, B, root)
    one = compiled(*documents, memo=memo).resources
    two = compiled(*documents, proxy=replace(SIDECAR, name="two", addresses=("1.1.1.2",)), memo=memo).resources
    three = compiled(*documents, proxy=replace(SIDECAR, namespace="third"), memo=memo).resources
    for type_url in (CLUSTER, ROUTE, LISTENER):
        assert one.of_type(type_url)[0] is two.of_type(type_url)[0]
        assert one.of_type(type_url)[0] is three.of_type(type_url)[0], "a namespace of its own changes nothing"


def test_a_service_that_is_not_seen_changes_nothing() -> None:
    memo = Memo()
    only = sidecar(ROOT_ONLY)
    before = compiled(A, only, memo=memo).resources
    after = compiled(A, B, only, memo=memo).resources
    for type_url in (CLUSTER, ROUTE, LISTENER):
        assert before.of_type(type_url)[0] is after.of_type(type_url)[0]


EXPLICIT = replace(
    SIDECAR,
    capture=Capture(
        mode=CaptureMode.EXPLICIT,
        address="127.0.0.9",
        http_proxy_port=18080,
        application_address="127.0.0.9",
        outbound_ports=FrozenMap({"a.default.svc.cluster.local:82": 20001, "b.other.svc.cluster.local:80": 20002}),
    ),
)


def test_without_redirection_listeners_are_opened_on_the_workloads_own_address() -> None:
    spec = """
  egress:
  - port: {number: 80, protocol: HTTP, name: web}
    hosts: [other/*]
  - hosts: [./*]"""
    found = compiled(A, B, sidecar(spec), proxy=EXPLICIT)
    assert (
        call(found, "b.other", to="127.0.0.9", arrival=Arrival.DIRECT).cluster
        == "outbound|80||b.other.svc.cluster.local"
    )
    assert call(found, "", 20001, to="127.0.0.9", arrival=Arrival.DIRECT, http=False).verdict is Verdict.UNAVAILABLE
    assert "127.0.0.9_20002" not in found.names(LISTENER), "b is not for the listener of all ports"


CASES = {
    "egress": (
        "  outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: a, port: {number: 80}}}\n"
        "  egress:\n"
        "  - {port: {number: 80, protocol: HTTP, name: h}, hosts: ['*/*']}\n"
        "  - {port: {number: 82, protocol: TCP, name: t}, bind: 127.0.0.1, captureMode: NONE, hosts: ['*/*']}\n"
        "  - {port: {number: 0, protocol: HTTP, name: u}, bind: 'unix://@x', hosts: ['*/*']}\n"
        "  - {hosts: [./*]}"
    ),
    "ingress": (
        "  inboundConnectionPool: {tcp: {maxConnections: 1, tcpKeepalive: {time: 5s}}, http: {idleTimeout: 3s}}\n"
        "  ingress:\n"
        "  - {port: {number: 80, protocol: HTTP, name: a}, defaultEndpoint: 'unix:///run/app.sock'}\n"
        "  - {port: {number: 81, protocol: GRPC, name: b}, defaultEndpoint: '0.0.0.0:8081', bind: 1.1.1.1}\n"
        "  - {port: {number: 82, protocol: TCP, name: c}, captureMode: NONE, bind: 127.0.0.1, "
        "defaultEndpoint: '[::1]:82', connectionPool: {tcp: {idleTimeout: 5s}}}\n"
        "  - {port: {number: 443, protocol: HTTPS, name: d}, "
        "tls: {mode: MUTUAL, serverCertificate: /c, privateKey: /k, caCertificates: /ca}}\n"
        "  - {port: {number: 444, protocol: TLS, name: e}, tls: {mode: SIMPLE, serverCertificate: /c, privateKey: /k}}"
    ),
}


@pytest.mark.envoy
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("mode", ["DISABLE", "PERMISSIVE", "STRICT"])
def test_envoy_takes_it(case: str, mode: str, envoy: Path, stub: Stub, tmp_path: Path) -> None:
    peer = istio("PeerAuthentication", "p", f"  mtls: {{mode: {mode}}}")
    found = compiled(A, B, sidecar(CASES[case]), peer)
    assert validated(envoy, found.resources, stub, tmp_path) == ""


def test_applications_that_listen_on_the_loopback_alone() -> None:
    inbound = istio(
        "ServiceEntry",
        "own",
        "  hosts: [own.com]\n  location: MESH_INTERNAL\n  resolution: STATIC\n  endpoints: [{address: 1.1.1.1}]\n"
        "  ports: [{number: 70, name: tcp, protocol: TCP}]",
    )
    for mode, address in (("LOCALHOST", "127.0.0.1"), ("PASSTHROUGH", "1.1.1.1")):
        found = compiled(inbound, mesh_config=f"inboundTrafficPolicy: {{mode: {mode}}}")
        (endpoint,) = call(found, "", 70, to="1.1.1.1", arrival=Arrival.INBOUND, http=False).endpoints
        assert endpoint.address == Address(ip=address, port=70)


def test_the_unix_sockets_of_a_host_are_nobodys_to_name() -> None:
    spec = """
  egress:
  - port: {number: 0, protocol: HTTP, name: web}
    bind: unix:///run/web.sock
    hosts: [./*]
  - hosts: [./*]
  ingress:
  - {port: {number: 80, protocol: HTTP, name: a}, defaultEndpoint: 'unix:///run/docker.sock'}"""
    found = compiled(A, sidecar(spec), proxy=replace(SIDECAR, binds_paths=False))
    assert "unix" not in str(found.names(LISTENER))
    assert "docker.sock" not in str(found.json())
    assert call(found, "x", 80, to="1.1.1.1", arrival=Arrival.INBOUND).verdict is Verdict.UNAVAILABLE
    assert call(found, "a").cluster == "outbound|80||a.default.svc.cluster.local"
