"""`gossamer simulate`: whole calls, and the YAML that decides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gossamer.cli.main import run
from tests.cli.documents import GATEWAY, POLICIES, ROUTES, SHOP

PRIVATE = """\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: private, namespace: vault}
spec: {hosts: [private.example], exportTo: ["."], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = {"shop.yaml": SHOP, "routes.yaml": ROUTES, "policies.yaml": POLICIES, "gateway.yaml": GATEWAY}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def asked(folder: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def ask(*arguments: str, code: int = 0) -> Any:
        assert run(["simulate", "-f", str(folder), *arguments, "-o", "json"]) == code
        return json.loads(capsys.readouterr().out)

    return ask


def line_of(text: str, words: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if words in line)


def test_a_call_goes_through_both_sidecars(asked: Any, folder: Path) -> None:
    found = asked("--from", "shop/web", "http://cart/items")
    assert found["verdicts"] == [{"verdict": "served", "share": 1.0}]
    first, second = (hop["outcome"] for hop in found["hops"])
    assert [hop["proxy"] for hop in found["hops"]] == ["sidecar of shop/web", "sidecar of shop/cart-v1"]
    assert first["cluster"] == "outbound|80|v1|cart.shop.svc.cluster.local"
    assert [round(part["weight"], 2) for part in first["clusters"]] == [0.9, 0.1]
    assert first["endpoints"][0]["tls"]["mutual"]
    assert (second["transport"], second["policies"][-1]["policy"]) == ("mtls", "ns[shop]-policy[web-only]-rule[0]")
    origin = first["route"]["origins"][0]
    assert (origin["rule"], origin["file"]) == ("spec.http[1]", str(folder / "routes.yaml"))
    assert origin["line"] == line_of(ROUTES, "timeout: 3s")


def test_what_the_request_says_decides(asked: Any) -> None:
    beta = asked("--from", "shop/web", "http://cart.shop/items?q=1", "-H", "beta: yes")
    assert beta["hops"][1]["proxy"] == "sidecar of shop/cart-v2"
    assert beta["hops"][0]["outcome"]["forwarded"]["path"] == "/new/items?q=1"
    late = asked("--from", "shop/web", "http://cart", "--chance", "0.95")
    assert late["hops"][0]["outcome"]["cluster"] == "outbound|80|v2|cart.shop.svc.cluster.local"


def test_a_policy_refuses_and_is_named(asked: Any, folder: Path) -> None:
    for arguments in (["--from", "shop/web", "-X", "post"], ["--from", "shop/web", "--service-account", "other"]):
        found = asked(*arguments, "http://cart/", code=1)
        assert found["verdicts"][0]["verdict"] == "denied"
        outcome = found["hops"][1]["outcome"]
        assert outcome["status"] == 403
        assert outcome["origins"][0] == {
            "kind": "AuthorizationPolicy",
            "namespace": "shop",
            "name": "web-only",
            "rule": "spec.rules[0]",
            "file": str(folder / "policies.yaml"),
            "line": line_of(POLICIES, "- from:"),
        }


def test_a_workload_that_might_be(asked: Any) -> None:
    found = asked("--from", "other/app=new", "http://cart.shop/", code=1)
    assert (found["hops"][0]["proxy"], found["verdicts"][0]["verdict"]) == ("sidecar of other/app=new", "denied")
    same = asked("--from", "shop/app=web", "http://cart/")
    assert same["hops"][0]["proxy"] == "sidecar of shop/web"


def test_straight_to_a_workload(asked: Any, folder: Path) -> None:
    plain = asked("--to", "shop/cart-v1", "http://cart:8080/", code=1)
    outcome = plain["hops"][0]["outcome"]
    assert outcome["verdict"] == "refused"
    assert outcome["origins"][0]["name"] == "strict"
    assert outcome["origins"][0]["file"] == str(folder / "policies.yaml")
    assert (
        asked("--to", "shop/cart-v1", "--from", "shop/web", "http://cart:8080/")["verdicts"][0]["verdict"] == "served"
    )


def test_from_outside_through_a_gateway(asked: Any) -> None:
    who = ["--gateway", "shop/istio=edge", "--service-account", "web"]
    found = asked(*who, "http://shop.example/cart", code=1)
    first, second = found["hops"][:2]
    assert first["outcome"]["listener"] == "0.0.0.0_80"
    assert second["outcome"]["verdict"] == "denied"  # the gateway is not the web
    assert {hop["proxy"] for hop in found["hops"][1:]} == {"sidecar of shop/cart-v1", "sidecar of shop/cart-v2"}
    nowhere = asked(*who, "http://shop.example/other", code=1)
    assert nowhere["verdicts"][0]["verdict"] == "not found"
    assert asked(*who, "http://shop.example:81/", code=1)["verdicts"][0]["verdict"] == "refused"


def test_what_is_assumed_is_said(asked: Any) -> None:
    unknown = asked("--from", "shop/web", "https://elsewhere.example/")
    assert "no service elsewhere.example" in unknown["assumptions"][0]
    assert unknown["hops"][0]["outcome"]["cluster"] == "PassthroughCluster"
    given = asked("--from", "shop/web", "https://elsewhere.example/", "--address", "198.51.100.9")
    assert given["assumptions"] == []
    assert given["hops"][0]["outcome"]["endpoints"][0]["address"] == "198.51.100.9:443"
    port = asked("--from", "shop/web", "http://cart:8081/")
    assert port["assumptions"] == ["cart.shop.svc.cluster.local has no port 8081; it has 80"]


def test_a_service_that_the_caller_does_not_see(folder: Path, asked: Any) -> None:
    (folder / "private.yaml").write_text(PRIVATE)
    hidden = asked("--from", "shop/web", "http://private.example/")
    assert hidden["assumptions"][0].startswith("private.example is not exported from vault to shop: ")
    assert hidden["hops"][0]["outcome"]["cluster"] == "PassthroughCluster"


def test_a_name_that_nobody_has(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["simulate", "-f", str(folder), "--from", "shop/cart", "http://cart"]) == 2
    assert "did you mean shop/cart-v" in capsys.readouterr().err


def test_on_paper(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(path) for path in sorted(folder.iterdir())]
    assert run(["simulate", "--from", "shop/web", "http://cart/", "-X", "POST", "-f", *files]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "POST http://cart/"
    assert "   route           prefix /" in lines
    assert "   →               denied 403: no rule of AuthorizationPolicy shop/web-only allows it" in lines
    place = f"{folder / 'policies.yaml'}:{line_of(POLICIES, '- from:')}:5"
    decided = lines.index("decided by")
    assert lines[decided + 1] == f"  AuthorizationPolicy shop/web-only spec.rules[0]  --> {place}"
    assert lines[decided + 2] == f"    {line_of(POLICIES, '- from:')} |   - from:"


def test_errors_of_the_files_are_told_beside(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "routes.yaml").write_text(ROUTES.replace("timeout: 3s", "timeout: 3"))
    assert run(["simulate", "-f", str(folder), "--from", "shop/web", "http://cart/"]) == 0
    printed = capsys.readouterr()
    assert "not a duration" in printed.err
    assert "outbound|80||cart.shop.svc.cluster.local" in printed.out
