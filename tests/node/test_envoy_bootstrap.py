"""The compiled bootstrap, as a real Envoy takes it."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from gossamer.compile.bootstrap import BootstrapSettings, compile_bootstrap, node_id
from gossamer.compile.patches.bootstrap import BootstrapPatch
from gossamer.core.frozen import FrozenMap
from gossamer.model.proxy import Capture, CaptureMode, Proxy, ProxyType
from gossamer.model.started import ProxySettings

SIDECAR = Proxy(
    type=ProxyType.SIDECAR,
    namespace="shop",
    name="reviews-v1",
    labels=FrozenMap({"app": "reviews"}),
    addresses=("100.64.1.2", "fd00:6705::1"),
    locality="europe/north",
)
GATEWAY = Proxy(
    type=ProxyType.ROUTER, namespace="istio-system", name="ingress", capture=Capture(mode=CaptureMode.EXPLICIT)
)
SETTINGS = BootstrapSettings(xds_socket="/run/x/xds.sock", sds_socket="/run/x/sds.sock", admin_socket="/run/x/a.sock")


def test_who_it_is() -> None:
    assert node_id(SIDECAR, "cluster.local") == "sidecar~100.64.1.2~reviews-v1.shop~shop.svc.cluster.local"
    assert node_id(GATEWAY, "mesh.test") == "router~127.0.0.1~ingress.istio-system~istio-system.svc.mesh.test"
    node = json.loads(compile_bootstrap(SIDECAR, SETTINGS))["node"]
    assert node["cluster"] == "reviews-v1.shop"
    assert node["locality"] == {"region": "europe", "zone": "north"}
    assert node["metadata"]["LABELS"] == {"app": "reviews"}


def test_equal_arguments_give_equal_text() -> None:
    turned = Proxy(
        type=SIDECAR.type,
        namespace="shop",
        name="reviews-v1",
        labels=FrozenMap({"z": "1", "app": "reviews"}),
    )
    same = Proxy(
        type=SIDECAR.type,
        namespace="shop",
        name="reviews-v1",
        labels=FrozenMap({"app": "reviews", "z": "1"}),
    )
    assert compile_bootstrap(turned, SETTINGS) == compile_bootstrap(same, SETTINGS)


def test_it_opens_no_port() -> None:
    text = compile_bootstrap(SIDECAR, SETTINGS)
    assert "socket_address" not in text
    ready = BootstrapSettings(xds_socket="x", sds_socket="s", admin_socket="a", ready_port=15021)
    (listener,) = json.loads(compile_bootstrap(SIDECAR, ready))["static_resources"]["listeners"]
    assert listener["address"]["socket_address"] == {"address": "127.0.0.1", "port_value": 15021}
    inside = replace(ready, ready_address="0.0.0.0", ready_network="/run/netns/a")
    (listener,) = json.loads(compile_bootstrap(SIDECAR, inside))["static_resources"]["listeners"]
    assert listener["address"]["socket_address"]["network_namespace_filepath"] == "/run/netns/a"


@pytest.mark.envoy
@pytest.mark.parametrize("proxy", [SIDECAR, GATEWAY], ids=["sidecar", "gateway"])
@pytest.mark.parametrize("ready_port", [0, 15021])
def test_envoy_takes_it(proxy: Proxy, ready_port: int, tmp_path: Path, envoy: Path) -> None:
    settings = BootstrapSettings(
        xds_socket="/run/x.sock", sds_socket="/run/s.sock", admin_socket="/run/a.sock", ready_port=ready_port
    )
    file = tmp_path / "bootstrap.json"
    file.write_text(compile_bootstrap(proxy, settings))
    done = subprocess.run(
        [envoy, "--mode", "validate", "--config-path", file], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr


STARTED = ProxySettings(
    environment=FrozenMap({"ISTIO_META_TIER": "gold", "OTHER": "x"}),
    runtime=FrozenMap({"envoy.reloadable_features.x": "false", "a.number": "5"}),
    statsd="127.0.0.1:8125",
    max_connections=99,
)
PATCHES = (
    BootstrapPatch(value='{"stats_flush_interval": "3s", "node": {"id": "somebody else"}, "admin": {}}'),
    BootstrapPatch(value='{"static_resources": {"clusters": [{"name": "mine"}]}}'),
    BootstrapPatch(value='{"layered_runtime": {"layers": [{"name": "mine", "static_layer": {"x": 1}}]}}'),
)


def test_settings_and_patches_are_in_it() -> None:
    text = compile_bootstrap(SIDECAR, SETTINGS, STARTED, PATCHES)
    found = json.loads(text)
    assert found["node"]["metadata"]["TIER"] == "gold"
    assert "OTHER" not in found["node"]["metadata"]
    assert found["layered_runtime"]["layers"][0]["static_layer"]["a.number"] == "5"
    assert [layer["name"] for layer in found["layered_runtime"]["layers"]] == ["gossamer", "admin", "mine"]
    assert found["stats_sinks"][0]["typed_config"]["address"]["socket_address"]["port_value"] == 8125
    assert "99" in json.dumps(found["overload_manager"])
    assert found["stats_flush_interval"] == "3s"
    assert [cluster["name"] for cluster in found["static_resources"]["clusters"]][-1] == "mine"
    assert found["node"]["id"] == node_id(SIDECAR, "cluster.local"), "who it is is not for a patch to say"
    assert found["admin"] == json.loads(compile_bootstrap(SIDECAR, SETTINGS))["admin"]


def test_lists_are_replaced_where_a_patch_asks_for_it() -> None:
    one = BootstrapPatch(value='{"layered_runtime": {"layers": [{"name": "mine"}]}}', replace_lists=True)
    layers = json.loads(compile_bootstrap(SIDECAR, SETTINGS, patches=[one]))["layered_runtime"]["layers"]
    assert layers == [{"name": "mine"}]


@pytest.mark.envoy
def test_envoy_takes_settings_and_patches(tmp_path: Path, envoy: Path) -> None:
    file = tmp_path / "bootstrap.json"
    file.write_text(compile_bootstrap(SIDECAR, SETTINGS, STARTED, PATCHES))
    done = subprocess.run(
        [envoy, "--mode", "validate", "--config-path", file], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
