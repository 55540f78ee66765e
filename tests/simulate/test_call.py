"""Two proxies in a row: what the first sends is what the second gets."""

from __future__ import annotations

from gossamer.simulate.call import Call, Peer, simulate_call
from gossamer.simulate.outcome import EndpointChoice, Verdict
from gossamer.simulate.request import Address, Arrival, Certificate, Request, Tls
from gossamer.simulate.simulator import Simulator
from tests.simulate import build
from tests.simulate.build import (
    Json,
    captured,
    chain,
    direct,
    host,
    listener,
    manager,
    policy,
    rbac,
    table,
    tcp,
    to,
    typed,
)

CALLER = Certificate(uris=("spiffe://td/ns/a/sa/caller",))
SERVER = Certificate(uris=("spiffe://td/ns/a/sa/server",))


def upstream_tls(*sans: str) -> Json:
    matchers = [{"san_type": "URI", "matcher": {"exact": san}} for san in sans]
    context = typed(
        "extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        sni="outbound_.80_._.server",
        common_tls_context={
            "alpn_protocols": ["istio"],
            "tls_certificate_sds_secret_configs": [{"name": "default"}],
            "validation_context": {"match_typed_subject_alt_names": matchers},
        },
    )
    return {"name": "tls", "typed_config": context}


def caller(cluster: Json, *, http: bool = True) -> Peer:
    """A sidecar that sends everything to the cluster `server`."""
    last = manager(table(host("h", ["*"], [to("server", prefix_rewrite="/in/")]))) if http else tcp("server")
    resources = build.resources(
        listeners=[listener(15001, [chain([last])], "virtualOutbound", "0.0.0.0", use_original_dst=True)],
        clusters=[cluster],
    )
    return Peer(name="a/caller", simulator=Simulator(resources), identity=CALLER, address="10.0.0.9")


def callee(address: str = "0.0.0.0", port: int = 15006) -> Peer:
    """A sidecar that takes mutual TLS, lets the caller GET below /in, and serves."""
    tls = typed(
        "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        require_client_certificate=True,
        common_tls_context={"validation_context": {}},
    )
    allowed = policy(
        {"url_path": {"path": {"prefix": "/in/"}}},
        {"authenticated": {"principal_name": {"exact": CALLER.uris[0]}}},
    )
    http = manager(table(host("h", ["*"], [to("app")])), [rbac({"ns[a]-policy[p]-rule[0]": allowed}, "ALLOW")])
    mesh: Json = {"transport_socket": {"name": "tls", "typed_config": tls}}
    chains = [
        chain([http], {"transport_protocol": "tls", "application_protocols": ["istio"]}, "mesh", **mesh),
        chain([manager(table(host("h", ["*"], [direct("open")])))], {"transport_protocol": "raw_buffer"}, "open"),
        chain([tcp("app")], {"transport_protocol": "tls"}, "foreign"),
    ]
    filters = [build.inspector("tls"), build.inspector("original_dst")]
    resources = build.resources(
        listeners=[listener(port, chains, "virtualInbound", address, listener_filters=filters)],
        clusters=[build.static("app", build.ONE)],
    )
    return Peer(name="a/server", simulator=Simulator(resources), identity=SERVER, address="10.0.0.1")


def call(first: Peer, request: Request, second: Peer | None) -> Call:
    def peers(endpoint: EndpointChoice) -> Peer | None:
        return second

    return simulate_call(first, request, peers)


def test_identity_path_and_address_travel() -> None:
    cluster = build.static("server", build.ONE, transport_socket=upstream_tls(SERVER.uris[0]))
    found = call(caller(cluster), captured(80), callee())
    (hop,) = found.hops
    assert found.verdicts == ((Verdict.SERVED, 1.0),)
    assert hop.request is not None
    assert hop.request.http is not None
    assert (hop.request.arrival, str(hop.request.destination), hop.request.source.ip) == (
        Arrival.INBOUND,
        "10.0.0.1:80",
        "10.0.0.9",
    )
    assert hop.request.http.path == "/in/"
    assert hop.request.tls == Tls(server_name="outbound_.80_._.server", alpn=("istio",), certificate=CALLER)
    assert hop.outcome is not None
    assert (hop.outcome.transport, hop.outcome.filter_chain) == ("mtls", "mesh")


def test_without_mutual_tls_nobody_is_anybody() -> None:
    found = call(caller(build.static("server", build.ONE)), captured(80), callee())
    assert found.hops[0].outcome is not None
    assert (found.hops[0].outcome.filter_chain, found.hops[0].outcome.transport) == ("open", "plaintext")


def test_a_server_of_another_name_is_not_believed() -> None:
    cluster = build.static("server", build.ONE, transport_socket=upstream_tls("spiffe://td/ns/a/sa/other"))
    found = call(caller(cluster), captured(80), callee())
    assert found.verdicts == ((Verdict.UNAVAILABLE, 1.0),)
    assert "accepts only spiffe://td/ns/a/sa/other" in found.hops[0].reason
    assert found.hops[0].outcome is None


def test_the_clients_own_tls_passes_unopened() -> None:
    request = captured(443, tls=Tls(server_name="x.example", alpn=("h2",)))
    found = call(caller(build.static("server", build.ONE), http=False), request, callee())
    (hop,) = found.hops
    assert hop.request is not None
    assert hop.request.tls == request.tls
    assert hop.outcome is not None
    assert (hop.outcome.filter_chain, hop.outcome.transport) == ("foreign", "tls passthrough")


def test_inside_the_meshs_tls_nothing_of_the_clients_is_seen() -> None:
    cluster = build.static("server", build.ONE, transport_socket=upstream_tls())
    request = captured(443, tls=Tls(server_name="x.example"))
    found = call(caller(cluster, http=False), request, callee())
    assert found.hops[0].request is not None
    assert found.hops[0].request.http is None
    assert found.hops[0].verdict is Verdict.BAD_REQUEST  # a chain that reads HTTP gets TLS records


def test_an_address_that_is_listened_on_is_dialled() -> None:
    cluster = build.static("server", build.ONE, transport_socket=upstream_tls())
    found = call(caller(cluster), captured(80), callee("10.0.0.1", 80))
    assert found.hops[0].request is not None
    assert found.hops[0].request.arrival is Arrival.DIRECT
    assert found.hops[0].verdict is Verdict.SERVED


def test_nobody_of_the_mesh_is_there() -> None:
    found = call(caller(build.static("server", build.ONE)), captured(80), None)
    assert found.verdicts == ((Verdict.SERVED, 1.0),)
    assert (found.hops[0].name, found.hops[0].outcome) == ("", None)


def test_a_call_that_does_not_leave_has_no_second_hop() -> None:
    found = call(caller(build.static("server", [])), captured(80), callee())
    assert (found.verdicts, found.hops) == (((Verdict.UNAVAILABLE, 1.0),), ())


def test_endpoints_may_differ() -> None:
    """Two endpoints, one of them without TLS: the first is let in, the second is answered by the open chain."""
    marked = {"filter_metadata": {"envoy.transport_socket_match": {"tlsMode": "istio"}}}
    places = [
        build.endpoint("10.0.0.1", 80, metadata=marked, load_balancing_weight=3),
        build.endpoint("10.0.0.2", 80),
    ]
    matches = [{"name": "mesh", "match": {"tlsMode": "istio"}, "transport_socket": upstream_tls()}]
    found = call(caller(build.static("server", places, transport_socket_matches=matches)), captured(80), callee())
    assert [(verdict, share) for verdict, share in found.verdicts] == [(Verdict.SERVED, 0.75), (Verdict.ANSWERED, 0.25)]
    assert {str(hop.endpoint.address) for hop in found.hops} == {"10.0.0.1:80", "10.0.0.2:80"}
    assert found.hops[0].endpoint.address == Address(ip="10.0.0.1", port=80)


def egress() -> Peer:
    """A gateway that sends all that comes to port 80 to the cluster `outside`."""
    last = manager(table(host("h", ["*"], [to("outside")])))
    resources = build.resources(
        listeners=[listener(80, [chain([last])], "0.0.0.0_80", "0.0.0.0")],
        clusters=[build.static("outside", [build.endpoint("9.9.9.9", 80)])],
    )
    gateway = Certificate(uris=("spiffe://td/ns/a/sa/egress",))
    return Peer(name="a/egress", simulator=Simulator(resources), identity=gateway, address="10.0.0.1", gateway=True)


def test_a_gateway_sends_it_further() -> None:
    def peers(endpoint: EndpointChoice) -> Peer | None:
        return egress() if endpoint.address.ip == "10.0.0.1" else None

    found = simulate_call(caller(build.static("server", build.ONE)), captured(80), peers)
    (hop,) = found.hops
    assert hop.gateway
    assert hop.request is not None
    assert hop.request.arrival is Arrival.DIRECT
    (last,) = hop.hops
    assert (last.endpoint.address.ip, last.outcome) == ("9.9.9.9", None)
    assert [(leaf.endpoint.address.ip, share) for leaf, share in found.leaves()] == [("9.9.9.9", 1.0)]
    assert found.verdicts == ((Verdict.SERVED, 1.0),)


def test_gateways_in_a_ring_end() -> None:
    found = simulate_call(caller(build.static("server", build.ONE)), captured(80), lambda _: egress())
    assert found.verdicts == ((Verdict.SERVED, 1.0),)
