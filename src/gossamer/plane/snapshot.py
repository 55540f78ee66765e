"""All that a running mesh is made of, so that a command can answer questions about it as the control plane would.

Invariant: whoever builds from it gets what the proxies are told. It holds what the configuration holds, Secrets too: it
is for those who may read that.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from gossamer.sources.registry import Condition

if TYPE_CHECKING:
    from gossamer.plane.control_plane import ControlPlane


def view_snapshot(plane: ControlPlane) -> dict[str, Any]:
    """The files, what was last valid, who is registered, the keys of issuers, and what Envoy took of EnvoyFilters and
    extensions (null: it is not asked); as JSON."""
    pipeline = plane.pipeline
    admitted = [[id_.kind, id_.namespace, id_.name, text] for id_, text in sorted(pipeline.admitted_texts.items())]
    return {
        "texts": dict(plane.source.latest.value.texts),
        "mesh_config": str(plane.settings.mesh_config) if plane.settings.mesh_config else None,
        "last_good": pipeline.last_good.to_bytes().decode("utf-8", "surrogatepass"),
        "profile": plane.settings.profile.value,
        "state": str(plane.settings.state),
        "lifetime_s": plane.settings.lifetime.total_seconds(),
        "plugged": plane.settings.ca_folder is not None,
        "trust_domain": plane.settings.trust_domain,
        "registrations": plane.registry.save(time.monotonic()),
        "lost": [list(key) for key, entry in plane.registry.snapshot.items() if entry.condition is Condition.LOST],
        "keys": [
            {"url": source.url, "discovered": source.discovered, "jwks": jwks}
            for source, jwks in plane.keys.keys.items()
        ],
        "admitted": admitted if pipeline.admission is not None else None,
    }
