"""Requests that an external authorizer has a say in, as the simulator tells of them."""

from __future__ import annotations

from gossamer.api.load import SourceFile, load
from gossamer.api.mesh_document import read_mesh_config
from gossamer.cli.offline import build_fleet
from gossamer.core.frozen import FrozenMap
from gossamer.core.memo import Memo
from gossamer.model.proxy import Proxy, ProxyType
from gossamer.simulate.outcome import Outcome, Verdict
from gossamer.simulate.request import Address, Arrival, HttpRequest, Request
from gossamer.simulate.simulator import Simulator

MESH = """
extensionProviders:
- name: authz
  envoyExtAuthzGrpc: {service: authz.foo.example, port: 9000}
"""
CONFIG = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: app, namespace: foo}
spec:
  hosts: [app.example]
  addresses: [10.96.0.10]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 8080, name: http, protocol: HTTP}, {number: 9090, name: tcp, protocol: TCP}]
  endpoints: [{address: 10.0.0.10, labels: {app: app}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: authz, namespace: foo}
spec:
  hosts: [authz.foo.example]
  exportTo: [nobody]
  addresses: [10.96.0.11]
  resolution: STATIC
  ports: [{number: 9000, name: grpc, protocol: GRPC}]
  endpoints: [{address: 10.0.0.11}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ask, namespace: foo}
spec:
  action: CUSTOM
  provider: {name: PROVIDER}
  rules: [{to: [{operation: {paths: ["/asked*"]}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: "no", namespace: foo}
spec: {action: DENY, rules: [{to: [{operation: {methods: [POST], ports: ["8080"]}}]}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: tried, namespace: foo, annotations: {istio.io/dry-run: "true"}}
spec: {action: DENY, rules: [{to: [{operation: {paths: ["/tried"]}}]}]}
"""
PROXY = Proxy(
    type=ProxyType.SIDECAR, namespace="foo", name="app", addresses=("10.0.0.10",), labels=FrozenMap({"app": "app"})
)


def ask(http: HttpRequest | None, provider: str = "authz", port: int = 8080) -> Outcome:
    mesh = SourceFile(name="mesh.yaml", text=MESH)
    assert not read_mesh_config(MESH).diagnostics
    memo = Memo()
    loaded = load([SourceFile(name="a.yaml", text=CONFIG.replace("PROVIDER", provider))], mesh_config=mesh, memo=memo)
    resources = build_fleet(loaded.config, memo).resources(PROXY)
    request = Request(arrival=Arrival.INBOUND, destination=Address(ip="10.0.0.10", port=port), http=http)
    return Simulator(resources).simulate(request)


def get(path: str, method: str = "GET", provider: str = "authz") -> Outcome:
    return ask(HttpRequest(authority="app.example", path=path, method=method), provider)


def test_the_authorizer_has_the_last_word() -> None:
    found = get("/asked")
    assert found.verdict is Verdict.UNKNOWN
    cluster = "outbound|9000||authz.foo.example"
    assert found.reason.startswith(f"the authorizer {cluster} decides; if it lets the request through")
    (asked,) = [decision for decision in found.policies if decision.asks]
    assert asked.asks == cluster
    assert [origin.resource.name for origin in asked.origins] == ["ask"]
    assert any("asks the authorizer" in note for note in found.notes)


def test_others_are_not_asked_about() -> None:
    assert get("/free").verdict is Verdict.SERVED
    assert get("/asked", "POST").verdict is Verdict.DENIED, "whatever the authorizer says"
    assert ask(None, port=9090).verdict is Verdict.UNKNOWN, "without HTTP its rules match every connection"


def test_nobody_to_ask_denies() -> None:
    found = get("/asked", provider="nobody")
    assert found.verdict is Verdict.DENIED
    assert found.decided_by is not None
    assert [origin.resource.name for origin in found.decided_by.origins] == ["ask"]


def test_a_dry_run_is_told() -> None:
    found = get("/tried")
    assert found.verdict is Verdict.SERVED
    (tried,) = [decision for decision in found.policies if decision.shadow and decision.action == "DENY"]
    assert not tried.allowed
    assert [origin.resource.name for origin in tried.origins] == ["tried"]
