"""The match of a root VirtualService joined with one of its delegate.

Invariant: a joined match takes no request that its root's would not. Istio's rule: the delegate's match must be a
subset of the root's; where that cannot be told, the two conflict and there is no joined match.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, TypeVar

from gossamer.api.common import Exact, Prefix, Present, Regex
from gossamer.api.virtual_service import HTTPMatchRequest
from gossamer.core.frozen import FrozenMap

StringMatch = Exact | Prefix | Regex | Present
V = TypeVar("V")

_LITERAL: Final = re.compile(r"(?:[^\\.*+?()\[\]{}|^$]|\\[^\w\s])*")
_REPEAT: Final = ("*", "?", "{")


class _ConflictError(Exception):
    """Two matches that cannot be joined."""


def joined_matches(
    roots: tuple[HTTPMatchRequest, ...], delegates: tuple[HTTPMatchRequest, ...]
) -> tuple[HTTPMatchRequest, ...] | None:
    """Every match of a root with every one of its delegate, those in conflict left out; None when all are. No match at
    all takes everything, so the other side's stand as they are."""
    if not roots or not delegates:
        return roots or delegates
    pairs = (joined_match(root, delegate) for root in roots for delegate in delegates)
    return tuple(match for match in pairs if match is not None) or None


def joined_match(root: HTTPMatchRequest, delegate: HTTPMatchRequest) -> HTTPMatchRequest | None:
    """The match that asks what both ask; None where the delegate's is not within the root's."""
    try:
        return _joined(root, delegate)
    except _ConflictError:
        return None


def _joined(root: HTTPMatchRequest, delegate: HTTPMatchRequest) -> HTTPMatchRequest:
    return replace(
        delegate,
        name="-".join(name for name in (root.name, delegate.name) if name),
        uri=_path(root, delegate),
        ignore_uri_case=(delegate if delegate.uri is not None else root).ignore_uri_case,
        scheme=_narrower(root.scheme, delegate.scheme),
        method=_narrower(root.method, delegate.method),
        authority=_narrower(root.authority, delegate.authority),
        headers=_both(root.headers, delegate.headers, lambda outer, inner: within(inner, outer)),
        without_headers=_both(root.without_headers, delegate.without_headers, within),
        query_params=_both(root.query_params, delegate.query_params, lambda outer, inner: within(inner, outer)),
        source_labels=_both(root.source_labels, delegate.source_labels, operator.eq),
        port=_equal(root.port, delegate.port),
        source_namespace=_equal(root.source_namespace, delegate.source_namespace),
        gateways=_gateways(root.gateways, delegate.gateways),
        stat_prefix=delegate.stat_prefix or root.stat_prefix,
    )


def _path(root: HTTPMatchRequest, delegate: HTTPMatchRequest) -> StringMatch | None:
    if root.uri is None or delegate.uri is None:
        return delegate.uri or root.uri
    if delegate.ignore_uri_case and not root.ignore_uri_case:
        raise _ConflictError
    if root.ignore_uri_case:
        if not within(_folded(delegate.uri), _folded(root.uri)):
            raise _ConflictError
        return delegate.uri
    return _narrower(root.uri, delegate.uri)


def _narrower(root: StringMatch | None, delegate: StringMatch | None) -> StringMatch | None:
    if root is not None and delegate is not None and not within(delegate, root):
        raise _ConflictError
    return delegate or root


def _both(root: Mapping[str, V], delegate: Mapping[str, V], fits: Callable[[V, V], bool]) -> FrozenMap[str, V]:
    """What either asks; under one name the delegate's."""
    for name in root.keys() & delegate.keys():
        if not fits(root[name], delegate[name]):
            raise _ConflictError
    return FrozenMap({**root, **delegate})


def _equal(root: V, delegate: V) -> V:
    if root and delegate and root != delegate:
        raise _ConflictError
    return delegate or root


def _gateways(root: tuple[str, ...], delegate: tuple[str, ...]) -> tuple[str, ...]:
    if root and not set(delegate) <= set(root):
        raise _ConflictError
    return delegate or root


def _folded(match: StringMatch) -> StringMatch:
    """As a comparison without case sees it. A regular expression keeps its case: it stands for what it begins with."""
    if isinstance(match, Regex):
        return Prefix(_beginning(match).lower())
    return match if isinstance(match, Present) else replace(match, value=match.value.lower())


def within(inner: StringMatch, outer: StringMatch) -> bool:
    """Whether every string that `inner` takes is surely one that `outer` takes."""
    if inner == outer or isinstance(outer, Present):
        return True
    if isinstance(inner, Present):
        return outer == Prefix("")
    return isinstance(outer, Prefix) and _beginning(inner).startswith(outer.value)


def _beginning(match: Exact | Prefix | Regex) -> str:
    """What every string that the match takes begins with."""
    if not isinstance(match, Regex):
        return match.value
    pattern = match.value.removeprefix("^")
    if "|" in pattern or "(?" in pattern:
        return ""
    found = _LITERAL.match(pattern)
    literal = found.group() if found else ""
    if pattern[len(literal) :].startswith(_REPEAT):  # the last character need not be there
        literal = literal[:-2] if literal[-2:-1] == "\\" else literal[:-1]
    return re.sub(r"\\(.)", r"\1", literal)
