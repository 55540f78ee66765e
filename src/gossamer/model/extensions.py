"""Which extensions (WasmPlugin, TrafficExtension) a proxy runs, in the order in which traffic meets them.

Invariant: the two kinds mean the same here: code, the place in the chain, whom and which traffic it is for. Proxies
that the same extensions select get one equal tuple. Order is Istio's: by phase, then by descending priority, then by
name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from gossamer.api.common import PolicyTargetReference
from gossamer.api.resource import Resource
from gossamer.api.traffic_extension import TrafficExtension, WasmConfig
from gossamer.api.wasm_plugin import (
    FailStrategy,
    PluginType,
    PullPolicy,
    TrafficSelector,
    VmConfig,
    WasmPlugin,
    WorkloadMode,
)
from gossamer.core.frozen import EMPTY, FrozenMap, Value
from gossamer.core.ids import Origin
from gossamer.model.attachment import is_attached
from gossamer.model.images import LATEST, image_of
from gossamer.model.modules import OCI, Module, ModuleKey, Modules, scheme_of
from gossamer.model.proxy import Proxy


class Phase(StrEnum):
    """Where in the chain of filters an extension stands, in the order of the chain."""

    AUTHN = "AUTHN"
    """Before what finds out who calls."""
    AUTHZ = "AUTHZ"
    """After that, before what decides who may."""
    STATS = "STATS"
    """After that."""
    END = "END"
    """Before what ends the chain."""


ORDER: Final = tuple(Phase)
_PHASES: Final = {
    "AUTHN": Phase.AUTHN,
    "AUTHZ": Phase.AUTHZ,
    "STATS": Phase.STATS,
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Wasm(Value):
    """A module that Envoy's V8 runs. `module` is None while it could not be had; then `fail` decides."""

    url: str
    plugin_name: str = ""
    config: str | None = None
    """JSON."""
    env: VmConfig = field(default_factory=VmConfig)
    fail: FailStrategy = FailStrategy.FAIL_CLOSE
    module: Module | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lua(Value):
    """A script; None for one that is not to be run."""

    code: str | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Extension(Value):
    """One extension of a proxy. `selectors` are the traffic that it is for, any if there are none."""

    name: str
    """Of its filter, and of the resource that brings its content."""
    origin: Origin
    phase: Phase
    network: bool
    selectors: tuple[TrafficSelector, ...]
    code: Wasm | Lua

    def is_for(self, *, client: bool, ports: Iterable[int]) -> bool:
        """Whether it is for traffic of this direction on a port that has these numbers."""
        mode = WorkloadMode.CLIENT if client else WorkloadMode.SERVER
        numbers = set(ports)
        return not self.selectors or any(
            selector.mode in (mode, WorkloadMode.CLIENT_AND_SERVER, WorkloadMode.UNDEFINED)
            and (not selector.ports or any(port.number in numbers for port in selector.ports))
            for selector in self.selectors
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Offered(Value):
    """An extension and whom it is for."""

    namespace: str
    labels: FrozenMap[str, str]
    targets: tuple[PolicyTargetReference, ...]
    extension: Extension


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExtensionIndex(Value):
    """The mesh's extensions, in their order."""

    root_namespace: str = ""
    offered: tuple[_Offered, ...] = ()

    def for_proxy(self, proxy: Proxy) -> tuple[Extension, ...]:
        """The extensions of a proxy."""
        return tuple(one.extension for one in self.offered if self._selects(one, proxy))

    def _selects(self, one: _Offered, proxy: Proxy) -> bool:
        if one.targets:
            return is_attached(one.targets, one.namespace, proxy, self.root_namespace)
        if one.namespace not in (self.root_namespace, proxy.namespace):
            return False
        return bool(one.labels.items() <= proxy.labels.items())


def build_extensions(
    plugins: tuple[Resource[WasmPlugin], ...],
    extensions: tuple[Resource[TrafficExtension], ...],
    root_namespace: str,
    modules: Modules,
) -> ExtensionIndex:
    """The index of all extensions of the mesh."""
    found = [(_order(one), _of_plugin(one, modules)) for one in plugins]
    found += [(_order(one), _of_extension(one, modules)) for one in extensions if one.spec.wasm or one.spec.lua]
    found.sort(key=lambda pair: pair[0])
    return ExtensionIndex(root_namespace=root_namespace, offered=tuple(offered for _, offered in found))


def _order(resource: Resource[WasmPlugin] | Resource[TrafficExtension]) -> tuple[int, int, str, str, str]:
    spec = resource.spec
    phase = _PHASES.get(spec.phase.value, Phase.END)
    return (ORDER.index(phase), -(spec.priority or 0), resource.name, resource.namespace, resource.id.kind)


def _of_plugin(resource: Resource[WasmPlugin], modules: Modules) -> _Offered:
    spec = resource.spec
    targets = (*spec.target_refs, *((spec.target_ref,) if spec.target_ref else ()))
    code = _wasm(resource, spec, modules)
    return _offered(resource, code, targets, network=spec.type is PluginType.NETWORK)


def _of_extension(resource: Resource[TrafficExtension], modules: Modules) -> _Offered:
    spec = resource.spec
    if spec.wasm is not None:
        network = spec.wasm.type is PluginType.NETWORK
        return _offered(resource, _wasm(resource, spec.wasm, modules), spec.target_refs, network=network)
    usable = spec.lua is not None and resource.id not in modules.broken
    code = Lua(code=spec.lua.inline_code if spec.lua and usable else None)
    return _offered(resource, code, spec.target_refs, network=False)


def _offered(
    resource: Resource[WasmPlugin] | Resource[TrafficExtension],
    code: Wasm | Lua,
    targets: tuple[PolicyTargetReference, ...],
    *,
    network: bool,
) -> _Offered:
    spec = resource.spec
    name = f"extensions.istio.io/{resource.id.kind.lower()}/{resource.namespace}.{resource.name}"
    return _Offered(
        namespace=resource.namespace,
        labels=spec.selector.match_labels if spec.selector else EMPTY,
        targets=targets,
        extension=Extension(
            name=name,
            origin=Origin(resource=resource.id),
            phase=_PHASES.get(spec.phase.value, Phase.END),
            network=network,
            selectors=spec.match,
            code=code,
        ),
    )


def _wasm(resource: Resource[Any], spec: WasmPlugin | WasmConfig, modules: Modules) -> Wasm:
    return Wasm(
        url=spec.url,
        plugin_name=spec.plugin_name,
        config=spec.plugin_config,
        env=spec.vm_config or VmConfig(),
        fail=spec.fail_strategy,
        module=None if resource.id in modules.broken else modules.get(key_of(spec, resource.namespace)),
    )


def module_key(resource: Resource[Any]) -> ModuleKey | None:
    """Which module a WasmPlugin or TrafficExtension asks for; None for one that asks for none."""
    wasm = wasm_of(resource)
    return None if wasm is None else key_of(wasm, resource.namespace)


def key_of(spec: WasmPlugin | WasmConfig, namespace: str) -> ModuleKey:
    """Which module a plugin of a namespace asks for. Istio's rule, and Kubernetes': an image that is `latest` is pulled
    anew unless its plugin says otherwise; what has a digest is pulled once, whatever it says."""
    image = image_of(spec.url) if scheme_of(spec.url) == OCI else None
    always = spec.image_pull_policy is PullPolicy.ALWAYS
    if image is not None and spec.image_pull_policy is PullPolicy.UNSPECIFIED_POLICY:
        always = image.tag == LATEST
    pinned = bool(spec.sha256 or (image is not None and image.digest))
    return ModuleKey(
        url=spec.url,
        sha256=spec.sha256,
        always=always and not pinned,
        secret=f"{namespace}/{spec.image_pull_secret}" if image is not None and spec.image_pull_secret else "",
    )


def wasm_of(resource: Resource[Any]) -> WasmPlugin | WasmConfig | None:
    """The Wasm part of a resource; None for one that has none."""
    spec = resource.spec
    if isinstance(spec, TrafficExtension):
        return spec.wasm
    return spec if isinstance(spec, WasmPlugin) else None
