"""Active health checks: whom they hold for, and what Envoy is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gossamer.compile.static import Stub
from gossamer.core.resources import ENDPOINT
from tests.compile.compiled import GATEWAY, SIDECAR, compiled, service, workload
from tests.compile.validated import validated

HOST = "reviews.default.svc.cluster.local"


def check(spec: str, *, name: str = "c", namespace: str = "default", at: str = "") -> str:
    created = f', creationTimestamp: "{at}"' if at else ""
    return (
        "apiVersion: gossamer.io/v1\nkind: HealthCheck\n"
        f"metadata: {{name: {name}, namespace: {namespace}{created}}}\nspec: {spec}\n"
    )


def told(*checks: str, port: str = "{name: http, port: 80}", number: int = 80) -> list[dict[str, Any]]:
    found = compiled(service("reviews", port), *checks).cluster(f"outbound|{number}||{HOST}")
    listed: list[dict[str, Any]] = found.get("health_checks", [])
    assert bool(listed) == found.get("ignore_health_on_host_removal", False)
    return listed


def test_http() -> None:
    spec = "{host: reviews, interval: 2s, timeout: 500ms, unhealthyThreshold: 4, healthyThreshold: 1, "
    (found,) = told(check(spec + "http: {path: /h, expectedStatuses: [200, 204]}}"))
    assert (found["interval"], found["no_traffic_interval"], found["timeout"]) == ("2s", "2s", "0.500s")
    assert (found["unhealthy_threshold"], found["healthy_threshold"]) == (4, 1)
    assert found["http_health_check"] == {
        "host": HOST,
        "path": "/h",
        "expected_statuses": [{"start": "200", "end": "201"}, {"start": "204", "end": "205"}],
    }
    (found,) = told(check("{host: reviews, http: {}}"), port="{name: grpc, port: 80}")
    assert found["http_health_check"]["codec_client_type"] == "HTTP2"
    (found,) = told(check("{host: reviews, http: {host: h.example}}"), port="{name: auto, port: 80}")
    assert found["http_health_check"]["host"] == "h.example"
    assert found["tls_options"]["alpn_protocols"] == ["istio-http/1.1", "istio-h2"]


def test_grpc_is_asked_where_http_2_is_spoken() -> None:
    grpc = check("{host: reviews, grpc: {service: s}}")
    (found,) = told(grpc, port="{name: grpc, port: 80}")
    assert found["grpc_health_check"] == {"service_name": "s", "authority": HOST}
    assert told(grpc) == []


def test_tcp() -> None:
    (found,) = told(check("{host: reviews, tcp: {}}"), port="{name: tcp, port: 80}")
    assert found["tcp_health_check"] == {}


def test_a_check_of_the_port_comes_before_one_of_all_and_the_older_before_the_younger() -> None:
    ports = "{name: http, port: 80}, {name: more, port: 81}"
    all_ports = check("{host: reviews, tcp: {}}", name="all", at="2019-01-01T00:00:00Z")
    one = check("{host: reviews, port: 81, interval: 7s, tcp: {}}", name="one", at="2020-01-01T00:00:00Z")
    younger = check("{host: reviews, port: 81, interval: 9s, tcp: {}}", name="a", at="2021-01-01T00:00:00Z")
    documents = (younger, all_ports, one)
    assert [found["interval"] for found in told(*documents, port=ports)] == ["5s"]
    assert [found["interval"] for found in told(*documents, port=ports, number=81)] == ["7s"]


def test_only_the_services_own_namespace_says_how_it_is_checked() -> None:
    assert told(check(f"{{host: {HOST}, tcp: {{}}}}", namespace="other")) == []


def test_checks_tell_who_is_well_for_locality_failover() -> None:
    here = replace(SIDECAR, locality="r1/z1")
    members = tuple(
        replace(workload(f"r{n}", app="reviews", address=f"10.0.0.{n}"), locality=place)
        for n, place in enumerate(("r2/z1", "r1/z1"))
    )
    documents = (service("reviews"), check("{host: reviews, tcp: {}}"))
    found = compiled(*documents, proxy=here, registrations=members)
    groups = found.assignment(f"outbound|80||{HOST}")["endpoints"]
    assert [(group["locality"]["region"], group.get("priority", 0)) for group in groups] == [("r1", 0), ("r2", 1)]
    assert found.names(ENDPOINT)


def test_services_of_their_callers_addresses_are_not_checked() -> None:
    entry = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: a, namespace: default}
spec: {hosts: [a.com], resolution: NONE, ports: [{number: 80, name: tcp, protocol: TCP}]}
"""
    assert "health_checks" not in compiled(entry, check("{host: a.com, tcp: {}}")).cluster("outbound|80||a.com")


@pytest.mark.envoy
def test_envoy_takes_them(envoy: Path, stub: Stub, tmp_path: Path) -> None:
    documents: list[str] = []
    for number, (port, way) in enumerate(
        (port, way)
        for port in ("http", "grpc", "tcp", "auto", "https")
        for way in ("http: {path: /x}", "grpc: {}", "tcp: {}")
    ):
        documents.append(service(f"s{number}", f"{{name: {port}, port: {8000 + number}}}"))
        documents.append(check(f"{{host: s{number}, {way}}}", name=f"s{number}"))
    for proxy in (SIDECAR, GATEWAY):
        assert validated(envoy, compiled(*documents, proxy=proxy).resources, stub, tmp_path) == ""
