"""How a mesh is judged by the controls of the profile `nist`: what holds, what fails, and what is named for it."""

from __future__ import annotations

import ast
import json
import socket
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gossamer.api.profile import Profile
from gossamer.cli.running import build_running
from gossamer.cli.security.controls import CONTROLS
from gossamer.cli.security.facts import Connections, Facts, members_of
from gossamer.cli.security.finding import Finding
from gossamer.cli.security.gather import counted_connections, own_files
from gossamer.core.memo import Memo
from gossamer.rpc import gossamer_pb2 as rpc
from gossamer.sources.registry import Registry
from tests.cli.documents import GATEWAY, SHOP
from tests.cli.test_profile_nist import ALLOW, EXCEPTED, USERS
from tests.compile.certificates import Issuer

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 1, 1, tzinfo=UTC)
STATUS: dict[str, Any] = {
    "keys": [],
    "proxies": [],
    "diagnostics": [],
    "root": {"sha256": "00" * 32, "ends": (NOW + timedelta(days=900)).isoformat()},
}
WORKLOADS = (("web", rpc.CAPTURE_MODE_TRANSPARENT), ("cart", rpc.CAPTURE_MODE_TRANSPARENT))


def facts_of(*texts: str, profile: Profile = Profile.NIST, workloads: Any = WORKLOADS, mesh: str = "") -> Facts:
    """The facts of a mesh of these documents, in which these workloads run."""
    registry = Registry("cluster.local")
    messages = [
        rpc.Workload(
            namespace="shop",
            name=name,
            service_account=name,
            labels={"app": name},
            addresses=[f"10.0.0.{number + 1}"],
            ports=[rpc.WorkloadPort(number=8080)],
            capture=rpc.Capture(mode=mode),
        )
        for number, (name, mode) in enumerate(workloads)
    ]
    assert not registry.renew("host", messages, 0.0)
    files = {f"{number}.yaml": text for number, text in enumerate(texts)} | ({"mesh": mesh} if mesh else {})
    snapshot: dict[str, Any] = {
        "texts": files,
        "mesh_config": "mesh" if mesh else None,
        "profile": profile.value,
        "last_good": json.dumps({"version": 1, "meshConfig": None, "whole": True, "files": {}, "texts": []}),
        "trust_domain": "cluster.local",
        "registrations": registry.save(0.0),
        "lost": [],
        "keys": [],
        "admitted": None,
    }
    inputs, cast = build_running(snapshot, Memo())
    return Facts(
        members=members_of(cast),
        config=inputs.loaded.config,
        settings=cast.fleet.mesh.settings,
        index=inputs.loaded.index,
        profile=profile,
        lifetime=timedelta(hours=1),
        plugged=False,
        plane=STATUS,
        workloads=(),
        now=NOW,
    )


def judged(facts: Facts) -> dict[str, Finding]:
    return {control.id: control.judge(facts) for control in CONTROLS}


def failing(facts: Facts) -> set[str]:
    found = judged(facts)
    return {control.id for control in CONTROLS if found[control.id].holds is False and not control.advised}


def told(facts: Facts, control: str) -> str:
    return "\n".join(judged(facts)[control].evidence)


def policy(kind: str, spec: str, namespace: str = "shop", name: str = "own") -> str:
    group = "networking" if kind in ("Sidecar", "ServiceEntry") else "security"
    head = f"apiVersion: {group}.istio.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\n"
    return f"{head}spec: {spec}\n"


def test_the_profile_holds_all_of_them() -> None:
    facts = facts_of(SHOP, USERS, ALLOW)
    assert failing(facts) == set()
    assert "namespace shop: STRICT (2)" in told(facts, "mutual-tls")
    assert "nist-deny-by-default (profile nist:" in told(facts, "deny-by-default")
    assert "tokens are taken of https://issuer.example" in told(facts, "end-user")


def test_a_mesh_without_it_fails_what_it_does_not_say() -> None:
    assert failing(facts_of(SHOP, profile=Profile.NONE)) == {
        *("mutual-tls", "deny-by-default", "end-user", "own-namespace", "no-way-out", "paths", "logged"),
    }


NEVER = "{to: [{operation: {paths: [/never]}}]}"
EXCEPTIONS: list[tuple[str, str, str]] = [
    (policy("PeerAuthentication", "{mtls: {mode: PERMISSIVE}}"), "mutual-tls", "shop/web is PERMISSIVE by"),
    (
        policy(
            "PeerAuthentication",
            "{selector: {matchLabels: {app: cart}}, mtls: {mode: STRICT}, portLevelMtls: {8080: {mode: DISABLE}}}",
        ),
        "mutual-tls",
        "shop/cart port 8080 is DISABLE by PeerAuthentication shop/own (0.yaml:1)",
    ),
    (
        policy("AuthorizationPolicy", "\n  rules:\n  - to: [{operation: {methods: [GET]}}]\n  - {}"),
        "deny-by-default",
        "AuthorizationPolicy shop/own spec.rules[1] (0.yaml:7) allows everything, at shop/cart",
    ),
    (
        policy("AuthorizationPolicy", f"{{action: DENY, rules: [{NEVER}]}}", "istio-system", "nist-end-user"),
        "end-user",
        "shop/cart takes requests without a user's token",
    ),
    (
        policy("Sidecar", "{egress: [{hosts: ['*/*']}]}"),
        "own-namespace",
        "shop/web sees */* by Sidecar shop/own (0.yaml:1)",
    ),
    (
        policy("Sidecar", "{outboundTrafficPolicy: {mode: ALLOW_ANY}}"),
        "no-way-out",
        "shop/web calls what nobody declared (ALLOW_ANY)",
    ),
]


@pytest.mark.parametrize(("text", "control", "words"), EXCEPTIONS)
def test_a_policy_that_says_otherwise_is_named(text: str, control: str, words: str) -> None:
    facts = facts_of(text, SHOP, USERS, ALLOW)
    assert failing(facts) == {control}
    assert words in told(facts, control)


def test_exceptions_are_evidence() -> None:
    facts = facts_of(SHOP, USERS, ALLOW, EXCEPTED, policy("Sidecar", "{egress: [{hosts: ['./*', 'money/*']}]}"))
    assert failing(facts) == set()
    assert "excepts not ports 5432; not paths /healthz" in told(facts, "end-user")
    assert "shop reaches money/* by Sidecar shop/own (4.yaml:1)" in told(facts, "own-namespace")
    outside = policy(
        "ServiceEntry", "{hosts: [api.example], ports: [{number: 443, name: tls, protocol: TLS}], resolution: DNS}"
    )
    assert "api.example by ServiceEntry shop/own" in told(facts_of(outside), "no-way-out")


def test_tokens_that_are_required_are_demanded_too() -> None:
    required = USERS.replace("forwardOriginalToken", "presence: REQUIRED, forwardOriginalToken")
    assert "end-user" not in failing(facts_of(SHOP, required, profile=Profile.NONE))


def test_an_application_that_could_go_round_its_sidecar_is_named() -> None:
    facts = facts_of(SHOP, workloads=(("web", rpc.CAPTURE_MODE_EXPLICIT), WORKLOADS[1]))
    assert failing(facts) == {"not-bypassable"}
    assert "shop/web is bypassable: explicit capture on host host" in told(facts, "not-bypassable")


def test_a_gateway_that_takes_plaintext_is_named() -> None:
    facts = facts_of(SHOP, GATEWAY)
    assert "Gateway shop/edge spec.servers[0] (1.yaml:7) takes plaintext" in told(facts, "gateway-tls")
    assert not judged(facts)["gateway-tls"].holds
    pair = Issuer().issue("shop.example").secret("edge", "shop")
    tls = GATEWAY.replace(
        "name: http, protocol: HTTP}", "name: https, protocol: HTTPS}\n    tls: {mode: SIMPLE, credentialName: edge}"
    )
    assert judged(facts_of(SHOP, pair, tls))["gateway-tls"].holds


def later(**changes: Any) -> Callable[[Facts], Facts]:
    return lambda facts: replace(facts, **changes)


PROXY = {"name": "shop/web", "state": "STALE", "types": [{"rejections": [{"name": "x", "message": "bad"}]}]}
ROW = {"namespace": "shop", "name": "web", "certificate_ends": (NOW + timedelta(hours=9)).isoformat()}
MISSING = {"url": "https://i", "discovered": True, "age_s": None, "error": "no answer within 5 s"}
MISTAKE = {"severity": "error", "file": "a.yaml", "line": 3, "message": "unknown field"}


@pytest.mark.parametrize(
    ("change", "control", "words"),
    [
        (later(lifetime=timedelta(hours=24)), "short-certificates", "valid for 24 h"),
        (later(workloads=[ROW]), "short-certificates", "shop/web: its certificate ends at"),
        (later(now=NOW + timedelta(days=880)), "root", "ends 2028-"),
        (
            later(plane=STATUS | {"keys": [MISSING]}),
            "token-keys",
            "https://i: there are none, so its tokens are refused",
        ),
        (later(plane=STATUS | {"keys": [MISSING | {"age_s": 9e5}]}), "token-keys", "250 hours old (no answer"),
        (later(plane=STATUS | {"proxies": [PROXY]}), "in-force", "shop/web refused x: bad"),
        (later(plane=STATUS | {"diagnostics": [MISTAKE]}), "in-force", "a.yaml:3: unknown field"),
        (later(loose=("/run/x is open to others (mode 755)",)), "own-files", "mode 755"),
    ],
)
def test_what_is_not_as_it_should_be(change: Callable[[Facts], Facts], control: str, words: str) -> None:
    facts = change(facts_of(SHOP))
    assert failing(facts) == {control}
    assert words in told(facts, control)


def test_connections_are_counted_by_what_came_in() -> None:
    stats = {
        "listener.127.0.0.1_20001.downstream_cx_total": 9,
        "listener.127.0.0.1_20001.ssl.handshake": 5,
        "listener.127.0.0.1_20001.ssl.connection_error": 1,
        "listener.127.0.0.1_20001.no_filter_chain_match": 2,
        "listener.0.0.0.0_15006.downstream_cx_total": 1,
        "listener.0.0.0.0_15001.downstream_cx_total": 100,
    }
    found = counted_connections(stats, "127.0.0.1", {"8080": 20001})
    assert (found.plain, found.mutual, found.refused) == (4, 5, 2)
    facts = replace(facts_of(SHOP), connections={"shop/web": found, "shop/cart": Connections()})
    assert "5 connections over mutual TLS, in plaintext 4 to shop/web, 2 refused" in told(facts, "mutual-tls")


def test_files_that_others_may_use_are_found(tmp_path: Path) -> None:
    runtime, state = tmp_path / "run", tmp_path / "state"
    for folder in (runtime / "proxies", state / "ca"):
        folder.mkdir(parents=True, mode=0o700)
    for folder in (runtime, state):
        folder.chmod(0o700)
    with socket.socket(socket.AF_UNIX) as admin, socket.socket(socket.AF_UNIX) as meant:
        admin.bind(str(runtime / "proxies" / "admin.sock"))
        meant.bind(str(runtime / "proxies" / "spiffe.sock"))
        (runtime / "proxies" / "admin.sock").chmod(0o600)
        key = state / "ca" / "ca-key.pem"
        key.touch(mode=0o600)
        assert own_files(runtime, state) == ((), 1)
        key.chmod(0o640)
        (runtime / "proxies" / "admin.sock").chmod(0o666)
        state.chmod(0o755)
        assert [text.split(" is open")[0] for text in own_files(runtime, state)[0]] == [
            *(str(state), str(runtime / "proxies" / "admin.sock"), str(key)),
        ]


def test_nobody_there_is_not_known() -> None:
    found = judged(facts_of(SHOP, workloads=()))
    assert found["mutual-tls"].holds is None


def test_every_control_names_tests_that_there_are() -> None:
    assert len({control.id for control in CONTROLS}) == len(CONTROLS)
    for control in CONTROLS:
        assert control.tests, control.id
        for test in control.tests:
            path, _, name = test.partition("::")
            tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
            names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
            assert name in names, test


def test_the_documentation_has_the_same_table() -> None:
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    expected = [
        f"| `{control.id}`{' (advised)' if control.advised else ''} | {control.asks} | "
        f"{', '.join(control.references) or '—'} | {'<br>'.join(f'`{test}`' for test in control.tests)} |"
        for control in CONTROLS
    ]
    assert rows == expected
