"""Requests with and without tokens, as the simulator tells of them."""

from __future__ import annotations

from typing import Any

import pytest

from gossamer.api.load import SourceFile, load
from gossamer.cli.offline import build_fleet
from gossamer.core.frozen import FrozenMap
from gossamer.core.memo import Memo
from gossamer.model.proxy import Proxy, ProxyType
from gossamer.simulate.outcome import Outcome, Verdict
from gossamer.simulate.request import Address, Arrival, HttpRequest, Request
from gossamer.simulate.simulator import Simulator
from tests.jws import Issuer

ISSUER = Issuer("https://issuer.example")
CONFIG = f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: app, namespace: foo}}
spec:
  hosts: [app.example]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 8080, name: http, protocol: HTTP}}]
  endpoints: [{{address: 10.0.0.10, labels: {{app: app}}}}]
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: tokens, namespace: istio-system}}
spec:
  jwtRules:
  - issuer: {ISSUER.name}
    audiences: [app]
    jwks: '{ISSUER.jwks}'
    fromCookies: [session]
    fromHeaders: [{{name: Authorization, prefix: "Bearer "}}]
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: fetched, namespace: foo}}
spec:
  selector: {{matchLabels: {{app: app}}}}
  jwtRules: [{{issuer: "https://fetched.example"}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: me, namespace: foo}}
spec:
  rules:
  - from: [{{source: {{requestPrincipals: ["{ISSUER.name}/me"]}}}}]
  - to: [{{operation: {{paths: ["/open"]}}}}]
"""
PROXY = Proxy(
    type=ProxyType.SIDECAR, namespace="foo", name="app", addresses=("10.0.0.10",), labels=FrozenMap({"app": "app"})
)


def ask(path: str = "/", claims: dict[str, Any] | None = None, config: str = CONFIG, **headers: Any) -> Outcome:
    memo = Memo()
    loaded = load([SourceFile(name="a.yaml", text=config)], memo=memo)
    assert not loaded.diagnostics
    resources = build_fleet(loaded.config, memo).resources(PROXY)
    http = HttpRequest(authority="app.example", path=path, headers=tuple(headers.items()))
    metadata = FrozenMap({"envoy.filters.http.jwt_authn": {"payload": claims}} if claims else {})
    where = Address(ip="10.0.0.10", port=8080)
    return Simulator(resources).simulate(
        Request(arrival=Arrival.INBOUND, destination=where, http=http, metadata=metadata)
    )


def test_without_a_token_policies_decide() -> None:
    assert ask("/open").verdict is Verdict.SERVED
    assert (ask().verdict, ask().status) == (Verdict.DENIED, 403)


def test_claims_stand_for_a_verified_token() -> None:
    assert ask(claims={"iss": ISSUER.name, "sub": "me"}).verdict is Verdict.SERVED
    assert ask(claims={"iss": ISSUER.name, "sub": "you"}).verdict is Verdict.DENIED


def test_what_may_be_good_is_not_guessed() -> None:
    found = ask(authorization=f"Bearer {ISSUER.token(aud='app')}")
    assert found.verdict is Verdict.UNKNOWN
    assert "signature" in found.reason


@pytest.mark.parametrize(
    ("token", "why", "status"),
    [
        ("no.to.ken", "no JSON Web Token", 401),
        (ISSUER.token(aud="other"), "another audience", 403),
        (Issuer("https://nobody.example").token(aud="app"), "nobody takes tokens of issuer", 401),
    ],
)
def test_what_cannot_be_good_is_refused(token: str, why: str, status: int) -> None:
    for headers in ({"authorization": f"Bearer {token}"}, {"cookie": f"a=b; session={token}"}):
        found = ask("/open", None, CONFIG, **headers)
        assert (found.verdict, found.status) == (Verdict.DENIED, status)
        assert why in found.reason
        assert found.decided_by is not None
        assert "tokens" in {origin.resource.name for origin in found.decided_by.origins}


def test_an_issuer_whose_keys_nobody_fetched_has_no_good_token() -> None:
    found = ask("/open", authorization=f"Bearer {Issuer('https://fetched.example').token()}")
    assert (found.verdict, found.status) == (Verdict.DENIED, 401)


def test_a_required_token() -> None:
    only = CONFIG.replace("    audiences: [app]\n", "    audiences: [app]\n    presence: REQUIRED\n")
    found = ask("/open", config=only)
    assert (found.verdict, found.status) == (Verdict.DENIED, 401)
