"""A real Envoy runs extensions, takes their changes on open connections, and fails as they say."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gossamer.api.wasm_plugin import FailStrategy
from gossamer.ca.authority import Authority
from gossamer.compile.compile import compile_proxy
from gossamer.core.ids import Origin, ResourceId
from gossamer.core.memo import Memo
from gossamer.model.extensions import Extension, Lua, Phase, Wasm
from gossamer.model.modules import Module, module_of
from tests import wasm
from tests.compile.sidecar import admin, get, until
from tests.compile.test_inbound_envoy import Sidecar, authority, running

pytestmark = pytest.mark.envoy
WASM_NAME = "extensions.istio.io/wasmplugin/foo.x"
__all__ = ["authority"]


def extension(code: Wasm | Lua, phase: Phase = Phase.END) -> Extension:
    kind = "WasmPlugin" if isinstance(code, Wasm) else "TrafficExtension"
    return Extension(
        name=f"extensions.istio.io/{kind.lower()}/foo.x",
        origin=Origin(resource=ResourceId(kind=kind, namespace="foo", name="x")),
        phase=phase,
        network=False,
        selectors=(),
        code=code,
    )


def script(value: str) -> Extension:
    return extension(Lua(code=f'function envoy_on_response(h) h:headers():add("x-lua", "{value}") end'))


def plugin(config: str, module: Module | None, fail: FailStrategy = FailStrategy.FAIL_CLOSE) -> Extension:
    return extension(Wasm(url="file:///x", config=config, module=module, fail=fail))


@pytest.fixture
def sidecar(envoy: Path, tmp_path: Path, authority: Authority) -> Iterator[Sidecar]:
    with running(envoy, tmp_path, authority, frozenset()) as found:
        yield found


def offer(sidecar: Sidecar, *extensions: Extension) -> None:
    sidecar.agent.offer(compile_proxy(replace(sidecar.view, extensions=extensions), Memo()))


def header(connection: http.client.HTTPConnection, name: str) -> str | None:
    status, _, headers = get(connection)
    return headers.get(name) if status == 200 else f"status {status}"


def fresh(sidecar: Sidecar, name: str) -> str | None:
    connection = sidecar.web.http(sidecar.http_port)
    try:
        return header(connection, name)
    finally:
        connection.close()


def test_a_script_is_changed_on_an_open_connection(sidecar: Sidecar) -> None:
    offer(sidecar, script("one"))
    until(lambda: fresh(sidecar, "x-lua") == "one", "the script")
    connection = sidecar.web.http(sidecar.http_port)
    assert header(connection, "x-lua") == "one"
    updates = [line for line in admin(sidecar.folder, "/stats").splitlines() if "listener_modified" in line]
    offer(sidecar, script("two"))
    until(lambda: header(connection, "x-lua") == "two", "the new script, on the connection that was open before", 5)
    after = [line for line in admin(sidecar.folder, "/stats").splitlines() if "listener_modified" in line]
    assert after == updates, "no listener was touched"
    connection.close()


def test_a_module_runs_with_its_configuration(sidecar: Sidecar, tmp_path: Path) -> None:
    offer(sidecar, plugin('{"a":1}', module_of(wasm.module())))
    until(lambda: fresh(sidecar, "x-wasm") == '{"a":1}', "the module")
    connection = sidecar.web.http(sidecar.http_port)
    assert header(connection, "x-wasm") == '{"a":1}'
    path = tmp_path / "on the host.wasm"
    path.write_bytes(wasm.module())
    offer(sidecar, plugin('{"a":2}', Module(path=str(path))))
    until(lambda: header(connection, "x-wasm") == '{"a":2}', "another module and configuration, on an open connection")
    connection.close()


def test_without_its_code_an_extension_denies_or_is_passed_over(sidecar: Sidecar) -> None:
    offer(sidecar, plugin("{}", None, FailStrategy.FAIL_OPEN))
    until(lambda: fresh(sidecar, "x-wasm") is None, "passed over")
    offer(sidecar, plugin("{}", None))
    until(lambda: fresh(sidecar, "x-wasm") == "status 403", "denied")
    until(lambda: "extension-not-received" in (sidecar.folder / "access.log").read_text(), "its reason in the log")
    offer(sidecar, plugin("{}", module_of(wasm.module())))
    until(lambda: fresh(sidecar, "x-wasm") == "{}", "the module, once it is there")


def test_a_module_that_does_not_start_leaves_the_one_before_in_force(sidecar: Sidecar) -> None:
    """What is tried on Envoy first would have kept it from any proxy; here is what stands behind that."""
    offer(sidecar, plugin("{}", module_of(wasm.module())))
    until(lambda: fresh(sidecar, "x-wasm") == "{}", "the module")
    offer(sidecar, plugin("{}", module_of(wasm.module(starts=False))))
    refused = f"{WASM_NAME}.update_rejected: 1"
    until(lambda: refused in admin(sidecar.folder, "/stats?filter=update_rejected"), "its refusal")
    assert fresh(sidecar, "x-wasm") == "{}"
