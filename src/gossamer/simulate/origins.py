"""Reads from Envoy's configuration which user resource made it.

Invariant: what cannot be read is no origin; this never fails. Routes, virtual hosts and filter chains carry their
origins as text in metadata (filter `gossamer`, key `origins`), policies have theirs in their names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from envoy.config.core.v3.base_pb2 import Metadata

from gossamer.core.ids import Origin, ResourceId

SPACE: Final = "gossamer"
_ORIGIN: Final = re.compile(r"(?P<kind>\S+) (?:(?P<namespace>[^\s/]+)/)?(?P<name>\S+)(?: (?P<rule>.+))?")
_POLICY: Final = re.compile(r"ns\[(?P<namespace>[^\]]*)\]-(?P<kind>\w+)\[(?P<name>[^\]]*)\](?:-rule\[(?P<rule>\d+)\])?")


def origins_in(metadata: Metadata) -> tuple[Origin, ...]:
    """The origins that a route, virtual host, filter chain or cluster carries."""
    if SPACE not in metadata.filter_metadata:
        return ()
    listed = metadata.filter_metadata[SPACE].fields.get("origins")
    texts = [value.string_value for value in listed.list_value.values] if listed is not None else []
    return tuple(origin for origin in map(parse_origin, texts) if origin is not None)


def parse_origin(text: str) -> Origin | None:
    """The inverse of `str(origin)`; None for what is no origin."""
    found = _ORIGIN.fullmatch(text)
    if not found:
        return None
    resource = ResourceId(kind=found["kind"], namespace=found["namespace"] or "", name=found["name"])
    return Origin(resource=resource, rule=found["rule"] or "")


def origin_of_policy(name: str) -> tuple[Origin, ...]:
    """The AuthorizationPolicy that an RBAC policy's name (`ns[foo]-policy[bar]-rule[0]`) tells, or another kind that
    fails closed, which is called by its kind (`ns[foo]-RequestAuthentication[bar]-rule[0]`). Policies of
    CUSTOM have more around it."""
    found = _POLICY.search(name)
    if not found:
        return ()
    kind = "AuthorizationPolicy" if found["kind"] == "policy" else found["kind"]
    resource = ResourceId(kind=kind, namespace=found["namespace"], name=found["name"])
    return (Origin(resource=resource, rule=f"spec.rules[{found['rule']}]" if found["rule"] else ""),)


def merged(*groups: Iterable[Origin]) -> tuple[Origin, ...]:
    """All of them once, in order."""
    return tuple(dict.fromkeys(origin for group in groups for origin in group))
