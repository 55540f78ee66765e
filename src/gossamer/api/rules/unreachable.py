"""Rules of a VirtualService that no call can reach, since an earlier one takes all that they would.

Rules: Istio's webhook warns of what comes after a rule without matches, and of matches that an earlier rule has. Here
one match covers another when all that it asks is asked by the other too; what cannot be told is taken for reachable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from gossamer.api.common import Exact, Prefix
from gossamer.api.findings import At
from gossamer.api.virtual_service import (
    HTTPMatchRequest,
    HTTPRoute,
    L4MatchAttributes,
    TCPRoute,
    TLSMatchAttributes,
    TLSRoute,
    VirtualService,
)

M = TypeVar("M", HTTPMatchRequest, L4MatchAttributes, TLSMatchAttributes)
_MAX_MATCHES: Final = 300
"""Matches of a layer beyond which nobody looks for unreachable ones: each is compared with all before it."""


@dataclass(slots=True)
class _Taken(Generic[M]):
    """What earlier rules take: everything, by the rule at this place, or what these matches (with their rules) do."""

    by_all: int | None = None
    matches: list[tuple[int, M]] = field(default_factory=list)


def warn_of_unreachable(spec: VirtualService, at: At) -> None:
    """Warn of rules, and of single matches, that never take anything."""
    _check(spec.http, _covers_http, at["http"])
    _check(spec.tls, _covers_tls, at["tls"])
    _check(spec.tcp, _covers_l4, at["tcp"])


def _check(rules: Sequence[HTTPRoute | TLSRoute | TCPRoute], covers: Callable[[Any, Any], bool], at: At) -> None:
    taken: _Taken[Any] = _Taken()
    if sum(len(rule.match) for rule in rules) > _MAX_MATCHES:
        return
    for index, rule in enumerate(rules):
        _check_rule(rule.match, taken, covers, at[index])
        if isinstance(rule, HTTPRoute) and rule.delegate is not None:
            continue  # what its delegate does not take goes on to the next rule
        if not rule.match and taken.by_all is None:
            taken.by_all = index
        taken.matches += [(index, match) for match in rule.match]


def _check_rule(matches: Sequence[M], taken: _Taken[M], covers: Callable[[M, M], bool], at: At) -> None:
    if taken.by_all is not None:
        hint = "rules are tried in their order: put this one before it"
        at.warning("unreachable-rule", f"rule #{taken.by_all} before this one matches everything", hint)
        return
    for number, match in enumerate(matches):
        before = next((index for index, other in taken.matches if covers(other, match)), None)
        if before is not None:
            message = f"whatever this matches, rule #{before} before it takes"
            at["match", number].warning("unreachable-match", message, "rules are tried in their order")


def _covers_http(one: HTTPMatchRequest, other: HTTPMatchRequest) -> bool:
    """Whether the first match takes all that the second would."""
    return (
        _covers_uri(one, other)
        and all(
            getattr(one, name) in (None, "", 0, getattr(other, name))
            for name in ("scheme", "method", "authority", "port", "source_namespace")
        )
        and all(
            _within(getattr(one, name), getattr(other, name))
            for name in ("headers", "query_params", "without_headers", "source_labels")
        )
        and _covers_any_of(one.gateways, other.gateways)
    )


def _covers_uri(one: HTTPMatchRequest, other: HTTPMatchRequest) -> bool:
    if one.uri is None or (one.uri == other.uri and one.ignore_uri_case in (True, other.ignore_uri_case)):
        return True
    same_case = not one.ignore_uri_case and not other.ignore_uri_case
    if isinstance(one.uri, Prefix) and isinstance(other.uri, Prefix | Exact) and same_case:
        return other.uri.value.startswith(one.uri.value)
    return False


def _covers_tls(one: TLSMatchAttributes, other: TLSMatchAttributes) -> bool:
    return set(other.sni_hosts) <= set(one.sni_hosts) and _covers_connection(one, other)


def _covers_l4(one: L4MatchAttributes, other: L4MatchAttributes) -> bool:
    return one.source_subnet in ("", other.source_subnet) and _covers_connection(one, other)


def _covers_connection(
    one: TLSMatchAttributes | L4MatchAttributes, other: TLSMatchAttributes | L4MatchAttributes
) -> bool:
    return (
        one.port in (0, other.port)
        and one.source_namespace in ("", other.source_namespace)
        and _within(one.source_labels, other.source_labels)
        and _covers_any_of(one.gateways, other.gateways)
        and _covers_any_of(one.destination_subnets, other.destination_subnets)
    )


def _within(asked: Mapping[str, Any], by_other: Mapping[str, Any]) -> bool:
    return asked.items() <= by_other.items()


def _covers_any_of(one: Sequence[str], other: Sequence[str]) -> bool:
    """For a list of which one has to hold, none of them being anything."""
    return not one or (bool(other) and set(other) <= set(one))
