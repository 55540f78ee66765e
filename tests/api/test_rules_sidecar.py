"""What is wrong with a Sidecar and with a WorkloadGroup, and where."""

from __future__ import annotations

from typing import Any

import pytest

from gossamer.api.sidecar import CaptureMode
from tests.api.documents import errors, spec_of, warnings

ALL = {"hosts": ["*/*"]}
WEB = {"number": 80, "name": "web", "protocol": "HTTP"}
TLS_PORT = {"number": 443, "name": "tls", "protocol": "HTTPS"}
FILES = {"serverCertificate": "/a.crt", "privateKey": "/a.key"}
SOCKET = {"port": {"number": 0, "name": "u", "protocol": "HTTP"}, "bind": "unix:///u", "hosts": ["*/*"]}


def _tls(**settings: Any) -> dict[str, Any]:
    return {"ingress": [{"port": TLS_PORT, "tls": {"mode": "SIMPLE", **FILES, **settings}}]}


@pytest.mark.parametrize(
    "host",
    [
        "./*", "*/*", "~/*", "~/~", "prod/*.example.com", "*/a.b", "~kube-system/*", "~prod/api.example.com", "~/a.b",
        "~./x.y",
    ],
)  # fmt: skip
def test_hosts(host: str) -> None:
    assert errors("Sidecar", {"egress": [{"hosts": [host]}]}) == []


@pytest.mark.parametrize("host", ["*", "a.b", "/a.b", "ns/", "Prod/*", "~Prod/*", "a/b/c", "ns/a b", "*a/b"])
def test_no_hosts(host: str) -> None:
    assert errors("Sidecar", {"egress": [{"hosts": [host]}]}) == [("invalid-host", "spec.egress[0].hosts[0]")]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, [("required", "spec")]),
        ({"outboundTrafficPolicy": {}}, []),
        ({"egress": [ALL], "egres": []}, [("unknown-field", "spec.egres")]),
        ({"egress": [{"hosts": []}]}, [("required", "spec.egress[0].hosts")]),
        ({"egress": [{"hosts": ["a/*", "a/*"]}]}, [("duplicate-value", "spec.egress[0].hosts[1]")]),
        ({"egress": [ALL, ALL]}, [("invalid-order", "spec.egress[0]")]),
        ({"egress": [{**ALL, "bind": "1.2.3.4"}]}, [("invalid-value", "spec.egress[0].bind")]),
        ({"egress": [{"port": WEB, **ALL, "bind": "localhost"}]}, [("invalid-value", "spec.egress[0].bind")]),
        ({"egress": [{"port": {"number": 0}, **ALL}]}, [("invalid-port", "spec.egress[0].port.number")]),
        ({"egress": [{"port": WEB, **ALL}] * 2}, [("duplicate-value", "spec.egress[1].port.number")]),
        ({"egress": [SOCKET, ALL]}, []),
        ({"egress": [{**SOCKET, "captureMode": "IPTABLES"}]}, [("invalid-value", "spec.egress[0].captureMode")]),
        ({"egress": [{**SOCKET, "port": WEB}]}, [("invalid-port", "spec.egress[0].port.number")]),
        ({"egress": [{**SOCKET, "bind": "unix://u"}]}, [("invalid-address", "spec.egress[0].bind")]),
        ({"egress": [SOCKET, SOCKET]}, [("duplicate-value", "spec.egress[1].bind")]),
        ({"ingress": [{}]}, [("required", "spec.ingress[0].port")]),
        ({"ingress": [{"port": WEB}] * 2}, [("duplicate-value", "spec.ingress[1].port.number")]),
        ({"ingress": [{"port": {**WEB, "protocol": "HTP"}}]}, [("invalid-protocol", "spec.ingress[0].port.protocol")]),
        ({"ingress": [{"port": WEB, "bind": "a"}]}, [("invalid-value", "spec.ingress[0].bind")]),
        ({"ingress": [{"port": WEB, "connectionPool": {}}]}, [("required", "spec.ingress[0].connectionPool")]),
        ({"inboundConnectionPool": {}}, [("required", "spec.inboundConnectionPool")]),
        (
            {"workloadSelector": {"labels": {"a": "b*"}}, "egress": [ALL]},
            [("invalid-selector", "spec.workloadSelector.labels.a")],
        ),
    ],
)
def test_sidecar(spec: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert errors("Sidecar", spec) == expected


@pytest.mark.parametrize(
    ("endpoint", "good"),
    [
        ("127.0.0.1:80", True), ("0.0.0.0:80", True), ("[::1]:80", True), ("[::]:80", True), (":80", True),
        ("unix:///a/b", True), ("unix://@abstract", True), ("", True),
        ("1.1.1.1:80", False), ("127.0.0.1", False), ("127.0.0.1:0", False), ("127.0.0.1:70000", False),
        ("localhost:80", False), ("unix://a", False), ("[127.0.0.1]:80x", False), ("::1:80", False),
    ],
)  # fmt: skip
def test_default_endpoint(endpoint: str, good: bool) -> None:
    found = errors("Sidecar", {"ingress": [{"port": WEB, "defaultEndpoint": endpoint}]})
    assert found == ([] if good else [("invalid-address", "spec.ingress[0].defaultEndpoint")])


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        (_tls(), ""),
        (_tls(mode="MUTUAL", caCertificates="/ca.crt"), ""),
        (_tls(mode="MUTUAL"), ".caCertificates"),
        (_tls(mode="ISTIO_MUTUAL"), ".mode"),
        (_tls(mode="AUTO_PASSTHROUGH"), ".mode"),
        (_tls(subjectAltNames=["a"]), ".subjectAltNames"),
        (_tls(httpsRedirect=True), ".httpsRedirect"),
        (_tls(credentialName="c"), ".credentialName"),
        (_tls(privateKey=""), ".privateKey"),
        ({"ingress": [{"port": WEB, "tls": {"mode": "SIMPLE", **FILES}}]}, "*"),
    ],
)
def test_ingress_tls(spec: dict[str, Any], field: str) -> None:
    found = [path for _, path in errors("Sidecar", spec)]
    assert found == ([f"spec.ingress[0].tls{field.strip('*')}"] if field else [])


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ({"mode": "ALLOW_ANY", "egressProxy": {"host": "a.b", "port": {"number": 80}}}, []),
        ({"mode": "ALLOW_ANY", "egressProxy": {"host": "a.b"}}, [("required", ".port")]),
        ({"mode": "ALLOW_ANY", "egressProxy": {"host": "*.b", "port": {"number": 80}}}, [("invalid-host", ".host")]),
        (
            {"mode": "ALLOW_ANY", "egressProxy": {"host": "a.b", "port": {"number": 0}}},
            [("invalid-port", ".port.number")],
        ),
        ({"egressProxy": {"host": "a.b", "port": {"number": 80}}}, [("invalid-value", "")]),
    ],
)
def test_egress_proxy(policy: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    found = errors("Sidecar", {"outboundTrafficPolicy": policy})
    assert found == [(code, f"spec.outboundTrafficPolicy.egressProxy{path}") for code, path in expected]


def test_what_a_sidecar_says() -> None:
    found = spec_of("Sidecar", {"egress": [{**SOCKET, "captureMode": "NONE"}]}, "sidecars")
    assert found.egress[0].capture_mode is CaptureMode.NONE


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, [("required", "spec.template")]),
        ({"template": {}}, []),
        ({"template": {"ports": {"a": 0}}}, [("invalid-port", "spec.template.ports.a")]),
        ({"template": {"address": "a b"}}, [("invalid-address", "spec.template.address")]),
        ({"template": {}, "metadata": {"labels": {"a b": "c"}}}, [("invalid-label", 'spec.metadata.labels["a b"]')]),
        ({"template": {}, "probe": {"exec": {}}}, [("required", "spec.probe.exec.command")]),
        ({"template": {}, "probe": {"exec": {"command": [""]}}}, [("invalid-length", "spec.probe.exec.command[0]")]),
        ({"template": {}, "probe": {"tcpSocket": {"port": 0}}}, [("invalid-port", "spec.probe.tcpSocket.port")]),
        ({"template": {}, "probe": {"grpc": {"port": 70000}}}, [("invalid-port", "spec.probe.grpc.port")]),
        (
            {"template": {}, "probe": {"tcpSocket": {"port": 1}, "grpc": {"port": 1}}},
            [("exclusive-fields", "spec.probe.grpc")],
        ),
        (
            {"template": {}, "probe": {"httpGet": {"port": 1, "scheme": "https"}, "periodSeconds": -1}},
            [("out-of-range", "spec.probe.periodSeconds"), ("invalid-value", "spec.probe.httpGet.scheme")],
        ),
        (
            {"template": {}, "probe": {"httpGet": {"port": 1, "httpHeaders": [{"name": "a:b"}]}}},
            [("invalid-value", "spec.probe.httpGet.httpHeaders[0].name")],
        ),
    ],
)
def test_workload_group(spec: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert errors("WorkloadGroup", spec) == expected


def test_what_does_nothing_in_a_workload_group_is_warned_of() -> None:
    spec = {"template": {"address": "1.2.3.4"}}
    assert warnings("WorkloadGroup", spec) == [("no-effect", "spec.template.address")]


def test_proxy_config() -> None:
    assert errors("ProxyConfig", {"concurrency": 0, "environmentVariables": {"A": "b"}}) == []
    assert errors("ProxyConfig", {"concurrency": "2"}) == [("invalid-type", "spec.concurrency")]
    wrong = {"concurrency": -1, "selector": {"matchLabels": {"": "x"}}, "environmentVariables": {"A": "x" * 2049}}
    assert errors("ProxyConfig", wrong) == [
        ("invalid-selector", 'spec.selector.matchLabels[""]'),
        ("out-of-range", "spec.concurrency"),
        ("invalid-length", "spec.environmentVariables.A"),
    ]
