"""What the profile `nist` says of requests in a small shop: nothing passes without both credentials and a policy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gossamer.api.profile import Profile
from gossamer.cli.cast import build_cast, find_workload
from gossamer.cli.inputs import load_inputs
from gossamer.cli.main import run
from gossamer.compile.static import Stub
from gossamer.core.memo import Memo
from tests.cli.documents import SHOP
from tests.compile.validated import validated
from tests.jws import Issuer

ISSUER = Issuer("https://issuer.example")
USERS = f"""\
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: users, namespace: istio-system}}
spec:
  jwtRules: [{{issuer: "{ISSUER.name}", jwks: '{ISSUER.jwks}', forwardOriginalToken: true}}]
"""
ALLOW = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: web-to-cart, namespace: shop}
spec:
  selector: {matchLabels: {app: cart}}
  rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/web]}}]}]
"""
OTHER = """\
apiVersion: v1
kind: Service
metadata: {name: bank, namespace: money}
spec: {selector: {app: bank}, clusterIP: 10.96.0.11, ports: [{name: http, port: 80}, {name: tcp-raw, port: 5432}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: bank, namespace: money}
spec:
  selector: {matchLabels: {app: bank}}
  template:
    metadata: {labels: {app: bank}}
    spec: {containers: [{name: bank}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: anyone, namespace: money}
spec: {rules: [{}]}
"""
ACROSS = """\
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: shop}
spec: {egress: [{hosts: ["./*", "money/*"]}]}
"""
EXCEPTED = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: nist-end-user, namespace: istio-system}
spec:
  action: DENY
  rules:
  - from: [{source: {notRequestPrincipals: ["*"]}}]
    to: [{operation: {notPorts: ["5432"], notPaths: [/healthz]}}]
"""
Ask = Callable[..., dict[str, Any]]


@pytest.fixture
def ask(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Ask:
    config = tmp_path / "config"
    config.mkdir()
    (tmp_path / "token").write_text(ISSUER.token())

    def asked(url: str, *more: str, token: bool = True, caller: str = "shop/web") -> dict[str, Any]:
        for number, text in enumerate((SHOP, USERS, *more)):
            (config / f"{number}.yaml").write_text(text)
        words = ["explain", caller, "GET", url, "-f", str(config), "--profile", "nist", "-o", "json"]
        run([*words, "--jwt", str(tmp_path / "token")] if token else words)
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return asked


def verdict(found: dict[str, Any]) -> str:
    return str(found["verdicts"][0]["verdict"])


def decider(found: dict[str, Any]) -> tuple[str, str]:
    origin = found["decided"]["origins"][0]
    return origin["name"], origin["file"]


def blocked(found: dict[str, Any]) -> bool:
    """Whether the caller's own proxy answers that it does not know the host."""
    outcome = found["hops"][0]["outcome"]
    return (outcome["virtual_host"], outcome["status"]) == ("block_all", 502)


def test_nothing_is_allowed_that_no_policy_allows(ask: Ask) -> None:
    found = ask("http://cart/")
    assert verdict(found) == "denied"
    assert decider(found) == ("nist-deny-by-default", "profile nist")
    assert verdict(ask("http://cart/", ALLOW)) == "served"


def test_a_request_needs_the_users_credential_beside_the_callers(ask: Ask) -> None:
    found = ask("http://cart/", ALLOW, token=False)
    assert verdict(found) == "denied"
    assert decider(found) == ("nist-end-user", "profile nist")
    assert verdict(ask("http://cart/", ALLOW, token=True)) == "served"


def test_without_an_issuer_no_token_is_good(ask: Ask, tmp_path: Path) -> None:
    found = ask("http://cart/", ALLOW, "---\n")
    assert verdict(found) == "served"
    (tmp_path / "config" / "1.yaml").unlink()
    assert run(["explain", "shop/web", "GET", "http://cart/", "-f", str(tmp_path / "config"), "--profile", "nist"]) == 1


def test_plaintext_is_refused(ask: Ask) -> None:
    found = ask("http://cart/", ALLOW, caller="outside")
    assert verdict(found) == "refused"
    names = {origin["name"]: origin["file"] for origin in found["hops"][0]["outcome"]["origins"]}
    assert names["nist-mutual-tls"] == "profile nist"


def test_a_workload_calls_its_own_namespace_alone(ask: Ask) -> None:
    assert blocked(ask("http://bank.money/", ALLOW, OTHER))
    assert ask("tcp://bank.money:5432", ALLOW, OTHER)["hops"][0]["outcome"]["cluster"] == "BlackHoleCluster"
    assert verdict(ask("http://bank.money/", ALLOW, OTHER, ACROSS)) == "served"


def test_nothing_outside_the_mesh_is_reached(ask: Ask) -> None:
    assert blocked(ask("http://elsewhere.example/", ALLOW))
    tls = ask("https://elsewhere.example/", ALLOW)
    assert tls["hops"][0]["outcome"]["cluster"] == "BlackHoleCluster"


def test_a_policy_says_what_may_do_without_a_user(ask: Ask) -> None:
    assert verdict(ask("tcp://bank.money:5432", ALLOW, OTHER, ACROSS, token=False)) == "denied"
    assert verdict(ask("tcp://bank.money:5432", ALLOW, OTHER, ACROSS, EXCEPTED, token=False)) == "served"
    assert verdict(ask("http://cart/healthz", ALLOW, OTHER, ACROSS, EXCEPTED, token=False)) == "served"
    assert verdict(ask("http://cart/", ALLOW, OTHER, ACROSS, EXCEPTED, token=False)) == "denied"


def test_paths_are_judged_as_the_application_reads_them(ask: Ask) -> None:
    secret = ALLOW.replace("web-to-cart", "no-secret").replace("selector", "action: DENY\n  selector")
    secret = secret.split("  rules:")[0] + "  rules: [{to: [{operation: {paths: [/secret]}}]}]\n"
    for path in ("/secret", "//secret", "/x/../secret", "/%73ecret", "/x%2F..%2Fsecret"):
        assert decider(ask(f"http://cart{path}", ALLOW, secret))[0] == "no-secret", path


@pytest.mark.envoy
def test_a_real_envoy_takes_it(envoy: Path, stub: Stub, tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text("---\n".join((SHOP, USERS, ALLOW, OTHER)))
    memo = Memo()
    inputs = load_inputs([tmp_path / "all.yaml"], None, memo, profile=Profile.NIST)
    assert not inputs.diagnostics
    cast = build_cast(inputs.loaded.config, memo)
    for name in ("shop/web", "shop/cart-v1"):
        resources = cast.peer(find_workload(cast, name, "--from")).simulator.resources
        assert validated(envoy, resources, stub, tmp_path) == ""
