"""Extensions stand where their phase says, are delivered apart from the listener, and fail as they should."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from gossamer.api.load import SourceFile, load
from gossamer.compile.compile import compile_plain, compile_proxy
from gossamer.compile.trial import trial_of
from gossamer.core.frozen import FrozenMap
from gossamer.core.memo import Memo
from gossamer.core.resources import EXTENSION, LISTENER, Resources
from gossamer.model.build_endpoints import build_endpoints
from gossamer.model.build_view import view_for
from gossamer.model.mesh import build_mesh
from gossamer.model.modules import ModuleKey, Modules, module_of
from gossamer.model.proxy import Proxy, ProxyType
from gossamer.plane.envoy_check import EnvoyCheck
from tests import wasm
from tests.compile.compiled import GATEWAY, SIDECAR, Compiled, compiled
from tests.compile.patches.documents import ROUTER, envoy_filter, http_filter, lua, patch
from tests.compile.patches.test_filters import GATEWAY_DOCUMENT, SERVICES, http_filters, network_filters

URL = "https://modules.example/x.wasm"
CODE = "function envoy_on_request(handle) end"
MODULES = Modules(fetched=FrozenMap({ModuleKey(url=URL): module_of(wasm.module())}))


def extension(kind: str, name: str, *, namespace: str = "istio-system", **spec: Any) -> str:
    """A WasmPlugin or a TrafficExtension."""
    return json.dumps(
        {
            "apiVersion": "extensions.istio.io/v1alpha1",
            "kind": kind,
            "metadata": {"name": name, "namespace": namespace},
            "spec": spec,
        }
    )


def plugin(name: str, **spec: Any) -> str:
    return extension("WasmPlugin", name, **({"url": URL} | spec))


def script(name: str, **spec: Any) -> str:
    return extension("TrafficExtension", name, lua={"inlineCode": CODE}, **spec)


def run(*documents: str, proxy: Proxy = SIDECAR, modules: Modules = MODULES, memo: Memo | None = None) -> Compiled:
    """What a proxy is told with these modules at hand."""
    memo = memo or Memo()
    files = [
        SourceFile(name=f"{n}.yaml", text=text) for n, text in enumerate((*SERVICES, GATEWAY_DOCUMENT, *documents))
    ]
    loaded = load(files, memo=memo)
    assert not [one for one in loaded.diagnostics if one.is_error]
    mesh = build_mesh(loaded.config, memo, modules)
    view = view_for(mesh, build_endpoints(loaded.config, (), mesh, memo), proxy, memo)
    return Compiled(view=view, resources=compile_proxy(view, memo))


def short(names: list[str]) -> list[str]:
    return [name.rpartition(".")[2] for name in names if name.startswith("extensions.istio.io/")]


def content(found: Compiled, name: str) -> dict[str, Any]:
    config: dict[str, Any] = found.one(EXTENSION, name)["typed_config"]
    return config


WASM_NAME = "extensions.istio.io/wasmplugin/istio-system.x"


@pytest.mark.parametrize(
    ("phase", "after"),
    [
        ("AUTHN", "gossamer.path-of-two-meanings"),
        ("AUTHZ", "policy.http.audit"),
        ("STATS", ROUTER),
        ("UNSPECIFIED_PHASE", ROUTER),
    ],
)
def test_a_plugin_stands_in_its_phase(phase: str, after: str) -> None:
    found = run(plugin("x", phase=phase))
    inbound = http_filters(found, "virtualInbound")
    assert inbound
    for names in inbound:
        assert names[names.index(WASM_NAME) + 1] == after


def test_the_order_is_by_phase_then_priority_then_name() -> None:
    found = run(
        plugin("d"),
        plugin("c", priority=5),
        script("e", phase="STATS"),
        script("a", phase="AUTHN"),
        plugin("b", phase="AUTHN"),
        script("f", phase="AUTHZ", priority=-1),
        plugin("g", phase="AUTHZ"),
    )
    (outbound,) = http_filters(found, "0.0.0.0_80")
    for names in (*http_filters(found, "virtualInbound"), outbound):
        assert short(names) == ["a", "b", "g", "f", "e", "c", "d"]
    assert outbound[-3:] == [
        "extensions.istio.io/wasmplugin/istio-system.c",
        "extensions.istio.io/wasmplugin/istio-system.d",
        ROUTER,
    ]


@pytest.mark.parametrize(
    ("match", "inbound", "outbound"),
    [
        ([], True, True),
        ([{"mode": "CLIENT"}], False, True),
        ([{"mode": "SERVER"}], True, False),
        ([{"mode": "CLIENT", "ports": [{"number": 81}]}], False, False),
        ([{"ports": [{"number": 80}]}], False, True),
        ([{"mode": "SERVER"}, {"mode": "CLIENT", "ports": [{"number": 80}]}], True, True),
        ([{"mode": "UNDEFINED", "ports": [{"number": 15006}]}], True, False),
    ],
)
def test_traffic_is_selected_by_direction_and_port(match: list[dict[str, Any]], inbound: bool, outbound: bool) -> None:
    found = run(plugin("x", match=match))
    assert any(WASM_NAME in names for names in http_filters(found, "virtualInbound")) is inbound
    assert any(WASM_NAME in names for names in http_filters(found, "0.0.0.0_80")) is outbound


def test_a_gateway_runs_what_targets_it() -> None:
    reference = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "gw"}
    proxy = Proxy(
        type=ProxyType.ROUTER,
        namespace="istio-system",
        addresses=("2.2.2.2",),
        labels=FrozenMap({"istio": "ingressgateway", "gateway.networking.k8s.io/gateway-name": "gw"}),
    )
    documents = (plugin("x", targetRefs=[reference]), script("y", targetRefs=[reference | {"name": "other"}]))
    assert [short(names) for names in http_filters(run(*documents, proxy=proxy), "0.0.0.0_80")] == [["x"]]
    assert [short(names) for names in http_filters(run(*documents, proxy=GATEWAY), "0.0.0.0_80")] == [[]]
    assert [short(names) for names in http_filters(run(*documents), "0.0.0.0_80")] == [[]]


def test_a_module_that_was_fetched_travels_in_the_content() -> None:
    spec = {
        "pluginName": "root",
        "pluginConfig": {"b": [1, {"c": True}], "a": "x"},
        "vmConfig": {"env": [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": "HOST"}]},
    }
    config = content(run(plugin("x", **spec)), WASM_NAME)["config"]
    vm = config["vm_config"]
    assert (config["name"], config["root_id"]) == ("istio-system.x", "root")
    assert config["failure_policy"] == "FAIL_CLOSED"
    assert json.loads(config["configuration"]["value"]) == spec["pluginConfig"]
    assert vm["runtime"] == "envoy.wasm.runtime.v8"
    assert vm["code"]["local"]["inline_bytes"]
    assert vm["environment_variables"] == {"key_values": {"A": "1"}, "host_env_keys": ["B"]}


def test_a_module_on_the_proxys_host_is_read_there() -> None:
    config = content(run(plugin("x", url="file:///opt/a%20b.wasm", failStrategy="FAIL_RELOAD")), WASM_NAME)["config"]
    assert config["vm_config"]["code"] == {"local": {"filename": "/opt/a b.wasm"}}
    assert config["failure_policy"] == "FAIL_RELOAD"


@pytest.mark.parametrize(("strategy", "denies"), [("FAIL_CLOSE", True), ("FAIL_RELOAD", True), ("FAIL_OPEN", False)])
def test_without_its_module_a_plugin_fails_as_it_says(strategy: str, denies: bool) -> None:
    found = run(plugin("x", failStrategy=strategy), modules=Modules())
    config = content(found, WASM_NAME)
    assert ("extension-not-received" in config.get("rules", {}).get("policies", {})) is denies
    asked = next(
        item
        for chain in found.listener("0.0.0.0_80")["filter_chains"]
        for item in chain["filters"][0]["typed_config"]["http_filters"]
        if item["name"] == WASM_NAME
    )
    assert ("rules" in asked["config_discovery"]["default_config"]) is denies


def test_a_new_configuration_changes_the_content_alone() -> None:
    memo = Memo()
    one = run(plugin("x", pluginConfig={"a": 1}), memo=memo).resources
    two = run(plugin("x", pluginConfig={"a": 2}), memo=memo).resources
    assert {r.name: r.version for r in one.all_of(LISTENER)} == {r.name: r.version for r in two.all_of(LISTENER)}
    before, after = one.get(EXTENSION, WASM_NAME), two.get(EXTENSION, WASM_NAME)
    assert before is not None
    assert after is not None
    assert before.version != after.version


def test_a_network_plugin_stands_in_every_chain_before_its_end() -> None:
    found = run(plugin("x", type="NETWORK", match=[{"mode": "SERVER"}]), plugin("y", type="NETWORK", phase="AUTHZ"))
    for names in network_filters(found, "virtualInbound"):
        assert names[-2] == WASM_NAME
        if "policy.tcp.deny" in names:
            assert names[0].endswith(".y")
    assert all(WASM_NAME not in names for names in network_filters(found, "10.0.0.5_3306"))


def test_patches_find_the_filters_of_extensions() -> None:
    change = patch("HTTP_FILTER", "INSERT_BEFORE", lua(), listener=http_filter(WASM_NAME))
    (names,) = http_filters(run(plugin("x"), envoy_filter(change)), "0.0.0.0_80")
    assert names[-3:] == ["mine", WASM_NAME, ROUTER]


def test_who_runs_no_extension_shares_the_tables_of_all_others() -> None:
    memo = Memo()
    selected = plugin("x", namespace="other")
    assert run(selected, memo=memo).resources == run(memo=memo).resources


def judged(envoy: Path, found: Compiled) -> str:
    trial = trial_of(compile_plain(found.view, Memo()), found.resources)
    assert isinstance(trial, Resources)
    return asyncio.run(EnvoyCheck(envoy=envoy).judge(trial))


@pytest.mark.envoy
@pytest.mark.parametrize("proxy", [SIDECAR, GATEWAY], ids=["sidecar", "gateway"])
def test_envoy_takes_extensions(envoy: Path, proxy: Proxy) -> None:
    documents = (
        plugin("a", phase="AUTHN", pluginConfig={"a": 1}, vmConfig={"env": [{"name": "A", "value": "1"}]}),
        plugin("b", type="NETWORK", failStrategy="FAIL_OPEN"),
        plugin("c", url="http://nowhere.example/x.wasm"),
        plugin("d", url="http://nowhere.example/x.wasm", type="NETWORK", failStrategy="FAIL_RELOAD"),
        script("e", phase="AUTHZ"),
    )
    assert judged(envoy, run(*documents, proxy=proxy)) == ""


@pytest.mark.envoy
@pytest.mark.parametrize(
    "document",
    [
        extension("TrafficExtension", "x", lua={"inlineCode": "function ("}),
        plugin("x", url="https://bad.example/"),
        plugin("x", url="file:///no/such/module.wasm"),
    ],
    ids=["lua", "wasm", "file"],
)
def test_envoy_refuses_code_that_is_none(envoy: Path, document: str) -> None:
    broken = ModuleKey(url="https://bad.example/")
    said = judged(envoy, run(document, modules=Modules(fetched=FrozenMap({broken: module_of(b"not wasm")}))))
    print(said)
    assert said


def test_offline_every_module_is_taken_to_be_there() -> None:
    found = compiled(*SERVICES, plugin("x"))
    assert "rules" in content(found, WASM_NAME)
    assumed = run(plugin("x"), modules=Modules(assumed=True))
    assert content(assumed, WASM_NAME)["config"]["vm_config"]["code"] == {"local": {"filename": URL}}
