"""Clusters and their endpoints as Envoy is told them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gossamer.core.resources import CLUSTER, ENDPOINT, Reference
from gossamer.model.service import Health
from tests.compile.compiled import GATEWAY, Compiled, compiled, istio, service, workload

HOST = "reviews.default.svc.cluster.local"
NAME = f"outbound|80||{HOST}"
RULES = """
  host: reviews
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
"""


def with_policy(policy: str) -> dict[str, Any]:
    rule = istio("DestinationRule", "reviews", f"  host: reviews\n  trafficPolicy: {policy}")
    return compiled(service("reviews"), rule).cluster(NAME)


def http_options(cluster: dict[str, Any]) -> dict[str, Any]:
    (options,) = cluster["typed_extension_protocol_options"].values()
    return {key: value for key, value in options.items() if key != "@type"}


def tls_of(socket: dict[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = socket["typed_config"]
    return config


def test_a_service_without_policy() -> None:
    found = compiled(service("reviews"))
    cluster = found.cluster(NAME)
    assert cluster["type"] == "EDS"
    assert cluster["lb_policy"] == "LEAST_REQUEST"
    assert cluster["connect_timeout"] == "10s"
    (thresholds,) = cluster["circuit_breakers"]["thresholds"]
    assert {thresholds[key] for key in ("max_connections", "max_pending_requests", "max_requests", "max_retries")} == {
        4294967295
    }
    assert "http_protocol_options" in http_options(cluster)["explicit_http_config"]
    resource = found.resources.get(CLUSTER, NAME)
    assert resource is not None
    assert resource.references == frozenset({Reference(type_url=ENDPOINT, name=NAME)})
    assert [str(origin) for origin in resource.origins] == ["Service default/reviews"]


@pytest.mark.parametrize(
    ("port", "expected"),
    [
        ("{name: http, port: 80}", ["explicit_http_config.http_protocol_options"]),
        ("{name: grpc, port: 80}", ["explicit_http_config.http2_protocol_options"]),
        ("{name: auto, port: 80}", ["use_downstream_protocol_config.http2_protocol_options"]),
    ],
)
def test_the_protocol_decides_how_http_is_spoken(port: str, expected: list[str]) -> None:
    options = http_options(compiled(service("reviews", port)).cluster(NAME))
    for path in expected:
        level: Any = options
        for key in path.split("."):
            level = level[key]


def test_tcp_has_no_http_options() -> None:
    assert "typed_extension_protocol_options" not in compiled(service("reviews", "{name: tcp, port: 80}")).cluster(NAME)


def test_auto_mtls_asks_each_endpoint_and_names_who_may_answer() -> None:
    members = (workload("r1", app="reviews"), replace(workload("r2", app="reviews", address="10.0.0.2"), tls=False))
    found = compiled(service("reviews"), registrations=members)
    mutual, plain = found.cluster(NAME)["transport_socket_matches"]
    assert mutual["match"] == {"tlsMode": "istio"}
    assert plain["match"] == {}
    context = tls_of(mutual["transport_socket"])
    assert context["sni"] == f"outbound_.80_._.{HOST}"
    validation = context["common_tls_context"]["combined_validation_context"]["default_validation_context"]
    (name,) = validation["match_typed_subject_alt_names"]
    assert name["matcher"]["exact"] == "spiffe://cluster.local/ns/default/sa/reviews"
    (group,) = found.assignment(NAME)["endpoints"]
    assert [entry.get("metadata") for entry in group["lb_endpoints"]] == [
        None,
        {"filter_metadata": {"envoy.transport_socket_match": {"tlsMode": "istio"}}},
    ]


def test_external_services_are_called_as_they_are() -> None:
    spec = "  hosts: [a.com]\n  location: MESH_EXTERNAL\n  resolution: DNS"
    spec += "\n  ports: [{number: 80, name: http, protocol: HTTP}]"
    cluster = compiled(istio("ServiceEntry", "a", spec)).cluster("outbound|80||a.com")
    assert "transport_socket_matches" not in cluster
    assert "transport_socket" not in cluster
    assert cluster["type"] == "STRICT_DNS"
    address = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]
    assert address == {"address": "a.com", "port_value": 80}


def test_tls_of_a_destination_rule() -> None:
    assert "transport_socket" not in with_policy("{tls: {mode: DISABLE}}")
    mutual = with_policy("{tls: {mode: ISTIO_MUTUAL}}")
    assert tls_of(mutual["transport_socket"])["sni"] == f"outbound_.80_._.{HOST}"
    assert "transport_socket_matches" not in mutual
    simple = tls_of(with_policy("{tls: {mode: SIMPLE, sni: x.com}}")["transport_socket"])
    assert simple["sni"] == "x.com"
    assert "tls_certificate_sds_secret_configs" not in simple["common_tls_context"]


def test_subsets_have_clusters_and_endpoints_of_their_own() -> None:
    members = tuple(workload(f"r{v}", app="reviews", version=f"v{v}", address=f"10.0.0.{v}") for v in (1, 2))
    found = compiled(service("reviews"), istio("DestinationRule", "reviews", RULES), registrations=members)
    for version in ("v1", "v2"):
        name = f"outbound|80|{version}|{HOST}"
        assert found.cluster(name)["type"] == "EDS"
        (group,) = found.assignment(name)["endpoints"]
        (member,) = group["lb_endpoints"]
        assert member["endpoint"]["address"]["socket_address"]["address"] == f"10.0.0.{version[1]}"
    assert len(found.assignment(NAME)["endpoints"][0]["lb_endpoints"]) == 2


@pytest.mark.parametrize(
    ("balancer", "expected"),
    [
        ("{simple: RANDOM}", "RANDOM"),
        ("{simple: ROUND_ROBIN}", None),  # Envoy's default, not shown in JSON
        ("{simple: LEAST_CONN}", "LEAST_REQUEST"),
        ("{consistentHash: {httpHeaderName: x}}", "RING_HASH"),
        ("{consistentHash: {useSourceIp: true, maglev: {tableSize: 307}}}", "MAGLEV"),
    ],
)
def test_load_balancers(balancer: str, expected: str | None) -> None:
    assert with_policy(f"{{loadBalancer: {balancer}}}").get("lb_policy") == expected


def test_connection_pools() -> None:
    cluster = with_policy(
        "{connectionPool: {tcp: {maxConnections: 5, connectTimeout: 250ms, tcpKeepalive: {time: 60s, probes: 3}}, "
        "http: {http1MaxPendingRequests: 1, http2MaxRequests: 2, maxRetries: 3, maxRequestsPerConnection: 4, "
        "idleTimeout: 9s, h2UpgradePolicy: UPGRADE}}}"
    )
    (limits,) = cluster["circuit_breakers"]["thresholds"]
    assert [limits[key] for key in ("max_connections", "max_pending_requests", "max_requests", "max_retries")] == [
        *(5, 1, 2, 3)
    ]
    assert cluster["connect_timeout"] == "0.250s"
    assert cluster["upstream_connection_options"]["tcp_keepalive"] == {"keepalive_probes": 3, "keepalive_time": 60}
    options = http_options(cluster)
    assert options["common_http_protocol_options"] == {"idle_timeout": "9s", "max_requests_per_connection": 4}
    assert "http2_protocol_options" in options["explicit_http_config"]


def test_outlier_detection() -> None:
    cluster = with_policy(
        "{outlierDetection: {consecutive5xxErrors: 3, consecutiveGatewayErrors: 0, interval: 1s, baseEjectionTime: 3m, "
        "maxEjectionPercent: 100, minHealthPercent: 40}}"
    )
    detection = cluster["outlier_detection"]
    assert detection["consecutive_5xx"] == 3
    assert detection["enforcing_consecutive_5xx"] == 100
    assert detection["enforcing_consecutive_gateway_failure"] == 0
    assert detection["base_ejection_time"] == "180s"
    assert cluster["common_lb_config"]["healthy_panic_threshold"]["value"] == 40.0


def test_health_weights_and_localities_of_endpoints() -> None:
    members = (
        replace(workload("r1", app="reviews", address="10.0.0.1"), locality="a/b/c", weight=4),
        replace(workload("r2", app="reviews", address="10.0.0.2"), locality="a/b/c", health=Health.UNHEALTHY),
        replace(workload("r3", app="reviews", address="10.0.0.3"), locality="x", health=Health.DRAINING),
        replace(workload("r4", app="reviews", address="10.0.0.4"), locality="x", health=Health.UNREADY),
    )
    near, far = compiled(service("reviews"), registrations=members).assignment(NAME)["endpoints"]
    assert near["locality"] == {"region": "a", "zone": "b", "sub_zone": "c"}
    assert near["load_balancing_weight"] == 5
    assert [entry.get("health_status") for entry in near["lb_endpoints"]] == [None, "UNHEALTHY"]
    assert [entry["health_status"] for entry in far["lb_endpoints"]] == ["DRAINING"], (
        "one that is not ready is not told"
    )


NONE = "  hosts: [a.com]\n  resolution: NONE\n  ports: [{number: 80, name: tcp, protocol: TCP}]"


def test_a_service_of_its_callers_addresses() -> None:
    document = istio("ServiceEntry", "a", NONE)

    def kind(found: Compiled) -> str:
        return str(found.cluster("outbound|80||a.com")["type"])

    assert kind(compiled(document)) == "ORIGINAL_DST"
    assert kind(compiled(document, proxy=GATEWAY)) == "EDS", "a gateway's callers dialled the gateway"


def test_an_alias_and_a_udp_port_have_no_cluster() -> None:
    found = compiled(
        service("alias", extra="type: ExternalName\n  externalName: a.com"),
        service("dns", "{name: dns, port: 53, protocol: UDP}"),
    )
    assert [name for name in found.names(CLUSTER) if name.startswith("outbound")] == []
