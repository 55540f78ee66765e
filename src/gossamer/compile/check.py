"""What is wrong with configuration, as far as it takes Envoy's types to see it.

Invariant: no diagnostic here has a position; `source_index.placed` gives it the one that is known.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gossamer.api.config import Config
from gossamer.api.resource import Resource
from gossamer.api.wasm_plugin import WasmPlugin
from gossamer.compile.patches.check import check_envoy_filter
from gossamer.core.diagnostics import Diagnostics, diagnostic_about
from gossamer.core.memo import Memo
from gossamer.model.extensions import wasm_of
from gossamer.model.images import image_of
from gossamer.model.modules import FILE, OCI, scheme_of


def check_config(config: Config, memo: Memo) -> Diagnostics:
    """What is wrong with the EnvoyFilters and extensions of a configuration."""
    found = [memo(check_envoy_filter, resource) for resource in config.envoy_filters]
    extensions: tuple[Resource[Any], ...] = (*config.wasm_plugins, *config.traffic_extensions)
    found += [memo(check_extension, resource) for resource in extensions]
    return tuple(diagnostic for group in found for diagnostic in group)


def check_extension(resource: Resource[Any]) -> Diagnostics:
    """What of a WasmPlugin or TrafficExtension is not acted on."""
    return tuple(diagnostic_about(resource.id, code, path, message) for code, path, message in _findings(resource))


def _findings(resource: Resource[Any]) -> Iterator[tuple[str, str, str]]:
    for index, reference in enumerate(resource.spec.target_refs):
        if reference.kind not in ("Gateway", "GatewayClass"):
            message = f"a {reference.kind} is served by waypoints, which this mesh has none of: no proxy is selected"
            yield "extension-without-effect", f"spec.targetRefs[{index}]", message
    wasm = wasm_of(resource)
    if wasm is None:
        return
    prefix = "spec" if isinstance(resource.spec, WasmPlugin) else "spec.wasm"
    scheme = scheme_of(wasm.url)
    if scheme == OCI and image_of(wasm.url) is None:
        message = "this names no image: write oci://HOST/REPOSITORY:TAG, or oci://HOST/REPOSITORY@sha256:DIGEST"
        yield "module-not-fetched", f"{prefix}.url", message
    if wasm.image_pull_secret and scheme != OCI:
        message = "imagePullSecret is for OCI images: nothing is authenticated with it"
        yield "extension-without-effect", f"{prefix}.imagePullSecret", message
    if wasm.sha256 and scheme == FILE:
        message = "a file is read by the proxy on its host, where nothing compares its SHA-256"
        yield "extension-without-effect", f"{prefix}.sha256", message
