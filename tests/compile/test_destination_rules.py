"""DestinationRules as Envoy is told them: each family of settings, and a real Envoy that takes them all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gossamer.compile.static import Stub
from gossamer.core.frozen import FrozenMap
from gossamer.core.memo import Memo
from gossamer.core.resources import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET
from gossamer.model.proxy import Proxy
from gossamer.model.service import Workload
from tests.compile.compiled import GATEWAY, SIDECAR, Compiled, compiled, istio, service, workload
from tests.compile.validated import validated

HOST = "reviews.default.svc.cluster.local"
NAME = f"outbound|80||{HOST}"
TCP = "{name: tcp, port: 80}"
SECRET_DOCUMENT = """
apiVersion: v1
kind: Secret
metadata: {name: c, namespace: NAMESPACE}
stringData: {cert: CERT, key: KEY, cacert: CA}
"""


def rule(policy: str, more: str = "", *, metadata: str = "") -> str:
    spec = f"  host: reviews\n  trafficPolicy: {policy}\n{more}"
    return istio("DestinationRule", "reviews", spec, metadata=metadata)


def told(
    policy: str, more: str = "", *, port: str = "{name: http, port: 80}", proxy: Proxy = SIDECAR, mesh: str = ""
) -> Compiled:
    return compiled(service("reviews", port), rule(policy, more), proxy=proxy, mesh_config=mesh)


def cluster(policy: str, more: str = "", *, port: str = "{name: http, port: 80}") -> dict[str, Any]:
    return told(policy, more, port=port).cluster(NAME)


def options(found: dict[str, Any]) -> dict[str, Any]:
    (value,) = found["typed_extension_protocol_options"].values()
    return dict(value)


PROXY_PROTOCOL = "envoy.transport_sockets.upstream_proxy_protocol"


def test_proxy_protocol_wraps_what_is_no_sidecar() -> None:
    mesh, plain = cluster("{proxyProtocol: {version: V2}}")["transport_socket_matches"]
    assert mesh["transport_socket"]["name"] == "envoy.transport_sockets.tls", "a sidecar reads no PROXY header"
    assert plain["transport_socket"]["name"] == PROXY_PROTOCOL
    assert plain["transport_socket"]["typed_config"]["config"] == {"version": "V2"}
    simple = cluster("{tls: {mode: SIMPLE}, proxyProtocol: {}}")["transport_socket"]
    assert (simple["name"], simple["typed_config"]["transport_socket"]["name"]) == (
        PROXY_PROTOCOL,
        "envoy.transport_sockets.tls",
    )
    off = cluster("{tls: {mode: DISABLE}, proxyProtocol: {version: V1}}")["transport_socket"]
    assert off["typed_config"]["transport_socket"]["name"] == "envoy.transport_sockets.raw_buffer"


def tcp_proxy(found: Compiled) -> dict[str, Any]:
    (listener,) = (item for item in found.json()["listeners"] if item["name"] == "0.0.0.0_80")
    for chain in (*listener.get("filter_chains", ()), listener["default_filter_chain"]):
        for item in chain["filters"]:
            config: dict[str, Any] = item["typed_config"]
            if config.get("cluster") == NAME:
                return config
    raise AssertionError("no TCP proxy to the service")


def test_tcp_goes_through_a_tunnel() -> None:
    policy = "{tunnel: {protocol: POST, targetHost: far.example, targetPort: 443}}"
    found = told(policy, port=TCP)
    assert tcp_proxy(found)["tunneling_config"] == {"hostname": "far.example:443", "use_post": True}
    assert "http_protocol_options" in options(found.cluster(NAME))["explicit_http_config"]
    upgraded = "{tunnel: {targetHost: a, targetPort: 1}, connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}"
    found = told(upgraded, port=TCP)
    assert tcp_proxy(found)["tunneling_config"] == {"hostname": "a:1"}
    assert "http2_protocol_options" in options(found.cluster(NAME))["explicit_http_config"]


def test_connections_live_as_long_as_they_may() -> None:
    pool = "{connectionPool: {tcp: {idleTimeout: 0s, maxConnectionDuration: 90s}}}"
    found = tcp_proxy(told(pool, port=TCP))
    assert (found["idle_timeout"], found["max_downstream_connection_duration"]) == ("0s", "90s")
    assert options(cluster(pool))["common_http_protocol_options"] == {"max_connection_duration": "90s"}


def test_retry_budgets() -> None:
    found = cluster("{retryBudget: {percent: 5, minRetryConcurrency: 7, budgetInterval: 3s}}")
    (limits,) = found["circuit_breakers"]["thresholds"]
    assert limits["retry_budget"] == {"budget_percent": {"value": 5.0}, "min_retry_concurrency": 7}
    (limits,) = cluster("{retryBudget: {}}")["circuit_breakers"]["thresholds"]
    assert limits["retry_budget"] == {"budget_percent": {"value": 20.0}, "min_retry_concurrency": 3}


def test_what_counts_as_an_error() -> None:
    found = cluster("{outlierDetection: {outlierDetectionHttpErrorCodes: [429, 500]}}")
    matched = options(found)["outlier_detection"]["error_matcher"]["or_match"]["rules"]
    statuses = [part["http_response_headers_match"]["headers"][0] for part in matched]
    assert [(one["name"], one["string_match"]) for one in statuses] == [
        *((":status", {"exact": "429"}), (":status", {"exact": "500"})),
    ]
    one = cluster("{outlierDetection: {outlierDetectionHttpErrorCodes: [429]}}")
    assert "http_response_headers_match" in options(one)["outlier_detection"]["error_matcher"]
    split = cluster("{outlierDetection: {splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 2}}")
    detection = split["outlier_detection"]
    assert (detection["split_external_local_origin_errors"], detection["consecutive_local_origin_failure"]) == (True, 2)
    old = cluster("{outlierDetection: {consecutiveErrors: 4}}")["outlier_detection"]
    assert (old["consecutive_gateway_failure"], old["enforcing_consecutive_gateway_failure"]) == (4, 100)


UTILIZATION = """{loadBalancer: {backendUtilization: {errorUtilizationPenaltyPercent: 150,
  metricNamesForComputingUtilization: [named_metrics.queue], weightExpirationPeriod: 1m,
  weightStabilizationPeriod: 5s, weightUpdatePeriod: 2s}, warmup: {duration: 30s, aggression: 2, minimumPercent: 5}}}"""


def test_weights_by_what_endpoints_report() -> None:
    (policy,) = cluster(UTILIZATION)["load_balancing_policy"]["policies"]
    config = policy["typed_extension_config"]["typed_config"]
    assert config["error_utilization_penalty"] == 1.5
    assert config["metric_names_for_computing_utilization"] == ["named_metrics.queue"]
    assert [config[f"{name}_period"] for name in ("blackout", "weight_expiration", "weight_update")] == [
        *("5s", "60s", "2s")
    ]
    assert config["slow_start_config"]["slow_start_window"] == "30s"


@pytest.mark.parametrize("balancer", ["LEAST_REQUEST", "ROUND_ROBIN"])
def test_warmup(balancer: str) -> None:
    warmup = f"{{loadBalancer: {{simple: {balancer}, warmup: {{duration: 30s, aggression: 2, minimumPercent: 5}}}}}}"
    config = cluster(warmup)[f"{balancer.lower()}_lb_config"]["slow_start_config"]
    assert config["slow_start_window"] == "30s"
    assert config["aggression"]["default_value"] == 2.0
    assert config["min_weight_percent"] == {"value": 5.0}


class TestNamesInTls:
    """`sni` unset: the host of each request, where there are requests (Istio's default for SIMPLE and MUTUAL)."""

    def test_http(self) -> None:
        found = cluster("{tls: {mode: SIMPLE}}")
        assert options(found)["upstream_http_protocol_options"] == {"auto_sni": True, "auto_san_validation": True}
        validation = self.validation(found)
        assert "match_typed_subject_alt_names" not in validation

    def test_names_that_are_given_are_verified(self) -> None:
        found = cluster("{tls: {mode: SIMPLE, subjectAltNames: [a.example]}}")
        assert options(found)["upstream_http_protocol_options"] == {"auto_sni": True}
        (name,) = self.validation(found)["match_typed_subject_alt_names"]
        assert name["matcher"] == {"exact": "a.example"}

    def test_an_sni_that_is_given_stands(self) -> None:
        found = cluster("{tls: {mode: SIMPLE, sni: s.example}}")
        assert "upstream_http_protocol_options" not in options(found)
        assert found["transport_socket"]["typed_config"]["sni"] == "s.example"
        (name,) = self.validation(found)["match_typed_subject_alt_names"]
        assert name["matcher"] == {"exact": "s.example"}

    def test_tcp_has_the_services_name(self) -> None:
        found = cluster("{tls: {mode: SIMPLE}}", port=TCP)
        assert found["transport_socket"]["typed_config"]["sni"] == HOST
        (name,) = self.validation(found)["match_typed_subject_alt_names"]
        assert name["matcher"] == {"exact": HOST}

    def test_nothing_is_verified_if_told_so(self) -> None:
        found = cluster("{tls: {mode: SIMPLE, insecureSkipVerify: true}}")
        assert options(found)["upstream_http_protocol_options"] == {"auto_sni": True}
        assert "combined_validation_context" not in found["transport_socket"]["typed_config"]["common_tls_context"]

    def validation(self, found: dict[str, Any]) -> dict[str, Any]:
        common = found["transport_socket"]["typed_config"]["common_tls_context"]
        return dict(common["combined_validation_context"]["default_validation_context"])


def test_http_2_is_offered_where_it_is_spoken() -> None:
    found = cluster("{tls: {mode: SIMPLE}, connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}")
    assert found["transport_socket"]["typed_config"]["common_tls_context"]["alpn_protocols"] == ["h2"]
    kept = cluster("{tls: {mode: SIMPLE}, connectionPool: {http: {useClientProtocol: true}}}")
    assert "use_downstream_protocol_config" in options(kept)
    mesh = cluster("{connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}")["transport_socket_matches"][0]
    assert mesh["transport_socket"]["typed_config"]["common_tls_context"]["alpn_protocols"] == ["istio-h2"]


class TestSecrets:
    """`credentialName`: at gateways, and at sidecars in rules with a selector alone."""

    MUTUAL = "{tls: {mode: MUTUAL, credentialName: c}}"
    SELECTED = "  workloadSelector: {matchLabels: {app: client}}"

    def names(self, proxy: Proxy, more: str, namespace: str) -> tuple[list[str], list[str]]:
        secret = SECRET_DOCUMENT.replace("NAMESPACE", namespace)
        found = compiled(service("reviews"), rule(self.MUTUAL, more), secret, proxy=proxy)
        socket = found.cluster(NAME).get("transport_socket")
        used = socket["typed_config"]["common_tls_context"] if socket else {}
        asked = [one["name"] for one in used.get("tls_certificate_sds_secret_configs", ())]
        return found.names(SECRET), asked

    def test_a_gateway(self) -> None:
        assert self.names(GATEWAY, "", GATEWAY.namespace) == (
            ["kubernetes://c", "kubernetes://c-cacert"],
            ["kubernetes://c"],
        )

    def test_a_selected_sidecar(self) -> None:
        client = replace(SIDECAR, labels=FrozenMap({"app": "client"}))
        given = (["kubernetes://c", "kubernetes://c-cacert"], ["kubernetes://c"])
        assert self.names(client, self.SELECTED, "default") == given
        assert self.names(client, self.SELECTED, "other")[0] == [], "a Secret of another namespace is not its to read"

    def test_other_sidecars(self) -> None:
        assert self.names(SIDECAR, self.SELECTED, "default") == ([], []), "the rule is not for them"
        assert self.names(SIDECAR, "", "default") == ([], ["file-cert:~"]), "there are no files: nobody is called"

    def test_an_empty_selector_is_the_whole_namespace(self) -> None:
        assert self.names(SIDECAR, "  workloadSelector: {}", "default")[1] == ["kubernetes://c"]
        elsewhere = replace(SIDECAR, namespace="other")
        assert self.names(elsewhere, "  workloadSelector: {}", "other") == ([], [])


def members(*localities: str) -> tuple[Workload, ...]:
    return tuple(
        replace(workload(f"r{place}", app="reviews", address=f"10.0.0.{place}"), locality=locality)
        for place, locality in enumerate(localities, 1)
    )


HERE = replace(SIDECAR, locality="r1/z1")
DETECTS = "{outlierDetection: {consecutive5xxErrors: 1}}"


def groups(found: Compiled, name: str = NAME) -> list[tuple[str, int]]:
    return [
        (group["locality"]["region"] + "/" + group["locality"]["zone"], group.get("priority", 0))
        for group in found.assignment(name)["endpoints"]
    ]


def test_near_endpoints_come_first_where_outlier_detection_tells_who_is_well() -> None:
    documents = (service("reviews"), rule(DETECTS, "  subsets: [{name: v1, labels: {version: v1}}]"))
    near = compiled(*documents, proxy=HERE, registrations=members("r1/z1", "r1/z2", "r2/z1"))
    assert groups(near) == [("r1/z1", 0), ("r1/z2", 1), ("r2/z1", 2)]
    assert groups(near, f"outbound|80|v1|{HOST}") == groups(near)
    plain = compiled(service("reviews"), proxy=HERE, registrations=members("r1/z1", "r1/z2"))
    assert groups(plain) == [("r1/z1", 0), ("r1/z2", 0)]
    off = compiled(
        *documents,
        proxy=HERE,
        registrations=members("r1/z1", "r1/z2"),
        mesh_config="localityLbSetting: {enabled: false}",
    )
    assert groups(off) == [("r1/z1", 0), ("r1/z2", 0)]


DISTRIBUTE = """{loadBalancer: {localityLbSetting: {distribute: [{from: r1/*, to: {"r1/*": 75, "r2/*": 25}}]}}}"""


def test_shares_of_localities_are_weights() -> None:
    found = compiled(service("reviews"), rule(DISTRIBUTE), proxy=HERE, registrations=members("r1/z1", "r2/z1", "r3/z"))
    weights = [group["load_balancing_weight"] for group in found.assignment(NAME)["endpoints"]]
    assert weights == [7500, 2500]
    assert found.cluster(NAME)["common_lb_config"]["locality_weighted_lb_config"] == {}


def test_endpoints_found_by_dns_have_places_too() -> None:
    endpoints = "[{address: a.one, locality: r2/z}, {address: a.two, locality: r1/z1}]"
    entry = istio(
        "ServiceEntry",
        "a",
        f"  hosts: [a.com]\n  resolution: DNS\n  ports: [{{number: 80, name: http, protocol: HTTP}}]\n"
        f"  endpoints: {endpoints}",
    )
    policy = istio("DestinationRule", "a", f"  host: a.com\n  trafficPolicy: {DETECTS}")
    found = compiled(entry, policy, proxy=HERE).cluster("outbound|80||a.com")["load_assignment"]["endpoints"]
    assert [(group["locality"]["region"], group.get("priority", 0)) for group in found] == [("r1", 0), ("r2", 1)]


def test_callers_at_one_place_share_tables_and_others_all_but_endpoints() -> None:
    memo = Memo()
    documents = (service("reviews"), service("plain"), rule(DETECTS))
    registrations = (*members("r1/z1", "r1/z2"), workload("p", app="plain"))

    def tables(proxy: Proxy) -> dict[str, Any]:
        found = compiled(*documents, proxy=proxy, registrations=registrations, memo=memo).resources
        return {type_url: found.of_type(type_url)[0] for type_url in (CLUSTER, ENDPOINT, ROUTE, LISTENER)}

    here, beside = tables(HERE), tables(replace(HERE, name="other"))
    there = tables(replace(HERE, name="far", locality="r1/z2"))
    assert all(here[type_url] is beside[type_url] for type_url in here)
    assert all(here[type_url] is there[type_url] for type_url in (CLUSTER, ROUTE, LISTENER))
    assert here[ENDPOINT] != there[ENDPOINT]
    plain = "outbound|80||plain.default.svc.cluster.local"
    assert here[ENDPOINT][plain] is there[ENDPOINT][plain], "nobody asks where its callers are"


def test_nobody_is_anywhere_unless_somebody_asks() -> None:
    memo = Memo()

    def table(locality: str) -> Any:
        proxy = replace(HERE, name=locality.replace("/", "-"), locality=locality)
        found = compiled(service("reviews"), proxy=proxy, registrations=members("r1/z1", "r1/z2"), memo=memo)
        return found.resources.of_type(ENDPOINT)[0]

    assert table("r1/z1") is table("r1/z2")


FAMILIES = {
    "utilization": UTILIZATION,
    "utilization-by-locality": UTILIZATION.replace(
        "{loadBalancer: {", '{loadBalancer: {localityLbSetting: {distribute: [{from: "*", to: {"*": 100}}]}, '
    ),
    "distribute": DISTRIBUTE,
    "hash-with-shares": DISTRIBUTE.replace("loadBalancer: {", "loadBalancer: {consistentHash: {useSourceIp: true}, "),
    "failover": DETECTS,
    "zones": "{loadBalancer: {zoneAwareLbSetting: {enabled: true, minClusterSize: 1}}}",
    "tunnel": "{tunnel: {targetHost: a, targetPort: 443}}",
    "proxy-protocol": "{proxyProtocol: {version: V2}}",
    "proxy-protocol-over-tls": "{tls: {mode: SIMPLE}, proxyProtocol: {version: V1}}",
    "codes": "{outlierDetection: {outlierDetectionHttpErrorCodes: [429, 503], splitExternalLocalOriginErrors: true}}",
    "budget": "{retryBudget: {percent: 5, budgetInterval: 3s}}",
    "mutual": "{tls: {mode: MUTUAL, credentialName: c, subjectAltNames: [x.example]}}",
    "skip": "{tls: {mode: SIMPLE, insecureSkipVerify: true}}",
    "cookie": "{loadBalancer: {consistentHash: {httpCookie: {name: u, ttl: 0s, path: /x, "
    "attributes: [{name: SameSite, value: Lax}]}, maglev: {tableSize: 307}}}}",
    "pool": "{connectionPool: {tcp: {maxConnections: 3, connectTimeout: 1s, tcpKeepalive: {probes: 3, time: 7s, "
    "interval: 2s}, maxConnectionDuration: 9s, idleTimeout: 8s}, http: {h2UpgradePolicy: UPGRADE, maxRetries: 1, "
    "maxRequestsPerConnection: 1, maxConcurrentStreams: 9, idleTimeout: 3s, http2KeepAlive: {interval: 3s, "
    "timeout: 1s}}}}",
}


@pytest.mark.envoy
def test_envoy_takes_every_family(envoy: Path, stub: Stub, tmp_path: Path) -> None:
    documents: list[str] = []
    registrations: list[Workload] = []
    for place, (name, policy) in enumerate(FAMILIES.items()):
        app = f"s-{name}"
        documents.append(service(app, f"{{name: http, port: 80}}, {{name: tcp, port: {9000 + place}}}"))
        documents.append(istio("DestinationRule", app, f"  host: {app}\n  trafficPolicy: {policy}"))
        for number, locality in enumerate(("r1/z1", "r2/z1", "r1/z2")):
            member = workload(f"{app}-{number}", app=app, address=f"10.0.{place}.{number + 1}")
            registrations.append(replace(member, locality=locality))
    for proxy in (HERE, GATEWAY):
        found = compiled(*documents, proxy=proxy, registrations=tuple(registrations))
        assert validated(envoy, found.resources, stub, tmp_path) == ""
