"""`gossamer explain` on files: the verdict, the rules that were considered, where they stand, what a dry run says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gossamer.cli.main import run
from tests.cli.documents import GATEWAY, POLICIES, ROUTES, SHOP
from tests.jws import Issuer

ISSUER = Issuer("https://issuer.example")
MORE = f"""\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: tried, namespace: shop, annotations: {{istio.io/dry-run: "true"}}}}
spec:
  action: DENY
  rules:
  - to: [{{operation: {{methods: [DELETE]}}}}]
  - to: [{{operation: {{paths: [/items]}}}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: strangers, namespace: shop}}
spec:
  action: DENY
  rules:
  - from: [{{source: {{namespaces: [other]}}}}]
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: users, namespace: shop}}
spec:
  selector: {{matchLabels: {{app: cart}}}}
  jwtRules: [{{issuer: "{ISSUER.name}", jwks: '{ISSUER.jwks}'}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: users, namespace: shop}}
spec:
  selector: {{matchLabels: {{app: cart}}}}
  rules:
  - from: [{{source: {{requestPrincipals: ["{ISSUER.name}/me"]}}}}]
    to: [{{operation: {{methods: [PUT]}}}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: edge-more, namespace: shop}}
spec:
  hosts: [shop.example]
  gateways: [edge]
  http: [{{match: [{{uri: {{prefix: /items}}}}], route: [{{destination: {{host: cart}}}}]}}]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = {"shop.yaml": SHOP, "routes.yaml": ROUTES, "policies.yaml": POLICIES, "gateway.yaml": GATEWAY}
    for name, text in (files | {"more.yaml": MORE}).items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def asked(folder: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def ask(*arguments: str, code: int = 0) -> Any:
        assert run(["explain", *arguments, "-f", str(folder), "-o", "json"]) == code
        return json.loads(capsys.readouterr().out)

    return ask


def line_of(text: str, words: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if words in line)


def considered(found: Any, hop: int) -> list[tuple[str, str, int, str]]:
    """Of one hop: action, rule by name, line and which half missed."""
    return [
        (
            policy["action"],
            f"{one['origins'][0]['name']} {one['origins'][0]['rule']}",
            one["origins"][0]["line"],
            one["missed"],
        )
        for policy in found["hops"][hop]["outcome"]["policies"]
        for one in policy["considered"]
        if one["origins"]
    ]


def test_every_rule_that_was_considered_is_told_with_its_line(asked: Any) -> None:
    found = asked("shop/web", "get", "http://cart/items")
    assert found["verdicts"][0]["verdict"] == "served"
    assert found["decided"] is None
    assert considered(found, 1) == [
        ("DENY", "tried spec.rules[0]", line_of(MORE, "DELETE"), "request"),
        ("DENY", "tried spec.rules[1]", line_of(MORE, "paths: [/items]"), ""),
        ("DENY", "strangers spec.rules[0]", line_of(MORE, "namespaces: [other]"), "caller"),
        ("ALLOW", "users spec.rules[0]", line_of(MORE, "requestPrincipals"), "caller"),
        ("ALLOW", "web-only spec.rules[0]", line_of(POLICIES, "- from:"), ""),
    ]
    (tried,) = found["dry_run"]
    assert (tried["proxy"], tried["allowed"]) == ("sidecar of shop/cart-v1", False)
    assert (tried["origins"][0]["name"], tried["origins"][0]["rule"]) == ("tried", "spec.rules[1]")
    assert tried["origins"][0]["line"] == line_of(MORE, "paths: [/items]")


def test_who_turned_it_away(asked: Any, folder: Path) -> None:
    found = asked("other/app=any", "GET", "http://cart.shop/", code=1)
    decided = found["decided"]
    assert (decided["proxy"], decided["action"]) == ("sidecar of shop/cart-v1", "DENY")
    assert decided["policy"] == "ns[shop]-policy[strangers]-rule[0]"
    assert decided["origins"][0]["file"] == str(folder / "more.yaml")
    nobody = asked("shop/web", "POST", "http://cart/", code=1)["decided"]
    assert (nobody["action"], nobody["policy"]) == ("ALLOW", "")
    assert {origin["name"] for origin in nobody["origins"]} == {"users", "web-only"}


def test_a_token_is_checked(asked: Any, tmp_path: Path) -> None:
    (tmp_path / "token.txt").write_text(ISSUER.token() + "\n")
    with_token = ["shop/web", "PUT", "http://cart/", "--jwt", str(tmp_path / "token.txt")]
    found = asked(*with_token)
    (said,) = [one for one in found["hops"][1]["outcome"]["policies"] if one["action"] == "JWT"]
    assert said | {"origins": []} == {
        "filter": "policy.http.jwt",
        "action": "JWT",
        "allowed": True,
        "policy": "",
        "shadow": False,
        "origins": [],
        "asks": "",
        "considered": [],
    }
    sent = dict(found["hops"][1]["outcome"]["forwarded"]["headers"])
    assert "authorization" not in sent  # Istio's forwardOriginalToken is false
    (tmp_path / "token.txt").write_text(Issuer(ISSUER.name).token())
    forged = asked(*with_token, code=1)["decided"]
    assert (forged["action"], forged["origins"][0]["name"]) == ("JWT", "users")


def test_from_outside(asked: Any) -> None:
    through = asked("outside", "GET", "http://shop.example/items", code=1)
    assert [hop["proxy"] for hop in through["hops"][:2]] == ["gateway shop/istio=edge", "sidecar of shop/cart-v1"]
    straight = asked("outside", "GET", "http://cart/items", code=1)
    assert straight["hops"][0]["proxy"] == "sidecar of shop/cart-v1"
    assert "past every gateway" in straight["assumptions"][0]
    assert straight["verdicts"][0]["verdict"] == "refused"
    same = asked("outside", "GET", "http://cart:8080/items", "--to", "shop/cart-v1", code=1)
    assert same["hops"][0]["outcome"]["reason"] == straight["hops"][0]["outcome"]["reason"]


def test_on_paper(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "shop/web", "DELETE", "http://cart/items", "-f", str(folder)]) == 1
    said = capsys.readouterr().out
    lines = said.splitlines()
    assert lines[0] == "DELETE http://cart/items"
    assert lines[2].startswith("DENIED: no rule of AuthorizationPolicy shop/users, AuthorizationPolicy shop/web-only")
    where = f"{folder / 'more.yaml'}:{line_of(MORE, 'DELETE')}:5"
    assert f"matches: AuthorizationPolicy shop/tried spec.rules[0]  {where}" in said
    trial = lines[lines.index("in a dry run") + 1]
    told = "sidecar of shop/cart-v1: DENY: AuthorizationPolicy shop/tried spec.rules[0] would turn it away"
    assert trial == f"  {told}  {where}"


def test_what_every_proxy_refuses_is_told_only_where_it_does(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    guard = "gossamer.path-of-two-meanings"
    assert run(["explain", "shop/web", "GET", "http://cart/items", "-f", str(folder)]) == 0
    assert guard not in capsys.readouterr().out
    asked = ["explain", "shop/web", "GET", "http://cart:8080/items/%2e%2e;/secret", "--to", "shop/cart-v1"]
    assert run([*asked, "-f", str(folder)]) == 1
    assert f"DENIED: {guard}: others would read this path differently" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["shop/nobody", "GET", "http://cart/"], "no such workload"),
        (["shop/web", "GET", "http://cart/", "--gateway", "shop/istio=edge"], "--gateway goes with outside"),
        (["shop/web", "GET", "http://cart/", "--jwt", "/no/such"], "cannot be read"),
        (["outside", "GET", "http://nobody.example/", "--gateway", "shop/nobody"], "no such workload"),
    ],
)
def test_wrong_usage(arguments: list[str], words: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", *arguments, "-f", str(folder)]) == 2
    assert words in capsys.readouterr().err


def test_without_a_mesh_and_without_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "a/b", "GET", "http://c/", "--state", str(tmp_path)]) == 1
    assert "no control plane runs" in capsys.readouterr().err
