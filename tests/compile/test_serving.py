"""MeshConfig's `defaultConfig` on how HTTP is served: headers and limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gossamer.compile.static import Stub
from gossamer.core.resources import LISTENER
from gossamer.model.proxy import Proxy
from tests.compile.compiled import GATEWAY, SIDECAR, Compiled, compiled, istio, service, workload
from tests.compile.validated import validated

SERVICES = (
    service("web"),
    service("app"),
    istio(
        "Gateway",
        "shop",
        """
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]
""",
        namespace="istio-system",
    ),
    istio(
        "VirtualService",
        "shop",
        """
  hosts: [shop.example]
  gateways: [istio-system/shop]
  http: [{rewrite: {authority: web.example}, route: [{destination: {host: web}}]}]
""",
    ),
)
ALL = """\
defaultConfig:
  gatewayTopology: {numTrustedProxies: 2, forwardClientCertDetails: APPEND_FORWARD, proxyProtocol: {}}
  proxyHeaders:
    forwardedClientCert: SANITIZE_SET
    setCurrentClientCertDetails: {subject: false, cert: true, uri: false}
    requestId: {disabled: true}
    server: {value: gossamer}
    attemptCount: {disabled: true}
    envoyDebugHeaders: {disabled: true}
    preserveHttp1HeaderCase: true
    xForwardedHost: {enabled: true}
    xForwardedPort: {enabled: true}
  connectionSettings:
    listenerPerConnectionBufferLimitBytes: 4096
    clusterPerConnectionBufferLimitBytes: 8192
    httpIdleTimeout: 60s
    httpMaxConnectionDuration: 600s
    httpDrainTimeout: 3s
    httpRequestTimeout: 20s
    httpRequestHeadersTimeout: 5s
    httpStreamIdleTimeout: 30s
    httpMaxStreamDuration: 300s
    httpMaxConcurrentStreams: 50
    http2InitialStreamWindowSize: 65535
    http2InitialConnectionWindowSize: 65535
    httpHeadersWithUnderscoresAction: HEADERS_WITH_UNDERSCORES_DROP_HEADER
    httpMergeSlashes: true
    httpPathWithEscapedSlashesAction: REJECT_REQUEST
"""


def _of(proxy: Proxy, mesh_config: str = "") -> Compiled:
    app = workload("app", app="app", address="1.1.1.1")
    return compiled(*SERVICES, proxy=proxy, registrations=(app,), mesh_config=mesh_config)


def _managers(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, list):
        return [found for item in value for found in _managers(item)]
    if not isinstance(value, dict):
        return []
    own = [value] if str(value.get("@type", "")).endswith("HttpConnectionManager") else []
    return own + [found for item in value.values() for found in _managers(item)]


def _gateway(mesh_config: str = "") -> dict[str, Any]:
    (manager,) = _managers(_of(GATEWAY, mesh_config).listener("0.0.0.0_80"))
    return manager


def _inbound(mesh_config: str = "") -> dict[str, Any]:
    return _managers(_of(SIDECAR, mesh_config).listener("virtualInbound"))[0]


def _outbound(mesh_config: str = "") -> dict[str, Any]:
    return _managers(_of(SIDECAR, mesh_config).listener("0.0.0.0_80"))[0]


def test_who_serves_is_said_where_a_proxy_answers_for_somebody() -> None:
    assert _inbound()["server_name"] == _gateway()["server_name"] == "istio-envoy"
    assert "server_name" not in _outbound()
    assert _inbound(ALL)["server_name"] == "gossamer"
    silent = _inbound("defaultConfig: {proxyHeaders: {server: {disabled: true}}}")
    assert silent["server_header_transformation"] == "PASS_THROUGH"


def test_the_callers_certificate_is_told_as_asked() -> None:
    manager = _inbound(ALL)
    assert manager["forward_client_cert_details"] == "SANITIZE_SET"
    assert manager["set_current_client_cert_details"] == {"cert": True, "dns": True, "subject": False}


def test_headers_that_proxies_add() -> None:
    manager = _outbound(ALL)
    assert manager["generate_request_id"] is False
    assert manager["append_x_forwarded_port"] is True
    assert manager["http_filters"][-1]["typed_config"]["suppress_envoy_headers"] is True
    assert "header_key_format" in manager["http_protocol_options"]
    for found, on in ((_of(GATEWAY), False), (_of(GATEWAY, ALL), True)):
        host = found.host("http.80", "shop.example")
        assert ("include_request_attempt_count" not in host) is on
        assert ("append_x_forwarded_host" in host["routes"][0]["route"]) is on
    options = _of(SIDECAR, ALL).cluster("inbound|80||")["typed_extension_protocol_options"]
    assert "preserve_case" in str(options)
    assert "preserve_case" not in str(_of(SIDECAR).cluster("inbound|80||"))


@pytest.mark.parametrize("manager", [_inbound, _outbound, _gateway])
def test_limits_of_connections(manager: Any) -> None:
    found = manager(ALL)
    common, two = found["common_http_protocol_options"], found["http2_protocol_options"]
    assert common["idle_timeout"] == "60s"
    assert common["max_connection_duration"] == "600s"
    assert common["max_stream_duration"] == "300s"
    assert common["headers_with_underscores_action"] == "DROP_HEADER"
    assert (found["drain_timeout"], found["request_timeout"]) == ("3s", "20s")
    assert (found["request_headers_timeout"], found["stream_idle_timeout"]) == ("5s", "30s")
    assert two == {
        "max_concurrent_streams": 50,
        "initial_stream_window_size": 65535,
        "initial_connection_window_size": 65535,
    }
    assert found["merge_slashes"] is True
    assert found["path_with_escaped_slashes_action"] == "REJECT_REQUEST"


def test_buffers() -> None:
    for proxy, size in ((SIDECAR, 4096), (GATEWAY, 4096)):
        found = _of(proxy, ALL)
        listeners = [found.listener(name) for name in found.names(LISTENER)]
        assert {listener["per_connection_buffer_limit_bytes"] for listener in listeners} == {size}
    assert (
        _of(SIDECAR, ALL).cluster("outbound|80||web.default.svc.cluster.local")["per_connection_buffer_limit_bytes"]
        == 8192
    )


def test_the_edge_profile_and_what_is_set_beside_it() -> None:
    manager = _gateway("defaultConfig: {connectionSettings: {profile: EDGE, httpMaxConcurrentStreams: 7}}")
    assert manager["http2_protocol_options"]["max_concurrent_streams"] == 7
    assert manager["http2_protocol_options"]["initial_stream_window_size"] == 65536
    assert manager["common_http_protocol_options"]["headers_with_underscores_action"] == "REJECT_REQUEST"
    assert manager["path_with_escaped_slashes_action"] == "UNESCAPE_AND_REDIRECT"
    assert manager["request_timeout"] == "300s"
    assert "request_timeout" not in _gateway("defaultConfig: {connectionSettings: {httpMaxConcurrentStreams: 7}}")


@pytest.mark.envoy
@pytest.mark.parametrize("proxy", [SIDECAR, GATEWAY], ids=["sidecar", "gateway"])
def test_envoy_takes_all_of_it(proxy: Proxy, envoy: Path, stub: Stub, tmp_path: Path) -> None:
    assert validated(envoy, _of(proxy, ALL).resources, stub, tmp_path) == ""
