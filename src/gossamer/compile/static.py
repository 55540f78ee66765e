"""All of a proxy's resources in one static bootstrap, which `envoy --mode validate` reads without a network.

Invariant: what Envoy would fetch stands inline: routes, policies and endpoints as compiled, secrets as a stub, as the
real ones never come here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from gossamer.compile.agent_clusters import SDS_CLUSTER
from gossamer.compile.to_json import Json, resources_to_json
from gossamer.core.resources import Resources


@dataclass(frozen=True, slots=True, kw_only=True)
class Stub:
    """A certificate, its key and the CA that signed it (PEM texts), that stand for every secret."""

    certificate: str
    key: str
    authority: str


_AGENT: Json = {"name": SDS_CLUSTER, "type": "STATIC", "load_assignment": {"cluster_name": SDS_CLUSTER}}
"""The agent, whom listeners tell what they have seen: a cluster of every bootstrap."""


def compile_static(resources: Resources, stub: Stub) -> str:
    """The bootstrap as JSON: listeners open nothing while it is only validated."""
    compiled = resources_to_json(resources)
    routes = {table["name"]: table for table in compiled["routes"]}
    assignments = {assignment["cluster_name"]: assignment for assignment in compiled["endpoints"]}
    secrets: dict[str, Json] = {}
    listeners = [_static(_routed(listener, routes), secrets, stub) for listener in compiled["listeners"]]
    clusters = [_static(_placed(cluster, assignments), secrets, stub) for cluster in compiled["clusters"]]
    bootstrap = {
        "node": {"id": "validate", "cluster": "validate"},
        "static_resources": {
            "listeners": listeners,
            "clusters": [*clusters, _AGENT],
            "secrets": [secrets[name] for name in sorted(secrets)],
        },
    }
    return json.dumps(bootstrap, sort_keys=True)


def _routed(value: Any, routes: dict[str, Json]) -> Any:
    """Connection managers with their route tables inline."""
    if isinstance(value, list):
        return [_routed(item, routes) for item in value]
    if not isinstance(value, dict):
        return value
    if "rds" in value:
        name = value["rds"]["route_config_name"]
        rest = {key: item for key, item in value.items() if key != "rds"}
        return rest | {"route_config": routes.get(name, {"name": name})}
    return {key: _routed(item, routes) for key, item in value.items()}


def _placed(cluster: Json, assignments: dict[str, Json]) -> Json:
    """A cluster with its endpoints inline."""
    if cluster.get("type") != "EDS":
        return cluster
    rest = {key: item for key, item in cluster.items() if key != "eds_cluster_config"}
    assignment = assignments.get(cluster["name"], {"cluster_name": cluster["name"]})
    return rest | {"type": "STATIC", "load_assignment": assignment}


def _static(value: Any, secrets: dict[str, Json], stub: Stub) -> Any:
    """TLS contexts that name static secrets, which are put into `secrets`."""
    if isinstance(value, list):
        return [_static(item, secrets, stub) for item in value]
    if not isinstance(value, dict):
        return value
    result = {key: _static(item, secrets, stub) for key, item in value.items()}
    for config in value.get("tls_certificate_sds_secret_configs", ()):
        certificate = {"certificate_chain": _inline(stub.certificate), "private_key": _inline(stub.key)}
        secrets[config["name"]] = {"name": config["name"], "tls_certificate": certificate}
    config = value.get("validation_context_sds_secret_config")
    if config is not None:
        context = {"trusted_ca": _inline(stub.authority)}
        secrets[config["name"]] = {"name": config["name"], "validation_context": context}
    return {"name": value["name"]} if "sds_config" in value else result


def _inline(text: str) -> Json:
    return {"inline_string": text}
