"""Reads from Envoy's configuration which user resource made it.

Invariant: what cannot be read is no origin; this never fails. Routes, virtual hosts and filter chains carry their
origins in metadata (filter `gossamer`, key `origins`: a list of kind, namespace, name, rule), policies in their names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from envoy.config.core.v3.base_pb2 import Metadata

from gossamer.core.ids import Origin, ResourceId

SPACE: Final = "gossamer"
_POLICY: Final = re.compile(r"ns\[(?P<namespace>[^\]]*)\]-policy\[(?P<name>[^\]]*)\](?:-rule\[(?P<rule>\d+)\])?")


def origins_in(metadata: Metadata) -> tuple[Origin, ...]:
    """The origins that a route, virtual host, filter chain or cluster carries."""
    if SPACE not in metadata.filter_metadata:
        return ()
    listed = metadata.filter_metadata[SPACE].fields.get("origins")
    found = []
    for value in listed.list_value.values if listed is not None else ():
        texts = {key: item.string_value for key, item in value.struct_value.fields.items()}
        resource = ResourceId(
            kind=texts.get("kind", ""), namespace=texts.get("namespace", ""), name=texts.get("name", "")
        )
        found.append(Origin(resource=resource, rule=texts.get("rule", "")))
    return tuple(found)


def origin_of_policy(name: str) -> tuple[Origin, ...]:
    """The AuthorizationPolicy that an RBAC policy's name (`ns[foo]-policy[bar]-rule[0]`) tells."""
    found = _POLICY.match(name)
    if not found:
        return ()
    resource = ResourceId(kind="AuthorizationPolicy", namespace=found["namespace"], name=found["name"])
    return (Origin(resource=resource, rule=f"spec.rules[{found['rule']}]" if found["rule"] else ""),)


def merged(*groups: Iterable[Origin]) -> tuple[Origin, ...]:
    """All of them once, in order."""
    return tuple(dict.fromkeys(origin for group in groups for origin in group))
