"""WasmPlugin and TrafficExtension: code of users' own in a proxy's filter chains.

Invariant: every field of Istio's API is here, under its JSON name in snake_case; nothing is interpreted.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gossamer.api.common import STRICT, Int32, JsonMap, PolicyTargetReference, PortSelector, WorkloadSelector


class PluginPhase(StrEnum):
    UNSPECIFIED_PHASE = "UNSPECIFIED_PHASE"
    AUTHN = "AUTHN"
    AUTHZ = "AUTHZ"
    STATS = "STATS"


class ExecutionPhase(StrEnum):
    UNSPECIFIED = "UNSPECIFIED"
    AUTHN = "AUTHN"
    AUTHZ = "AUTHZ"
    STATS = "STATS"


class PullPolicy(StrEnum):
    UNSPECIFIED_POLICY = "UNSPECIFIED_POLICY"
    IfNotPresent = "IfNotPresent"
    Always = "Always"


class FailStrategy(StrEnum):
    FAIL_CLOSE = "FAIL_CLOSE"
    FAIL_OPEN = "FAIL_OPEN"
    FAIL_RELOAD = "FAIL_RELOAD"


class PluginType(StrEnum):
    UNSPECIFIED_PLUGIN_TYPE = "UNSPECIFIED_PLUGIN_TYPE"
    HTTP = "HTTP"
    NETWORK = "NETWORK"


class EnvValueSource(StrEnum):
    INLINE = "INLINE"
    HOST = "HOST"


class WorkloadMode(StrEnum):
    UNDEFINED = "UNDEFINED"
    CLIENT = "CLIENT"
    SERVER = "SERVER"
    CLIENT_AND_SERVER = "CLIENT_AND_SERVER"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvVar:
    """`vmConfig.env[]`."""

    name: str
    value_from: EnvValueSource = EnvValueSource.INLINE
    value: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VmConfig:
    """`vmConfig`."""

    env: tuple[EnvVar, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficSelector:
    """`match[]`."""

    mode: WorkloadMode = WorkloadMode.CLIENT_AND_SERVER
    ports: tuple[PortSelector, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WasmPlugin:
    """`WasmPlugin.spec`."""

    __pydantic_config__ = STRICT
    url: str
    selector: WorkloadSelector | None = None
    target_ref: PolicyTargetReference | None = None
    target_refs: tuple[PolicyTargetReference, ...] = ()
    sha256: str = ""
    image_pull_policy: PullPolicy = PullPolicy.UNSPECIFIED_POLICY
    image_pull_secret: str = ""
    verification_key: str = ""
    plugin_config: JsonMap | None = None
    plugin_name: str = ""
    phase: PluginPhase = PluginPhase.UNSPECIFIED_PHASE
    priority: Int32 | None = None
    fail_strategy: FailStrategy = FailStrategy.FAIL_CLOSE
    vm_config: VmConfig | None = None
    match: tuple[TrafficSelector, ...] = ()
    type: PluginType = PluginType.UNSPECIFIED_PLUGIN_TYPE


@dataclass(frozen=True, slots=True, kw_only=True)
class WasmConfig:
    """`TrafficExtension.wasm`."""

    url: str
    sha256: str = ""
    image_pull_policy: PullPolicy = PullPolicy.UNSPECIFIED_POLICY
    image_pull_secret: str = ""
    verification_key: str = ""
    plugin_config: JsonMap | None = None
    plugin_name: str = ""
    fail_strategy: FailStrategy = FailStrategy.FAIL_CLOSE
    vm_config: VmConfig | None = None
    type: PluginType = PluginType.UNSPECIFIED_PLUGIN_TYPE


@dataclass(frozen=True, slots=True, kw_only=True)
class LuaConfig:
    """`TrafficExtension.lua`."""

    inline_code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficExtension:
    """`TrafficExtension.spec`."""

    __pydantic_config__ = STRICT
    selector: WorkloadSelector | None = None
    target_refs: tuple[PolicyTargetReference, ...] = ()
    phase: ExecutionPhase = ExecutionPhase.UNSPECIFIED
    priority: Int32 | None = None
    match: tuple[TrafficSelector, ...] = ()
    wasm: WasmConfig | None = None
    lua: LuaConfig | None = None
