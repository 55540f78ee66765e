"""What the annotations of a Gateway may say."""

from __future__ import annotations

import pytest

from gossamer.api.load import SourceFile, load
from gossamer.core.diagnostics import Diagnostic, Severity

SIMPLE = "{mode: SIMPLE, credentialName: c}"


def said(value: str, tls: str) -> list[Diagnostic]:
    document = f"""
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: gw, namespace: a, annotations: {{gossamer.io/http3: "{value}"}}}}
spec:
  selector: {{istio: ingressgateway}}
  servers:
  - {{port: {{number: 443, name: https, protocol: HTTPS}}, hosts: ["*"], tls: {tls}}}
"""
    return list(load([SourceFile(name="a.yaml", text=document)]).diagnostics)


def test_http3_is_true_or_false() -> None:
    assert said("true", SIMPLE) == said("false", SIMPLE) == []
    (found,) = said("on", SIMPLE)
    assert (found.severity, found.code) == (Severity.ERROR, "invalid-value")
    assert found.position.line == 4


@pytest.mark.parametrize(
    "tls",
    [
        "{mode: MUTUAL, credentialName: c}",
        "{mode: ISTIO_MUTUAL}",
        "{mode: PASSTHROUGH}",
        "{mode: SIMPLE, credentialName: c, maxProtocolVersion: TLSV1_2}",
    ],
)
def test_where_http3_cannot_be_it_is_said(tls: str) -> None:
    (found,) = said("true", tls)
    assert (found.severity, found.code) == (Severity.WARNING, "no-effect")
