"""WasmPlugin: a WebAssembly module in the proxies of some workloads.

Invariant: every field of Istio's API is here, under its JSON name in snake_case; nothing is interpreted. The plugin's
configuration is kept as JSON.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gossamer.api.common import STRICT, Int32, JsonText, PolicyTargetReference, PortSelector, WorkloadSelector


class PullPolicy(StrEnum):
    UNSPECIFIED_POLICY = "UNSPECIFIED_POLICY"
    IF_NOT_PRESENT = "IfNotPresent"
    ALWAYS = "Always"


class PluginPhase(StrEnum):
    UNSPECIFIED_PHASE = "UNSPECIFIED_PHASE"
    AUTHN = "AUTHN"
    AUTHZ = "AUTHZ"
    STATS = "STATS"


class FailStrategy(StrEnum):
    FAIL_CLOSE = "FAIL_CLOSE"
    FAIL_OPEN = "FAIL_OPEN"
    FAIL_RELOAD = "FAIL_RELOAD"


class PluginType(StrEnum):
    UNSPECIFIED_PLUGIN_TYPE = "UNSPECIFIED_PLUGIN_TYPE"
    HTTP = "HTTP"
    NETWORK = "NETWORK"


class WorkloadMode(StrEnum):
    UNDEFINED = "UNDEFINED"
    CLIENT = "CLIENT"
    SERVER = "SERVER"
    CLIENT_AND_SERVER = "CLIENT_AND_SERVER"


class EnvValueSource(StrEnum):
    INLINE = "INLINE"
    HOST = "HOST"


@dataclass(frozen=True, slots=True, kw_only=True)
class WasmPlugin:
    """`WasmPlugin`; `plugin_config` is JSON text."""

    __pydantic_config__ = STRICT
    selector: WorkloadSelector | None = None
    target_ref: PolicyTargetReference | None = None
    target_refs: tuple[PolicyTargetReference, ...] = ()
    url: str
    sha256: str = ""
    image_pull_policy: PullPolicy = PullPolicy.UNSPECIFIED_POLICY
    image_pull_secret: str = ""
    verification_key: str = ""
    plugin_config: JsonText | None = None
    plugin_name: str = ""
    phase: PluginPhase = PluginPhase.UNSPECIFIED_PHASE
    priority: Int32 | None = None
    fail_strategy: FailStrategy = FailStrategy.FAIL_CLOSE
    vm_config: VmConfig | None = None
    match: tuple[TrafficSelector, ...] = ()
    type: PluginType = PluginType.UNSPECIFIED_PLUGIN_TYPE


@dataclass(frozen=True, slots=True, kw_only=True)
class VmConfig:
    """`WasmPlugin.vmConfig`."""

    env: tuple[EnvVar, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvVar:
    """`WasmPlugin.vmConfig.env[]`."""

    name: str
    value_from: EnvValueSource = EnvValueSource.INLINE
    value: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficSelector:
    """`WasmPlugin.match[]`; undefined means both directions."""

    mode: WorkloadMode = WorkloadMode.UNDEFINED
    ports: tuple[PortSelector, ...] = ()
