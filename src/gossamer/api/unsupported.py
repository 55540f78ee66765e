"""What Istio's API offers and this version does not act on yet: one table, to be made shorter. What is turned down for
good is in `refused`, what cannot mean anything here in `no_effect`.

Whoever writes such a field is told so; it is never passed over in silence. A pattern is a path from the spec:
`[]` is any item of a list and `{}` any entry of a map; `=A|B` limits it to values (`*` at the end of one is a
wildcard). A field set to what it would be anyway (false, 0, an empty string or list) says nothing and is let pass.

Invariant: a field with no pattern here and no entry in either of these is acted on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from gossamer.api.common import json_name
from gossamer.api.findings import At
from gossamer.api.no_effect import NO_EFFECT
from gossamer.api.positions import Path
from gossamer.api.refused import REFUSED, Refusal
from gossamer.api.rules.common import written
from gossamer.api.structure import describe
from gossamer.core.diagnostics import Severity

_TELEMETRY: Final = "it is about tracing, metrics or logs by provider; traffic flows as without it"
_CLIENTS: Final = "clients' certificates are asked for by an Istio Gateway with mode MUTUAL"
_OF_BACKENDS: Final = "RequestMirror|RequestRedirect|URLRewrite|CORS|ExternalAuth|ExtensionRef"

UNSUPPORTED: Final[Mapping[str, Mapping[str, str]]] = {
    "Gateway.gateway.networking.k8s.io": {
        "tls": f"a listener's own tls says which certificates it has; {_CLIENTS}",
        "allowedListeners": "there is no ListenerSet to allow: write the listeners into the Gateway",
        "defaultScope": "no route attaches to a Gateway without naming it: write parentRefs",
        "listeners[].tls.frontendValidation": _CLIENTS,
    },
    "HTTPRoute": {
        "useDefaultGateways": "no Gateway is a default one: write parentRefs",
        "rules[].filters[].type=ExternalAuth|ExtensionRef": "an AuthorizationPolicy with action CUSTOM asks an "
        "authorizer; an EnvoyFilter, a WasmPlugin or a TrafficExtension adds a filter",
        f"rules[].backendRefs[].filters[].type={_OF_BACKENDS}": "of a backend's own filters those that change headers "
        "are applied: write the others on the rule",
        "rules[].sessionPersistence": "a DestinationRule's consistentHash by cookie keeps a client with one endpoint",
    },
    "MeshConfig": {
        **dict.fromkeys(("enableEnvoyAccessLogService", "defaultProviders"), _TELEMETRY),
        **{
            f"extensionProviders[].{name}": _TELEMETRY
            for name in (
                "zipkin", "lightstep", "datadog", "stackdriver", "opencensus", "skywalking", "opentelemetry",
                "prometheus", "envoyFileAccessLog", "envoyHttpAls", "envoyTcpAls", "envoyOtelAls",
            )
        },
        **{
            f"defaultConfig.{name}": _TELEMETRY
            for name in (
                "zipkinAddress", "envoyMetricsServiceAddress", "tracing", "envoyAccessLogService",
                "envoyMetricsService", "extraStatTags",
            )
        },
    },
}  # fmt: skip
"""By kind (`Kind.identity`) and pattern: what happens without it, or does the job instead."""

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
    said: str | Refusal = ""


def _plant(patterns: Iterable[tuple[str, str | Refusal]]) -> _Node:
    root = _Node()
    for pattern, said in patterns:
        path, _, values = pattern.partition("=")
        node = root
        for step in path.replace("[]", ".[]").replace("{}", ".{}").split("."):
            node = node.children.setdefault(step, _Node())
        node.values, node.said = tuple(values.split("|")) if values else (), said
    return root


_TREES: Final = {
    kind: _plant([*UNSUPPORTED.get(kind, {}).items(), *REFUSED.get(kind, {}).items()])
    for kind in (*UNSUPPORTED, *REFUSED)
}
_IDLE: Final = {kind: _plant(reasons.items()) for kind, reasons in NO_EFFECT.items()}


def check_support(kind: str, raw_spec: Any, at: At) -> bool:
    """Say of each field in a spec, as it was written, that nothing acts on it, or that it cannot have an effect;
    returns whether there is one of the former."""
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
    if isinstance(node.said, Refusal):
        if node.values:
            if value in node.values:
                at.error("unsupported-field", f'"{name}: {value}" is refused: {node.said.why}', node.said.instead)
        elif value is not None and value not in (False, 0, "", [], *node.said.same):
            at.error("unsupported-field", f'"{name}" is refused: {node.said.why}', node.said.instead, on_key=True)
    elif not node.values:
        if value is not None and value not in (False, 0, "", []):
            at.error("unsupported-field", f'"{name}" is not supported yet', node.said, on_key=True)
    elif isinstance(value, str) and any(
        value.startswith(wanted[:-1]) if wanted.endswith("*") else value == wanted for wanted in node.values
    ):
        at.error("unsupported-field", f"{name}: {describe(value)} is not supported yet", node.said)
