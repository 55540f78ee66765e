"""A real Envoy takes what is compiled for gateways: every TLS mode, bind and way in."""

from __future__ import annotations

from pathlib import Path

import pytest

from gossamer.api.rules.tls import CIPHER_SUITES
from gossamer.compile.static import Stub
from tests.compile.compiled import GATEWAY, compiled, istio, service, workload
from tests.compile.validated import validated

pytestmark = pytest.mark.envoy

HTTPS = "{number: 443, name: https, protocol: HTTPS}"
TLS = "{number: 443, name: tls, protocol: TLS}"
ROUTES = """
  hosts: ['*']
  gateways: [gw]
  http: [{route: [{destination: {host: reviews}}]}]
  tcp: [{route: [{destination: {host: reviews}}]}]
  tls: [{match: [{sniHosts: [a.com]}], route: [{destination: {host: reviews}}]}]
"""
SERVERS = {
    "simple": f"{{port: {HTTPS}, tls: {{mode: SIMPLE, credentialName: c}}}}",
    "several credentials": f"{{port: {HTTPS}, tls: {{mode: SIMPLE, credentialNames: [c]}}}}",
    "mutual": f"{{port: {HTTPS}, tls: {{mode: MUTUAL, credentialName: c, subjectAltNames: [a.com, 1.2.3.4]}}}}",
    "optional": f"{{port: {HTTPS}, tls: {{mode: OPTIONAL_MUTUAL, credentialName: c, insecureSkipVerify: true}}}}",
    "of the mesh": f"{{port: {HTTPS}, tls: {{mode: ISTIO_MUTUAL}}}}",
    "of the mesh, TCP": f"{{port: {TLS}, tls: {{mode: ISTIO_MUTUAL}}}}",
    "ended, TCP": f"{{port: {TLS}, tls: {{mode: SIMPLE, serverCertificate: /c, privateKey: /k}}}}",
    "passed on": f"{{port: {TLS}, tls: {{mode: PASSTHROUGH}}}}",
    "passed on by name": f"{{port: {TLS}, tls: {{mode: AUTO_PASSTHROUGH}}}}",
    "pinned": (
        f"{{port: {HTTPS}, tls: {{mode: MUTUAL, credentialName: c, verifyCertificateSpki: "
        f"['{'A' * 43}='], verifyCertificateHash: ['{'ab' * 32}']}}}}"
    ),
    "old versions": (
        f"{{port: {HTTPS}, tls: {{mode: SIMPLE, credentialName: c, minProtocolVersion: TLSV1_0, "
        "maxProtocolVersion: TLSV1_2, ecdhCurves: [P-256], cipherSuites: [AES128-SHA]}}"
    ),
    "a path": "{port: {number: 0, name: http, protocol: HTTP}, bind: unix:///tmp/gossamer-validate.sock}",
    "an abstract socket": "{port: {number: 0, name: http, protocol: GRPC}, bind: unix://@gossamer-validate}",
    "an address": "{port: {number: 18080, name: http, protocol: HTTP2}, bind: 127.0.0.1}",
    "mongo": "{port: {number: 27017, name: mongo, protocol: MONGO}}",
    "grpc-web": "{port: {number: 18080, name: web, protocol: GRPC-WEB}}",
}


@pytest.mark.parametrize("case", SERVERS)
def test_envoy_takes_it(case: str, envoy: Path, stub: Stub, tmp_path: Path) -> None:
    server = SERVERS[case][:-1] + ", hosts: ['*']}"
    gateway = istio("Gateway", "gw", f"  selector: {{istio: ingressgateway}}\n  servers: [{server}]")
    found = compiled(
        gateway,
        istio("VirtualService", "v", ROUTES),
        service("reviews", "{name: http, port: 80}"),
        proxy=GATEWAY,
        registrations=(workload("reviews-1", app="reviews"),),
    )
    assert found.json()["listeners"], "something is compiled"
    assert validated(envoy, found.resources, stub, tmp_path) == ""


def test_every_cipher_suite_that_is_let_pass(envoy: Path, stub: Stub, tmp_path: Path) -> None:
    listed = ", ".join(sorted(CIPHER_SUITES))
    server = f"{{port: {HTTPS}, tls: {{mode: SIMPLE, credentialName: c, cipherSuites: [{listed}]}}, hosts: ['*']}}"
    gateway = istio("Gateway", "gw", f"  selector: {{istio: ingressgateway}}\n  servers: [{server}]")
    assert validated(envoy, compiled(gateway, proxy=GATEWAY).resources, stub, tmp_path) == ""


def test_what_stands_before_gateways(envoy: Path, stub: Stub, tmp_path: Path) -> None:
    server = f"{{port: {HTTPS}, tls: {{mode: SIMPLE, credentialName: c}}, hosts: ['*']}}"
    gateway = istio("Gateway", "gw", f"  selector: {{istio: ingressgateway}}\n  servers: [{server}]")
    for details in ("SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET", "ALWAYS_FORWARD_ONLY"):
        topology = f"{{numTrustedProxies: 2, forwardClientCertDetails: {details}, proxyProtocol: {{}}}}"
        settings = f"defaultConfig: {{gatewayTopology: {topology}}}"
        found = compiled(gateway, proxy=GATEWAY, mesh_config=settings)
        assert validated(envoy, found.resources, stub, tmp_path) == "", details
