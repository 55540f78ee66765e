"""Which tokens a workload takes: the rules of RequestAuthentications, each with the keys that there are.

Invariant: a rule whose keys nobody has stays a rule, with no key: it rejects every token. Keys are an input like a
file; who wants them asks by where they come from.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from gossamer.api.request_authentication import JWTRule, RequestAuthentication
from gossamer.api.resource import Resource
from gossamer.core.frozen import EMPTY, FrozenMap, Value
from gossamer.core.ids import Origin

TIMEOUT: Final = timedelta(seconds=5)
"""How long fetching keys may take, unless a rule says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class KeySource:
    """Where keys come from: their URL, or with `discovered` an issuer whose discovery document (OpenID Connect) tells
    it."""

    url: str
    discovered: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TokenRule(Value):
    """One `jwtRules[]` that a workload is under. `keys` is a JSON Web Key Set, empty where none is to be had."""

    origin: Origin
    rule: JWTRule
    keys: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """All RequestAuthentications, and the keys that were fetched for them."""

    resources: tuple[Resource[RequestAuthentication], ...] = ()
    keys: FrozenMap[KeySource, str] = EMPTY


NO_TOKENS: Final = Tokens()


def token_rules(
    resources: tuple[Resource[RequestAuthentication], ...], keys: FrozenMap[KeySource, str]
) -> tuple[TokenRule, ...]:
    """The rules of these policies, which Istio reads as if they were one's."""
    return tuple(
        TokenRule(
            origin=Origin(resource=resource.id, rule=f"spec.jwtRules[{index}]"),
            rule=rule,
            keys=keys.get(source, "") if (source := key_source(rule)) is not None else "",
        )
        for resource in resources
        for index, rule in enumerate(resource.spec.jwt_rules)
    )


def key_source(rule: JWTRule) -> KeySource | None:
    """Where the keys of a rule are to be fetched; None if it has them, or says nothing of them."""
    if rule.jwks:
        return None
    if rule.jwks_uri:
        return KeySource(url=rule.jwks_uri)
    return KeySource(url=rule.issuer, discovered=True) if rule.issuer.startswith(("https://", "http://")) else None


def key_sources(resources: Iterable[Resource[RequestAuthentication]]) -> dict[KeySource, timedelta]:
    """All that has to be fetched, and how long each fetch may take: what the most patient rule says."""
    found: dict[KeySource, timedelta] = {}
    for resource in resources:
        for rule in resource.spec.jwt_rules:
            source = key_source(rule)
            if source is not None:
                timeout = rule.timeout if rule.timeout is not None else TIMEOUT
                found[source] = max(found.get(source, timedelta()), timeout)
    return found
