"""EnvoyFilters as tests write them."""

from __future__ import annotations

import json
from typing import Any

LUA = "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua"
MANAGER = "envoy.filters.network.http_connection_manager"
MANAGER_TYPE = f"type.googleapis.com/{MANAGER.replace('filters', 'extensions.filters')}.v3.HttpConnectionManager"
ROUTER = "envoy.filters.http.router"


def envoy_filter(
    *patches: dict[str, Any],
    name: str = "patch",
    namespace: str = "istio-system",
    created: str = "",
    **spec: Any,
) -> str:
    """An EnvoyFilter with these patches."""
    metadata: dict[str, Any] = {"name": name, "namespace": namespace}
    if created:
        metadata["creationTimestamp"] = created
    return json.dumps(
        {
            "apiVersion": "networking.istio.io/v1alpha3",
            "kind": "EnvoyFilter",
            "metadata": metadata,
            "spec": {**spec, "configPatches": list(patches)},
        }
    )


def patch(
    apply_to: str,
    operation: str,
    value: dict[str, Any] | None = None,
    *,
    context: str = "ANY",
    filter_class: str = "",
    **match: Any,
) -> dict[str, Any]:
    """One patch; `match` is what else its match says."""
    change: dict[str, Any] = {"operation": operation}
    if value is not None:
        change["value"] = value
    if filter_class:
        change["filterClass"] = filter_class
    return {"applyTo": apply_to, "match": {"context": context, **match}, "patch": change}


def lua(name: str = "mine", code: str = "function envoy_on_request(h) end") -> dict[str, Any]:
    """An HTTP filter."""
    return {"name": name, "typed_config": {"@type": LUA, "inline_code": code}}


def http_filter(name: str) -> dict[str, Any]:
    """A listener match on one HTTP filter, or on all of them."""
    match = {"name": MANAGER, "subFilter": {"name": name}} if name else {"name": MANAGER}
    return {"filterChain": {"filter": match}}
