"""What Istio's API offers and this version does not act on: one table, to be made shorter.

Whoever writes such a field is told so; it is never passed over in silence. A pattern is a path from the spec:
`[]` is any item of a list and `{}` any entry of a map; `=A|B` limits it to values (`*` at the end of one is a
wildcard). A field set to what it would be anyway (false, 0, an empty string or list) says nothing and is let pass.

Invariant: a field without a pattern here is acted on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

from gossamer.api.common import json_name
from gossamer.api.extension_provider import MeshExtensionProvider
from gossamer.api.findings import At
from gossamer.api.mesh_config import MeshConfig
from gossamer.api.no_effect import NO_EFFECT
from gossamer.api.positions import Path
from gossamer.api.proxy_config import ProxyConfig
from gossamer.api.rules.common import written
from gossamer.api.structure import describe
from gossamer.core.diagnostics import Severity


def _all_but(
    supported: frozenset[str],
    message: type[MeshConfig | ProxyConfig | MeshExtensionProvider],
    prefix: str = "",
) -> tuple[str, ...]:
    names = (json_name(item.name) for item in fields(message))
    return tuple(prefix + name for name in names if name not in supported)


_SUPPORTED_MESH: Final = frozenset((
    "connectTimeout", "protocolDetectionTimeout", "tcpKeepalive", "h2UpgradePolicy",
    "accessLogFile", "accessLogFormat", "accessLogEncoding",
    "outboundTrafficPolicy", "inboundTrafficPolicy", "discoverySelectors", "serviceEntryVisibility", "dnsRefreshRate",
    "proxyHttpPort",
    "enableAutoMtls", "trustDomain", "trustDomainAliases", "rootNamespace",
    "defaultServiceExportTo", "defaultVirtualServiceExportTo", "defaultDestinationRuleExportTo",
    "pathNormalization", "defaultHttpRetryPolicy", "defaultTrafficPolicy", "defaultConfig",
    "localityLbSetting", "zoneAwareLbSetting",
    "ingressClass", "ingressSelector", "ingressControllerMode",
    "extensionProviders", *NO_EFFECT["MeshConfig"],
))  # fmt: skip
_AUTHORIZERS: Final = frozenset(("name", "envoyExtAuthzHttp", "envoyExtAuthzGrpc"))
"""Of the extension providers, those that decide about requests."""
_SUPPORTED_PROXY: Final = frozenset((
    "concurrency", "proxyMetadata", "runtimeValues", "statsdUdpAddress", "terminationDrainDuration",
    "fileFlushInterval", "fileFlushMinSizeKb", "connectionSettings", "gatewayTopology", "proxyHeaders",
    *(path.removeprefix("defaultConfig.") for path in NO_EFFECT["MeshConfig"] if path.startswith("defaultConfig.")),
))  # fmt: skip

UNSUPPORTED: Final[Mapping[str, tuple[str, ...]]] = {
    "Gateway.gateway.networking.k8s.io": (
        "tls",
        "allowedListeners",
        "defaultScope",
        "listeners[].tls.frontendValidation",
    ),
    "HTTPRoute": (
        "useDefaultGateways",
        "rules[].filters[].type=ExternalAuth|ExtensionRef",
        "rules[].backendRefs[].filters[].type=RequestMirror|RequestRedirect|URLRewrite|CORS|ExternalAuth|ExtensionRef",
        "rules[].sessionPersistence",
    ),
    "MeshConfig": (
        *_all_but(_SUPPORTED_MESH, MeshConfig),
        *_all_but(_AUTHORIZERS, MeshExtensionProvider, "extensionProviders[]."),
        "meshMTLS",
        *_all_but(_SUPPORTED_PROXY, ProxyConfig, "defaultConfig."),
        "defaultConfig.connectionSettings.listenerConnectionLimit",
    ),
}

WARNED: Final = frozenset(("AuthorizationPolicy", "RequestAuthentication", "MeshConfig"))
"""Of these kinds what is not acted on is a warning, not an error: policies deny what they select, so nothing gets
through, and a setting of the mesh is left out."""

NO_EFFECT_YET: Final = frozenset((
    "Telemetry",
))  # fmt: skip
"""Kinds, by `Kind.identity`, that are read and checked while nothing acts on them; delete one when something does."""


@dataclass(slots=True)
class _Node:
    """A step of the patterns that share a beginning."""

    children: dict[str, _Node] = field(default_factory=dict)
    values: tuple[str, ...] | None = None
    """Of the patterns that end here, the values that are meant; an empty tuple means all."""


def _plant(patterns: Iterable[str]) -> _Node:
    root = _Node()
    for pattern in patterns:
        path, _, values = pattern.partition("=")
        node = root
        for step in path.replace("[]", ".[]").replace("{}", ".{}").split("."):
            node = node.children.setdefault(step, _Node())
        node.values = tuple(values.split("|")) if values else ()
    return root


_TREES: Final = {kind: _plant(patterns) for kind, patterns in UNSUPPORTED.items()}
_IDLE: Final = {kind: _plant(reasons) for kind, reasons in NO_EFFECT.items()}


def check_support(kind: str, raw_spec: Any, at: At) -> bool:
    """Say of each field in a spec, as it was written, that this version does not act on it, or that it cannot have an
    effect; returns whether there is one of the former."""
    found = At(at.path)
    if kind in _TREES:
        _walk(_TREES[kind], raw_spec, found)
    severity = Severity.WARNING if kind in WARNED else Severity.ERROR
    at.findings.extend(replace(finding, severity=severity) for finding in found.findings)
    idle = At(at.path)
    if kind in _IDLE:
        _walk(_IDLE[kind], raw_spec, idle)
    for finding in idle.findings:
        at[finding.path[len(at.path) :]].info("no-effect", _reason(kind, finding.path[len(at.path) :]))
    return bool(found.findings)


def _reason(kind: str, path: Path) -> str:
    pattern = "".join("[]" if isinstance(step, int) else f".{json_name(step)}" for step in path).removeprefix(".")
    return f"{path[-1]} has no effect: {NO_EFFECT[kind][pattern]}"


def _walk(node: _Node, value: Any, at: At) -> None:
    for step, child in node.children.items():
        if step == "[]":
            for index, item in enumerate(value if isinstance(value, list) else ()):
                _visit(child, item, at[index])
        elif step == "{}":
            for key, item in value.items() if isinstance(value, dict) else ():
                _visit(child, item, at[key])
        else:
            _visit(child, written(value, step), at[step])


def _visit(node: _Node, value: Any, at: At) -> None:
    if node.values is not None:
        _judge(node, value, at)
    if node.children and value is not None:
        _walk(node, value, at)


def _judge(node: _Node, value: Any, at: At) -> None:
    name = at.path[-1]
    if not node.values:
        if value is not None and value not in (False, 0, "", []):
            at.error("unsupported-field", f'"{name}" is not supported yet', on_key=True)
    elif isinstance(value, str) and any(
        value.startswith(wanted[:-1]) if wanted.endswith("*") else value == wanted for wanted in node.values
    ):
        at.error("unsupported-field", f"{name}: {describe(value)} is not supported yet")
