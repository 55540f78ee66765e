"""TrafficExtension: a WebAssembly module or a Lua script in the proxies of some workloads.

Invariant: every field of Istio's API is here, under its JSON name in snake_case; nothing is interpreted. A plugin's
configuration is kept as JSON.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gossamer.api.common import STRICT, Int32, JsonText, PolicyTargetReference, WorkloadSelector
from gossamer.api.wasm_plugin import FailStrategy, PluginType, PullPolicy, TrafficSelector, VmConfig


class ExecutionPhase(StrEnum):
    UNSPECIFIED = "UNSPECIFIED"
    AUTHN = "AUTHN"
    AUTHZ = "AUTHZ"
    STATS = "STATS"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficExtension:
    """`TrafficExtension`."""

    __pydantic_config__ = STRICT
    selector: WorkloadSelector | None = None
    target_refs: tuple[PolicyTargetReference, ...] = ()
    phase: ExecutionPhase = ExecutionPhase.UNSPECIFIED
    priority: Int32 | None = None
    match: tuple[TrafficSelector, ...] = ()
    wasm: WasmConfig | None = None
    lua: LuaConfig | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WasmConfig:
    """`TrafficExtension.wasm`; `plugin_config` is JSON text."""

    url: str
    sha256: str = ""
    image_pull_policy: PullPolicy = PullPolicy.UNSPECIFIED_POLICY
    image_pull_secret: str = ""
    verification_key: str = ""
    plugin_config: JsonText | None = None
    plugin_name: str = ""
    fail_strategy: FailStrategy = FailStrategy.FAIL_CLOSE
    vm_config: VmConfig | None = None
    type: PluginType = PluginType.UNSPECIFIED_PLUGIN_TYPE


@dataclass(frozen=True, slots=True, kw_only=True)
class LuaConfig:
    """`TrafficExtension.lua`."""

    inline_code: str
