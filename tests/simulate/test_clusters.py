"""Which endpoints get a request, how often, and over which TLS."""

from __future__ import annotations

import pytest
from envoy.extensions.load_balancing_policies.round_robin.v3 import round_robin_pb2 as _round_robin  # noqa: F401
from envoy.extensions.load_balancing_policies.wrr_locality.v3 import wrr_locality_pb2 as _wrr_locality  # noqa: F401
from hypothesis import given
from hypothesis import strategies as st

from gossamer.simulate.outcome import Outcome, UpstreamTls, Verdict
from gossamer.simulate.request import Tls
from gossamer.simulate.simulator import simulate
from tests.simulate import build
from tests.simulate.build import Json, ask, captured, chain, endpoint, host, listener, serving, table, tcp, to, typed

UPSTREAM_TLS = "extensions.transport_sockets.tls.v3.UpstreamTlsContext"
HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
Place = dict[str, object]


def shares(outcome: Outcome) -> dict[str, float]:
    return {choice.address.ip: choice.share for choice in outcome.endpoints}


def place(ip: str, **more: object) -> Json:
    return endpoint(ip, 80, **more)


def through(cluster: Json, route: Json | None = None, endpoints: list[Json] | None = None) -> Outcome:
    """A request that is routed to this cluster."""
    resources = build.resources(
        listeners=[listener(80, [chain([build.manager(table(host("h", ["*"], [route or to("a")])))])])],
        clusters=[cluster],
        endpoints=endpoints,
    )
    return ask(resources)


def eds(groups: list[Json], **policy: object) -> list[Json]:
    return [{"cluster_name": "a", "endpoints": groups, "policy": policy}]


EDS: Json = {"name": "a", "type": "EDS", "eds_cluster_config": {"eds_config": {"ads": {}}}}


def test_endpoints_come_by_eds() -> None:
    assert through(EDS, endpoints=eds([{"lb_endpoints": [place("10.0.0.1")]}])).verdict is Verdict.SERVED
    for endpoints in (None, eds([])):
        outcome = through(EDS, endpoints=endpoints)
        assert (outcome.verdict, outcome.status, outcome.flag) == (Verdict.UNAVAILABLE, 503, "UH")


def test_a_cluster_may_name_its_endpoints_differently() -> None:
    cluster: Json = {**EDS, "eds_cluster_config": {"service_name": "other", "eds_config": {"ads": {}}}}
    endpoints = [{"cluster_name": "other", "endpoints": [{"lb_endpoints": [place("10.0.0.1")]}]}]
    assert shares(through(cluster, endpoints=endpoints)) == {"10.0.0.1": 1.0}


def test_weights_of_endpoints_and_their_health() -> None:
    group: Json = {
        "lb_endpoints": [
            place("10.0.0.1", load_balancing_weight=3),
            place("10.0.0.2"),
            place("10.0.0.3", health_status="UNHEALTHY"),
            place("10.0.0.4", health_status="DRAINING"),
        ]
    }
    calm: Json = {**EDS, "common_lb_config": {"healthy_panic_threshold": {"value": 0}}}
    assert shares(through(calm, endpoints=eds([group]))) == {"10.0.0.1": 0.75, "10.0.0.2": 0.25}
    nobody = [{"lb_endpoints": [place("10.0.0.3", health_status="UNHEALTHY")]}]
    assert through(calm, endpoints=eds(nobody)).flag == "UH"
    assert shares(through(EDS, endpoints=eds(nobody))) == {"10.0.0.3": 1.0}  # in a panic anyone will do


@pytest.mark.parametrize(
    ("healthy", "expected"),
    [(10, {0: 1.0}), (8, {0: 1.0}), (5, {0: 0.7, 1: 0.3}), (0, {1: 1.0})],
)
def test_load_spills_to_the_next_priority(healthy: int, expected: dict[int, float]) -> None:
    first = [place(f"10.0.0.{n}", health_status="HEALTHY" if n < healthy else "UNHEALTHY") for n in range(10)]
    groups = [{"priority": 0, "lb_endpoints": first}, {"priority": 1, "lb_endpoints": [place("10.0.1.1")]}]
    outcome = through(EDS, endpoints=eds(groups))
    found: dict[int, float] = {}
    for choice in outcome.endpoints:
        found[choice.priority] = found.get(choice.priority, 0) + choice.share
    assert {priority: round(share, 3) for priority, share in found.items()} == expected


def test_localities_with_weights() -> None:
    cluster: Json = {**EDS, "common_lb_config": {"locality_weighted_lb_config": {}}}
    groups = [
        {
            "locality": {"region": "a"},
            "load_balancing_weight": 80,
            "lb_endpoints": [place("10.0.0.1"), place("10.0.0.2")],
        },
        {"locality": {"region": "b", "zone": "z"}, "load_balancing_weight": 20, "lb_endpoints": [place("10.0.0.3")]},
    ]
    outcome = through(cluster, endpoints=eds(groups))
    assert shares(outcome) == {"10.0.0.1": 0.4, "10.0.0.2": 0.4, "10.0.0.3": 0.2}
    assert [choice.locality for choice in outcome.endpoints] == ["a", "a", "b/z"]


def test_subsets() -> None:
    def version(text: str) -> Json:
        return {"filter_metadata": {"envoy.lb": {"version": text}}}

    cluster: Json = {**EDS, "lb_subset_config": {"subset_selectors": [{"keys": ["version"]}]}}
    endpoints = eds(
        [{"lb_endpoints": [place("10.0.0.1", metadata=version("v1")), place("10.0.0.2", metadata=version("v2"))]}]
    )
    assert shares(through(cluster, to("a", metadata_match=version("v2")), endpoints)) == {"10.0.0.2": 1.0}
    assert through(cluster, to("a", metadata_match=version("v3")), endpoints).flag == "UH"
    assert len(through(cluster, endpoints=endpoints).endpoints) == 2


def test_the_original_destination() -> None:
    cluster: Json = {"name": "any", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED"}
    capture = listener(15001, [chain([tcp("any")])], "virtualOutbound", "0.0.0.0", use_original_dst=True)
    outcome = simulate(build.resources(listeners=[capture], clusters=[cluster]), captured(4444, "192.0.2.9"))
    assert [str(choice.address) for choice in outcome.endpoints] == ["192.0.2.9:4444"]
    moved = {**cluster, "original_dst_lb_config": {"upstream_port_override": 15008}}
    outcome = simulate(build.resources(listeners=[capture], clusters=[moved]), captured(4444, "192.0.2.9"))
    assert [str(choice.address) for choice in outcome.endpoints] == ["192.0.2.9:15008"]


def test_the_host_that_the_request_names() -> None:
    kind = typed("extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig", dns_cache_config={"name": "d"})
    cluster: Json = {
        "name": "a",
        "lb_policy": "CLUSTER_PROVIDED",
        "cluster_type": {"name": "dfp", "typed_config": kind},
    }
    assert [str(choice.address) for choice in through(cluster).endpoints] == ["a.example:80"]


def test_tls_of_the_cluster() -> None:
    context = typed(
        UPSTREAM_TLS,
        sni="outbound_.80_._.a",
        common_tls_context={
            "alpn_protocols": ["istio"],
            "tls_certificate_sds_secret_configs": [{"name": "default"}],
            "combined_validation_context": {
                "default_validation_context": {
                    "match_typed_subject_alt_names": [
                        {"san_type": "URI", "matcher": {"exact": "spiffe://td/ns/a/sa/b"}},
                        {"san_type": "URI", "matcher": {"prefix": "spiffe://td/ns/c/"}},
                    ]
                },
                "validation_context_sds_secret_config": {"name": "ROOTCA"},
            },
        },
    )
    mesh = {"name": "tls", "typed_config": context}
    expected = UpstreamTls(
        mutual=True,
        server_name="outbound_.80_._.a",
        alpn=("istio",),
        subject_alt_names=("spiffe://td/ns/a/sa/b", "spiffe://td/ns/c/*"),
    )
    assert through(build.static("a", build.ONE, transport_socket=mesh)).endpoints[0].tls == expected
    by_endpoint: Json = {
        "transport_socket_matches": [
            {"name": "mesh", "match": {"tlsMode": "istio"}, "transport_socket": mesh},
            {"name": "plain", "match": {}, "transport_socket": {"name": "raw"}},
        ]
    }
    marked = {"filter_metadata": {"envoy.transport_socket_match": {"tlsMode": "istio"}}}
    places = [place("10.0.0.1", metadata=marked), place("10.0.0.2")]
    outcome = through(build.static("a", places, **by_endpoint))
    assert [choice.tls for choice in outcome.endpoints] == [expected, None]


def test_server_name_and_protocol_by_the_request() -> None:
    simple = {"name": "tls", "typed_config": typed(UPSTREAM_TLS, common_tls_context={})}
    options = typed(
        "extensions.upstreams.http.v3.HttpProtocolOptions",
        upstream_http_protocol_options={"auto_sni": True},
        explicit_http_config={"http2_protocol_options": {}},
    )
    more: Json = {"transport_socket": simple, "typed_extension_protocol_options": {HTTP_OPTIONS: options}}
    outcome = through(build.static("a", build.ONE, **more))
    assert outcome.endpoints[0].tls == UpstreamTls(mutual=False, server_name="a.example")
    assert outcome.forwarded is not None
    assert outcome.forwarded.http2


def test_the_filter_state_that_overrides_alpn() -> None:
    state = {
        "object_key": "envoy.network.application_protocols",
        "format_string": {"text_format_source": {"inline_string": "istio-http/1.1,istio-h2"}},
        "shared_with_upstream": "ONCE",
    }
    mark = {
        "name": "mark",
        "typed_config": typed("extensions.filters.http.set_filter_state.v3.Config", on_request_headers=[state]),
    }
    socket = {"name": "tls", "typed_config": typed(UPSTREAM_TLS, common_tls_context={"alpn_protocols": ["istio"]})}
    cluster = build.static("a", build.ONE, transport_socket=socket)
    off = {"mark": typed("config.route.v3.FilterConfig", disabled=True)}
    routes = [to("a", {"prefix": "/on"}), {**to("a"), "typed_per_filter_config": off}]
    resources = serving(table(host("h", ["*"], routes)), [mark], [cluster])
    for path, alpn in (("/on", ("istio-http/1.1", "istio-h2")), ("/off", ("istio",))):
        tls = ask(resources, path).endpoints[0].tls
        assert tls is not None
        assert tls.alpn == alpn


def test_tls_passes_through_a_tunnel() -> None:
    resources = build.resources(listeners=[listener(80, [chain([tcp("a")])])], clusters=[build.static("a", build.ONE)])
    outcome = ask(resources, tls=Tls(server_name="a.example"))
    assert (outcome.verdict, outcome.transport, outcome.protocol) == (Verdict.SERVED, "tls passthrough", "tcp")


PLACES = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.integers(1, 5),
        st.sampled_from(["HEALTHY", "UNKNOWN", "UNHEALTHY", "DEGRADED", "DRAINING", "TIMEOUT"]),
    ),
    max_size=8,
)


@given(PLACES, st.sampled_from([0, 50, 100]), st.booleans())
def test_shares_add_up(places: list[tuple[int, int, str]], threshold: int, weighted: bool) -> None:
    groups = [
        {
            "priority": priority,
            "load_balancing_weight": weight,
            "lb_endpoints": [place(f"10.0.0.{number}", health_status=health, load_balancing_weight=weight)],
        }
        for number, (priority, weight, health) in enumerate(places)
    ]
    common: Json = {"healthy_panic_threshold": {"value": threshold}}
    common |= {"locality_weighted_lb_config": {}} if weighted else {}
    outcome = through({**EDS, "common_lb_config": common}, endpoints=eds(groups))
    assert sum(choice.share for choice in outcome.endpoints) == pytest.approx(1 if outcome.endpoints else 0, abs=1e-4)
    assert bool(outcome.endpoints) == (outcome.verdict is Verdict.SERVED)
    if any(health in ("HEALTHY", "UNKNOWN") for _, _, health in places):
        assert outcome.endpoints


WEIGHTED: Json = {**EDS, "common_lb_config": {"locality_weighted_lb_config": {}, "healthy_panic_threshold": {}}}


def test_a_locality_without_weight_gets_what_is_left_when_nobody_else_is_well() -> None:
    near: Json = {"locality": {"zone": "a"}, "load_balancing_weight": 5, "lb_endpoints": [place("10.0.0.1")]}
    far: Json = {"locality": {"zone": "b"}, "lb_endpoints": [place("10.0.0.2")]}
    assert shares(through(WEIGHTED, endpoints=eds([near, far]))) == {"10.0.0.1": 1.0}
    lost: Json = {**near, "lb_endpoints": [place("10.0.0.1", health_status="UNHEALTHY")]}
    assert shares(through(WEIGHTED, endpoints=eds([lost, far]))) == {"10.0.0.2": 1.0}


def test_a_policy_may_weigh_localities_too() -> None:
    child = typed("extensions.load_balancing_policies.round_robin.v3.RoundRobin")
    config = {
        **typed("extensions.load_balancing_policies.wrr_locality.v3.WrrLocality"),
        "endpoint_picking_policy": {"policies": [{"typed_extension_config": {"name": "x", "typed_config": child}}]},
    }
    policies = [{"typed_extension_config": {"name": "y", "typed_config": config}}]
    cluster: Json = {**EDS, "load_balancing_policy": {"policies": policies}}
    groups: list[Json] = [
        {"locality": {"zone": zone}, "load_balancing_weight": weight, "lb_endpoints": [place(ip)]}
        for zone, weight, ip in (("a", 3, "10.0.0.1"), ("b", 1, "10.0.0.2"))
    ]
    assert shares(through(cluster, endpoints=eds(groups))) == {"10.0.0.1": 0.75, "10.0.0.2": 0.25}


def test_tls_inside_the_proxy_protocol() -> None:
    tls = {"name": "tls", "typed_config": {**typed(UPSTREAM_TLS), "sni": "s.example"}}
    wrapped = {
        **typed("extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport"),
        "transport_socket": tls,
    }
    cluster: Json = {**EDS, "transport_socket": {"name": "proxy", "typed_config": wrapped}}
    (choice,) = through(cluster, endpoints=eds([{"lb_endpoints": [place("10.0.0.1")]}])).endpoints
    assert choice.tls is not None
    assert choice.tls.server_name == "s.example"
