"""What a rule that speaks of HTTP says about a TCP connection.

Invariant: in doubt it is denied. An ALLOW rule with an HTTP-only field never matches, so it allows nothing; a DENY rule
is read without such fields, so it denies more (Istio, "Authorization for TCP traffic").
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from gossamer.api.authorization_policy import Condition, Operation, Rule, Source

_HTTP_KEYS: Final = ("request.", "experimental.envoy.filters.http.")


def without_http(rules: tuple[Rule, ...], *, denies: bool) -> dict[int, Rule]:
    """The rules as a TCP chain reads them, by their index in the policy."""
    if denies:
        return {index: _stripped(rule) for index, rule in enumerate(rules)}
    return {index: rule for index, rule in enumerate(rules) if rule == _stripped(rule)}


def _stripped(rule: Rule) -> Rule:
    return replace(
        rule,
        from_=tuple(replace(item, source=_source(item.source)) for item in rule.from_),
        to=tuple(replace(item, operation=_operation(item.operation)) for item in rule.to),
        when=tuple(condition for condition in rule.when if not _is_http(condition)),
    )


def _source(source: Source | None) -> Source | None:
    return source and replace(source, request_principals=(), not_request_principals=())


def _operation(operation: Operation | None) -> Operation | None:
    return operation and Operation(ports=operation.ports, not_ports=operation.not_ports)


def _is_http(condition: Condition) -> bool:
    return condition.key.startswith(_HTTP_KEYS)
