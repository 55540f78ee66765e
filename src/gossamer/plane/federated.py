"""How the foreign trust domains stand: for `gossamer ca status`."""

from __future__ import annotations

from typing import Any

from gossamer.api.mesh_config import MeshConfig
from gossamer.model.settings import MeshSettings
from gossamer.plane.bundles import BundleStore


def view_federated(mesh: MeshConfig, settings: MeshSettings, bundles: BundleStore) -> list[dict[str, Any]]:
    """Each, as JSON values: how many roots it has, from where, and what is wrong with these."""
    return [_row(mesh, one.domain, one.roots, bundles) for one in settings.foreign]


def _row(mesh: MeshConfig, domain: str, roots: str, bundles: BundleStore) -> dict[str, Any]:
    anchors = [one for one in mesh.ca_certificates if domain in one.trust_domains]
    urls = [one.spiffe_bundle_url for one in anchors if one.spiffe_bundle_url]
    given = ["pem"] if any(one.pem for one in anchors) else []
    return {
        "trust_domain": domain,
        "roots": roots.count("-----BEGIN CERTIFICATE-----"),
        "source": ", ".join((*given, *urls)),
        "problem": "; ".join(problem for url in urls if (problem := bundles.problem(url))),
    }
