"""A mesh under the profile `nist`: what passes, what does not, and what `gossamer security report` says of it."""

from __future__ import annotations

import json
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


def _report(found: Place, code: int) -> dict[str, Any]:
    part = found.run("security", "report", f"--state={found.state}", "-o", "json")
    assert part.child.returncode == code, part.said
    return {row["control"]: row for row in json.loads(part.said[part.said.index("{") :])["controls"]}


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
        until(lambda: found.synced(3), "every proxy is in step", 10)
        rows = _report(found, 0)
        assert [name for name, one in rows.items() if not one["holds"]] == ["gateway-tls", "enterprise-root"]
        assert "in plaintext none, 1 refused" in rows["mutual-tls"]["evidence"][-1]
        assert "the authority signs for 1 h" in rows["short-certificates"]["evidence"]
        before = int(found.status("control-plane")["generation"])
        (found.mesh / "config" / "lax.yaml").write_text(LAX)
        found.user.give(found.mesh / "config" / "lax.yaml")
        until(lambda: int(found.status("control-plane")["generation"]) > before and found.synced(3), "it is live", 10)
        lax = _report(found, 1)["mutual-tls"]
        assert lax["holds"] is False
        assert "default/details-v1 is PERMISSIVE by PeerAuthentication default/lax" in lax["evidence"][0]
