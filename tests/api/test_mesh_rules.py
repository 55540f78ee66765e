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
