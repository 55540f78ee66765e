"""Rules that a VirtualService leaves to another one: delegation, joined into rules like any others.

Rules: Istio's documentation of `delegate`. A delegate has no hosts and no gateways, is found by name in the namespace
that is named (else the root's), must be exported to the root's namespace, and does not delegate in its turn. Its rules
stand where the root's rule stood, with both matches; what they leave unsaid is the root's. A rule whose match cannot be
within its root's does not take effect.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from gossamer.api.resource import Resource
from gossamer.api.virtual_service import HeaderOperations, Headers, HTTPRoute, VirtualService
from gossamer.core.frozen import EMPTY, FrozenMap
from gossamer.model.match_merge import joined_matches
from gossamer.model.names import exported
from gossamer.model.routing import HttpRule, Routing

ByName = Mapping[tuple[str, str], Routing]
"""Delegates by namespace and name."""

_INHERITED: Final = ("rewrite", "timeout", "retries", "fault", "cors_policy")


def delegates_of(root: Resource[VirtualService], delegates: ByName) -> tuple[Routing, ...]:
    """The delegates that a VirtualService names and may use, once each."""
    named = (
        delegates.get((rule.delegate.namespace or root.namespace, rule.delegate.name))
        for rule in root.spec.http
        if rule.delegate is not None
    )
    usable = (found for found in named if found is not None and exported(found.export_to, root.namespace))
    return tuple(dict.fromkeys(usable))


def with_delegates(rules: Iterable[HttpRule], namespace: str, delegates: tuple[Routing, ...]) -> Iterator[HttpRule]:
    """The rules, those that delegate replaced by their delegates'."""
    by_name = {(found.id.namespace, found.id.name): found for found in delegates}
    for rule in rules:
        delegate = rule.spec.delegate
        if delegate is None:
            yield rule
            continue
        found = by_name.get((delegate.namespace or namespace, delegate.name))
        for part in found.http if found is not None else ():
            joined = _joined(rule, part)
            if joined is not None:
                yield joined


def _joined(root: HttpRule, part: HttpRule) -> HttpRule | None:
    if part.spec.delegate is not None:  # one level only
        return None
    match = joined_matches(root.spec.match, part.spec.match)
    if match is None:
        return None
    inherited: dict[str, Any] = {
        name: getattr(root.spec, name) for name in _INHERITED if getattr(part.spec, name) is None
    }
    spec = replace(
        part.spec,
        name="-".join(name for name in (root.spec.name, part.spec.name) if name),
        match=match,
        headers=_headers(root.spec.headers, part.spec.headers),
        **_mirrors(root.spec, part.spec),
        **inherited,
    )
    return replace(root, spec=spec, origin=part.origin, via=root.origin)


def _mirrors(root: HTTPRoute, part: HTTPRoute) -> dict[str, Any]:
    """A delegate's mirrors stand for the root's, with their percentages."""
    if part.mirror is not None or part.mirrors:
        return {}
    names = ("mirror", "mirrors", "mirror_percent", "mirror_percentage")
    return {name: getattr(root, name) for name in names}


def _headers(root: Headers | None, part: Headers | None) -> Headers | None:
    """The edits of both; of one header the delegate's."""
    if root is None or part is None:
        return part or root
    return Headers(request=_operations(root.request, part.request), response=_operations(root.response, part.response))


def _operations(root: HeaderOperations | None, part: HeaderOperations | None) -> HeaderOperations | None:
    if root is None or part is None:
        return part or root
    said = {name.lower() for name in (*part.set, *part.add, *part.remove)}
    return HeaderOperations(
        set=_edits(root.set, part.set, said),
        add=_edits(root.add, part.add, said),
        remove=(*(name for name in root.remove if name.lower() not in said), *part.remove),
    )


def _edits(root: Mapping[str, str], part: Mapping[str, str], said: set[str]) -> FrozenMap[str, str]:
    kept = {name: value for name, value in root.items() if name.lower() not in said}
    return FrozenMap({**kept, **part}) if kept or part else EMPTY
