"""Whose certificates workloads believe beside those of the mesh's own authority: MeshConfig's `caCertificates`, and
`caCertificatesPem` of its `defaultConfig`.

Istio's rule: an anchor is for the trust domains that it names, or for the mesh's own if it names none. Invariant: what
is for one trust domain vouches for no other; whoever is of a domain that nothing is for is not let in.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from gossamer.api.mesh_config import MeshConfig
from gossamer.core.frozen import FrozenMap, Value


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Anchors(Value):
    """The roots (PEM) that a trust domain has beside the authority's own, which count for it too."""

    domain: str
    roots: str


def build_anchors(mesh: MeshConfig, domains: tuple[str, ...]) -> tuple[Anchors, ...]:
    """Those of each domain; nothing if none has any."""
    of_all = tuple(mesh.default_config.ca_certificates_pem) if mesh.default_config else ()
    found = []
    for domain in domains:
        own = [
            one.pem
            for one in mesh.ca_certificates
            if one.pem and (not one.trust_domains or domain in one.trust_domains)
        ]
        roots = "".join(f"{pem.strip()}\n" for pem in (*of_all, *own))
        found.append(Anchors(domain=domain, roots=roots))
    abroad = any(one.roots for one in build_foreign(mesh, domains))
    return tuple(found) if abroad or any(one.roots for one in found) else ()


def build_foreign(mesh: MeshConfig, own: Iterable[str]) -> tuple[Anchors, ...]:
    """Those of the trust domains that are not the mesh's own, by name; without roots, as long as none are there."""
    named = {domain for one in mesh.ca_certificates for domain in one.trust_domains} - set(own)
    return tuple(
        Anchors(
            domain=domain,
            roots="".join(
                f"{one.pem.strip()}\n" for one in mesh.ca_certificates if one.pem and domain in one.trust_domains
            ),
        )
        for domain in sorted(named)
    )


def bundle_urls(mesh: MeshConfig) -> tuple[str, ...]:
    """Where bundles are to be fetched from, sorted."""
    return tuple(sorted({one.spiffe_bundle_url for one in mesh.ca_certificates if one.spiffe_bundle_url}))


def with_bundles(mesh: MeshConfig, bundles: FrozenMap[str, str]) -> MeshConfig:
    """The same with the roots (PEM) of the bundles that are there, by URL; the same object without any."""
    if not bundles or not any(one.spiffe_bundle_url in bundles for one in mesh.ca_certificates):
        return mesh
    given = tuple(replace(one, pem=bundles.get(one.spiffe_bundle_url or "", one.pem)) for one in mesh.ca_certificates)
    return replace(mesh, ca_certificates=given)
