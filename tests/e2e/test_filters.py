"""Users' filters in a whole mesh: from a file to a running Envoy, past the one that judges them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import wasm
from tests.e2e.meshes import DOOR, GATEWAY, Place, free_port, get, place, until

CONFIG = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: door}
spec: {hosts: ["*"], gateways: [door], http: [{directResponse: {status: 200, body: {string: hello}}}]}
---
apiVersion: networking.istio.io/v1beta1
kind: ProxyConfig
metadata: {name: gateways}
spec: {selector: {matchLabels: {istio: ingressgateway}}, concurrency: 2}
"""
SCRIPT = """\
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: script}
spec:
  configPatches:
  - applyTo: HTTP_FILTER
    match:
      context: GATEWAY
      listener:
        portNumber: 80
        filterChain:
          filter:
            name: envoy.filters.network.http_connection_manager
            subFilter: {name: envoy.filters.http.router}
    patch:
      operation: INSERT_BEFORE
      value:
        name: script
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua
          inline_code: CODE
"""
PLUGIN = """\
apiVersion: extensions.istio.io/v1alpha1
kind: WasmPlugin
metadata: {name: plugin}
spec: {selector: {matchLabels: {istio: ingressgateway}}, url: "file://PATH", pluginConfig: {a: 1}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """A mesh that is a gateway alone, on `port`."""

    place: Place
    port: int

    def write(self, name: str, text: str) -> None:
        path = self.place.mesh / "config" / f"{name}.yaml"
        scratch = path.with_suffix(".new")
        scratch.write_text(text)
        scratch.replace(path)

    def header(self, name: str) -> str:
        """A header of an answer; the status where that is not 200."""
        answer = get(self.port, "/")
        return answer.headers.get(name, "") if answer.status == 200 else f"status {answer.status}"

    def diagnostics(self) -> list[dict[str, object]]:
        return list(self.place.status("control-plane").get("diagnostics", ()))


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    with place() as found:
        port = free_port()
        (found.folder("mesh") / "config").mkdir()
        (found.mesh / "gossamer.yaml").write_text(GATEWAY.replace("PORT", str(port)))
        made = Mesh(place=found, port=port)
        made.write("all", f"{DOOR}---\n{CONFIG}")
        found.up()
        until(found.ready, "ready")
        until(lambda: get(port, "/").body == "hello", "an answer")
        yield made


def script(value: str) -> str:
    code = f'function envoy_on_response(h) h:headers():add("x-script", "{value}") end'
    return SCRIPT.replace("CODE", json.dumps(code))


def test_a_filter_comes_goes_and_is_never_replaced_by_a_broken_one(mesh: Mesh) -> None:
    mesh.write("script", script("one"))
    until(lambda: mesh.header("x-script") == "one", "the filter")
    mesh.write("script", SCRIPT.replace("CODE", '"function ("'))
    until(lambda: any(one["code"] == "envoy-refuses" for one in mesh.diagnostics()), "the refusal")
    (found,) = mesh.diagnostics()
    assert (found["name"], found["path"], found["line"]) == ("script", "spec.configPatches[0]", 6)
    assert mesh.header("x-script") == "one"
    mesh.write("script", script("two"))
    until(lambda: mesh.header("x-script") == "two", "the next filter")
    assert mesh.diagnostics() == []
    (mesh.place.mesh / "config" / "script.yaml").unlink()
    until(lambda: mesh.header("x-script") == "", "its end")


def test_a_module_runs(mesh: Mesh) -> None:
    module = mesh.place.mesh / "plugin.wasm"
    module.write_bytes(wasm.module())
    mesh.write("plugin", PLUGIN.replace("PATH", str(module)))
    until(lambda: mesh.header("x-wasm") == '{"a":1}', "the module")


def test_a_gateway_has_the_threads_that_are_asked_for(mesh: Mesh) -> None:
    pid = int(mesh.place.row("default/ingress")["envoy_pid"])
    arguments = (Path("/proc") / str(pid) / "cmdline").read_bytes().split(b"\0")
    assert arguments[arguments.index(b"--concurrency") + 1] == b"2"
