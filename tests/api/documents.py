"""Short ways to write resources and to say what was said about them."""

from __future__ import annotations

from textwrap import dedent
from typing import Any

import yaml

from gossamer.api.load import Loaded, SourceFile, load
from gossamer.core.diagnostics import Diagnostic

GROUPS = {
    "VirtualService": "networking.istio.io/v1",
    "DestinationRule": "networking.istio.io/v1",
    "Gateway": "networking.istio.io/v1",
    "ServiceEntry": "networking.istio.io/v1",
    "WorkloadEntry": "networking.istio.io/v1",
    "AuthorizationPolicy": "security.istio.io/v1",
    "PeerAuthentication": "security.istio.io/v1",
    "RequestAuthentication": "security.istio.io/v1",
    "Sidecar": "networking.istio.io/v1",
    "WorkloadGroup": "networking.istio.io/v1",
    "EnvoyFilter": "networking.istio.io/v1alpha3",
    "ProxyConfig": "networking.istio.io/v1beta1",
    "Telemetry": "telemetry.istio.io/v1",
    "WasmPlugin": "extensions.istio.io/v1alpha1",
    "TrafficExtension": "extensions.istio.io/v1alpha1",
    "HTTPRoute": "gateway.networking.k8s.io/v1",
    "GatewayClass": "gateway.networking.k8s.io/v1",
    "ReferenceGrant": "gateway.networking.k8s.io/v1beta1",
    "Ingress": "networking.k8s.io/v1",
    "IngressClass": "networking.k8s.io/v1",
    "HealthCheck": "gossamer.io/v1",
    "EndpointSlice": "discovery.k8s.io/v1",
    "Deployment": "apps/v1",
}


def resource(kind: str, spec: Any = None, name: str = "a", **metadata: Any) -> dict[str, Any]:
    found = {"apiVersion": GROUPS.get(kind, "v1"), "kind": kind, "metadata": {"name": name, **metadata}}
    return found if spec is None else found | {"spec": spec}


class _Dumper(yaml.SafeDumper):
    """Quotes what PyYAML takes for text and Kubernetes does not."""


def _quoted(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if text in ("y", "n", "Y", "N") else None)


_Dumper.add_representer(str, _quoted)


def text_of(*resources: dict[str, Any]) -> str:
    return yaml.dump_all(resources, Dumper=_Dumper, sort_keys=False)


def file_of(text: str | dict[str, Any], name: str = "a.yaml") -> SourceFile:
    return SourceFile(name=name, text=text_of(text) if isinstance(text, dict) else dedent(text))


def load_one(text: str | dict[str, Any]) -> Loaded:
    return load([file_of(text)])


def errors_of(loaded: Loaded) -> list[Diagnostic]:
    return [diagnostic for diagnostic in loaded.diagnostics if diagnostic.is_error]


def errors(kind: str, spec: Any, **metadata: Any) -> list[tuple[str, str]]:
    """Code and path of every error in a resource."""
    return [(found.code, found.path) for found in errors_of(load_one(resource(kind, spec, **metadata)))]


def warnings(kind: str, spec: Any, **metadata: Any) -> list[tuple[str, str]]:
    """Code and path of every warning about a resource that is valid and of a kind that acts."""
    loaded = load_one(resource(kind, spec, **metadata))
    assert not errors_of(loaded), loaded.diagnostics
    return [(found.code, found.path) for found in loaded.diagnostics if found.code != "no-effect-yet"]


def spec_of(kind: str, spec: Any, attribute: str) -> Any:
    """The typed spec of a resource that has to be valid."""
    loaded = load_one(resource(kind, spec))
    assert not errors_of(loaded), loaded.diagnostics
    (found,) = getattr(loaded.config, attribute)
    return found.spec
