"""Whose certificates workloads believe beside those of the mesh's own authority: MeshConfig's `caCertificates`, and
`caCertificatesPem` of its `defaultConfig`.

Istio's rule: an anchor is for the trust domains that it names, or for all if it names none. Invariant: what is here are
anchors of domains that count as the mesh's own; whoever is of another is not let in, whatever vouches for him.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gossamer.api.mesh_config import MeshConfig
from gossamer.core.frozen import Value


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Anchors(Value):
    """The roots (PEM) that a trust domain has beside the authority's own, which count for it too."""

    domain: str
    roots: str


def build_anchors(mesh: MeshConfig, domains: Iterable[str]) -> tuple[Anchors, ...]:
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
    return tuple(found) if any(one.roots for one in found) else ()
