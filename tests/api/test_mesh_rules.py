"""What is said of MeshConfig's own settings."""

from __future__ import annotations

from typing import Any

import pytest

from gossamer.api.mesh_document import build_mesh_config
from gossamer.api.positions import path_text
from gossamer.core.diagnostics import Severity


def said(mesh: dict[str, Any]) -> list[tuple[str, str, str]]:
    _, at = build_mesh_config(mesh)
    found = [one for one in at.findings if one.severity is not Severity.INFO]
    return [(path_text(one.path), one.severity.value, one.code) for one in found]


PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
KEY = "-----BEGIN EC PRIVATE KEY-----\nMIIB\n-----END EC PRIVATE KEY-----\n"
BUNDLE = ("caCertificates[0].spiffeBundleUrl", "error", "invalid-value")
ANCHOR = ("caCertificates[0].pem", "error", "invalid-value")


@pytest.mark.parametrize(
    ("mesh", "found"),
    [
        ({"meshMTLS": {"minProtocolVersion": "TLSV1_3", "ecdhCurves": ["P-256"]}}, []),
        ({"tlsDefaults": {"ecdhCurves": ["P-256", "P-512"]}}, [("tlsDefaults.ecdhCurves[1]", "warning", "no-effect")]),
        (
            {"meshMTLS": {"cipherSuites": ["RC4"]}},
            [
                ("meshMTLS.cipherSuites[0]", "warning", "no-effect"),
                ("meshMTLS.cipherSuites", "error", "invalid-value"),
            ],
        ),
        (
            {"tlsDefaults": {"ecdhCurves": ["P-512"]}},
            [
                ("tlsDefaults.ecdhCurves[0]", "warning", "no-effect"),
                ("tlsDefaults.ecdhCurves", "error", "invalid-value"),
            ],
        ),
        ({"defaultConfig": {"drainDuration": "45s"}}, []),
        ({"defaultConfig": {"drainDuration": "0.5s"}}, [("defaultConfig.drainDuration", "error", "invalid-duration")]),
        (
            {"defaultConfig": {"readinessProbe": {"tcpSocket": {"port": 0}}}},
            [("defaultConfig.readinessProbe.tcpSocket.port", "error", "invalid-port")],
        ),
        (
            {"defaultConfig": {"connectionSettings": {"listenerConnectionLimit": -1}}},
            [("defaultConfig.connectionSettings.listenerConnectionLimit", "error", "out-of-range")],
        ),
        ({"caCertificates": [{"pem": PEM}], "defaultConfig": {"caCertificatesPem": [PEM]}}, []),
        ({"caCertificates": [{"pem": ""}]}, [ANCHOR]),
        ({"caCertificates": [{"pem": PEM.replace("MIIB", "M")}]}, [ANCHOR]),
        ({"caCertificates": [{"pem": PEM + KEY}]}, [ANCHOR]),
        ({"caCertificates": [{"pem": PEM.replace("CERTIFICATE", "PUBLIC KEY")}]}, [ANCHOR]),
        (
            {"caCertificates": [{"pem": PEM, "trustDomains": ["cluster.local", "x", "X"]}]},
            [("caCertificates[0].trustDomains[2]", "error", "invalid-value")],
        ),
        ({"caCertificates": [{"spiffeBundleUrl": "https://x.test/", "trustDomains": ["x"]}]}, []),
        ({"caCertificates": [{"spiffeBundleUrl": "http://x.test/", "trustDomains": ["x"]}]}, [BUNDLE]),
        ({"caCertificates": [{"spiffeBundleUrl": "https://x.test/"}]}, [BUNDLE]),
        ({"caCertificates": [{"spiffeBundleUrl": "https://x.test/", "trustDomains": ["cluster.local"]}]}, [BUNDLE]),
        (
            {"caCertificates": [{"spiffeBundleUrl": "https://x.test/", "pem": PEM, "trustDomains": ["x"]}]},
            [BUNDLE],
        ),
        (
            {"defaultConfig": {"caCertificatesPem": [PEM, "x"]}},
            [("defaultConfig.caCertificatesPem[1]", "error", "invalid-value")],
        ),
        ({"proxyListenPort": 15001, "proxyInboundListenPort": 16006}, []),
        ({"proxyListenPort": 80}, [("proxyListenPort", "error", "invalid-port")]),
        ({"proxyInboundListenPort": 15021}, [("proxyInboundListenPort", "error", "invalid-port")]),
        ({"proxyListenPort": 15006}, [("proxyInboundListenPort", "error", "conflict")]),
        ({"verifyCertificateAtClient": True}, []),
        ({"serviceSettings": [{"settings": {"clusterLocal": True}, "hosts": ["*.shop.svc.cluster.local"]}]}, []),
        ({"serviceSettings": [{"hosts": []}]}, [("serviceSettings[0].hosts", "warning", "no-effect")]),
        ({"serviceSettings": [{"hosts": ["a b"]}]}, [("serviceSettings[0].hosts[0]", "warning", "no-effect")]),
        ({"verifyCertificateAtClient": False}, [("verifyCertificateAtClient", "warning", "insecure")]),
        ({"outboundClusterStatName": "%SERVICE%_%SUBSET_NAME%"}, []),
        ({"inboundClusterStatName": "%SERVICES%"}, [("inboundClusterStatName", "warning", "invalid-value")]),
    ],
)
def test_what_is_said_of_a_setting(mesh: dict[str, Any], found: list[tuple[str, str, str]]) -> None:
    assert said(mesh) == found
