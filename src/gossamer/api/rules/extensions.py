"""WasmPlugin and TrafficExtension.

Rules: Istio's documentation of both, and what their CRDs enforce.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from gossamer.api.findings import At
from gossamer.api.resource import Resource
from gossamer.api.rules.common import (
    check,
    check_count,
    check_length,
    check_pattern,
    check_port,
    check_unique,
    is_written,
    written,
)
from gossamer.api.rules.targets import check_targets, check_workload_selector
from gossamer.api.traffic_extension import TrafficExtension, WasmConfig
from gossamer.api.wasm_plugin import EnvValueSource, TrafficSelector, VmConfig, WasmPlugin

SCHEMES: Final = ("http", "https", "file", "oci")
MAX_LUA: Final = 65536
"""Bytes of a Lua script."""
_SCHEME: Final = re.compile(r"([a-zA-Z][a-zA-Z0-9+.\-]*)://")
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9a-fA-F]{2})")
_LUA_ENTRY: Final = re.compile(r"\benvoy_on_(request|response)\b")


def check_wasm_plugin(resource: Resource[WasmPlugin], raw: Any, at: At) -> None:
    spec = resource.spec
    check_workload_selector(spec.selector, at["selector"])
    check_targets(spec, raw, at)
    _check_module(spec, raw, at)
    _check_match(spec.match, written(raw, "match"), at["match"])


def check_traffic_extension(resource: Resource[TrafficExtension], raw: Any, at: At) -> None:
    spec = resource.spec
    check_workload_selector(spec.selector, at["selector"])
    check_targets(spec, raw, at)
    if (spec.wasm is None) == (spec.lua is None):
        at.error("exclusive-fields", "exactly one of wasm or lua must be set")
    if spec.wasm:
        _check_module(spec.wasm, written(raw, "wasm"), at["wasm"])
    if spec.lua:
        here = at["lua", "inlineCode"]
        if check_length(spec.lua.inline_code, 1, MAX_LUA, here) and not _LUA_ENTRY.search(spec.lua.inline_code):
            here.warning("no-effect", "the script defines neither envoy_on_request nor envoy_on_response")
    _check_match(spec.match, written(raw, "match"), at["match"])


def _check_module(module: WasmPlugin | WasmConfig, raw: Any, at: At) -> None:
    if check_length(module.url, 1, len(module.url), at["url"]):
        check(url_problem(module.url), at["url"], "invalid-url")
    check_pattern(module.sha256, "|[a-f0-9]{64}", at["sha256"], "a SHA-256 has 64 digits of 0-9 and a-f")
    for name, text, most in (
        ("imagePullSecret", module.image_pull_secret, 253),
        ("pluginName", module.plugin_name, 256),
    ):
        if is_written(raw, name):
            check_length(text, 1, most, at[name])
    if module.verification_key:
        message = "signatures of modules are not verified, by Istio neither; pin the module with sha256"
        at["verificationKey"].warning("no-effect", message, on_key=True)
    if module.vm_config:
        _check_environment(module.vm_config, written(raw, "vmConfig"), at["vmConfig", "env"])


def url_problem(url: str) -> str:
    """Where a module is: http, https, file or oci, which is also meant without a scheme."""
    found = _SCHEME.match(url)
    if found and found[1].lower() not in SCHEMES:
        return f"url must have schema one of [{', '.join(SCHEMES)}], not {found[1]}"
    rest = url[found.end() :] if found else url
    place = rest.partition("#")[0]
    bad = not place or _BAD_ESCAPE.search(rest) or any(char.isspace() or not char.isprintable() for char in rest)
    try:
        urlsplit(url if found else f"oci://{url}")
    except ValueError:
        bad = True
    return f'url must have schema one of [{", ".join(SCHEMES)}] and be a URL: "{url}" is none' if bad else ""


def _check_environment(vm: VmConfig, raw: Any, at: At) -> None:
    check_count(vm.env, 256, at)
    raw_env = written(raw, "env") or []
    for index, variable in enumerate(vm.env):
        here = at[index]
        check_length(variable.name, 1, 256, here["name"])
        check_length(variable.value, 0, 2048, here["value"])
        if variable.value_from is EnvValueSource.HOST and is_written(raw_env[index], "value"):
            here["value"].error("exclusive-fields", "value may only be set when valueFrom is INLINE")
    check_unique(((variable.name, at[i, "name"]) for i, variable in enumerate(vm.env)), "variable")


def _check_match(selectors: Sequence[TrafficSelector], raw: Any, at: At) -> None:
    for index, selector in enumerate(selectors):
        raw_ports = written(raw[index], "ports") or []
        for number, port in enumerate(selector.ports):
            here = at[index, "ports", number]
            if is_written(raw_ports[number], "number"):
                check_port(port.number, here["number"])
            else:
                here["number"].error("required", "Required value: a port is chosen by its number")
        check_unique(((port.number, at[index, "ports", i]) for i, port in enumerate(selector.ports)), "port")
