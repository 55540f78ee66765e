"""A mesh under the profile `nist`: what passes, what does not, and what `gossamer security report` says of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from tests.e2e.meshes import SMALL, Place, free_port, get, place, until
from tests.jws import Issuer

ISSUER = Issuer("https://issuer.example")
OWN = f"""\
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: users, namespace: istio-system}}
spec:
  jwtRules: [{{issuer: "{ISSUER.name}", jwks: '{ISSUER.jwks}', forwardOriginalToken: true}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: users, namespace: istio-system}}
spec:
  selector: {{matchLabels: {{istio: ingressgateway}}}}
  rules: [{{from: [{{source: {{requestPrincipals: ["*"]}}}}]}}]
"""
LAX = """\
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: lax, namespace: default}
spec:
  selector: {matchLabels: {app: details}}
  mtls: {mode: PERMISSIVE}
"""
PAGE = "/productpage"


@dataclass(slots=True)
class Report:
    """What `gossamer security report` said last."""

    place: Place
    code: int = -1
    rows: dict[str, Any] = field(default_factory=dict)

    def ask(self) -> Report:
        part = self.place.run("security", "report", f"--state={self.place.state}", "-o", "json")
        found = json.loads(part.said[part.said.index("{") :])["controls"]
        self.code, self.rows = part.wait(), {row["control"]: row for row in found}
        return self

    @property
    def failing(self) -> list[str]:
        return [name for name, row in self.rows.items() if not row["holds"]]


def test_a_mesh_under_the_profile() -> None:
    with place() as found:
        port = free_port()
        found.write(port, SMALL.replace("version: 1", "version: 1\nprofile: nist"))
        (found.mesh / "config" / "own.yaml").write_text(OWN)
        found.user.give(found.mesh / "config" / "own.yaml")
        found.up("--capture=transparent")
        until(found.ready, "ready")
        until(lambda: get(port, PAGE).status == 403, "the gateway refuses who brings no token", 10)
        token = {"authorization": f"Bearer {ISSUER.token()}"}
        until(lambda: get(port, PAGE, token).status == 200, "whoever brings one gets the page", 10)
        assert get(port, PAGE, {"authorization": f"Bearer {Issuer(ISSUER.name).token()}"}).status == 401
        row = found.row("default/productpage-v1")
        assert get(row["mesh_ports"]["9080"], PAGE, token, host=row["mesh_address"]).status == 0
        report, advised = Report(found), ["gateway-tls", "enterprise-root"]
        until(lambda: report.ask().failing == advised, "all controls hold but what is advised", 30)
        assert report.code == 0
        assert "in plaintext none, 1 refused" in report.rows["mutual-tls"]["evidence"][-1]
        assert "the authority signs for 1 h" in report.rows["short-certificates"]["evidence"]
        (found.mesh / "config" / "lax.yaml").write_text(LAX)
        found.user.give(found.mesh / "config" / "lax.yaml")
        until(lambda: report.ask().failing == ["mutual-tls", *advised], "the policy that says otherwise is found", 30)
        assert report.code == 1
        lax = report.rows["mutual-tls"]["evidence"][0]
        assert "default/details-v1 is PERMISSIVE by PeerAuthentication default/lax" in lax
