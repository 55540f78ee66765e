"""Istio's string patterns as Envoy's matchers.

Invariant: a pattern never matches more than it says: regular expressions match the whole string, names are escaped, and
an identity is only ever a SPIFFE URI, though Envoy would look at a certificate's DNS names as well.
"""

from __future__ import annotations

import re
from typing import Final

from envoy.type.matcher.v3.regex_pb2 import RegexMatcher
from envoy.type.matcher.v3.string_pb2 import StringMatcher

SPIFFE: Final = "spiffe://"


def text(pattern: str, *, ignore_case: bool = False) -> StringMatcher:
    """Exact, `prefix*` or `*suffix`; a bare `*` is any text but the empty one."""
    if pattern == "*":
        return regex(".+")
    if pattern.startswith("*"):
        return StringMatcher(suffix=pattern[1:], ignore_case=ignore_case)
    if pattern.endswith("*"):
        return StringMatcher(prefix=pattern[:-1], ignore_case=ignore_case)
    return StringMatcher(exact=pattern, ignore_case=ignore_case)


def regex(expression: str) -> StringMatcher:
    """RE2 over the whole string."""
    return StringMatcher(safe_regex=RegexMatcher(regex=expression))


def principal(pattern: str) -> StringMatcher:
    """A SPIFFE ID by `TRUSTDOMAIN/ns/NAMESPACE/sa/ACCOUNT`, or a pattern of it."""
    if pattern == "*":
        return regex(".+")  # whoever has a name: the handshake has seen to it that it is one of the mesh's
    if pattern.startswith("*"):
        return regex(f"{SPIFFE}.*{re.escape(pattern[1:])}")
    return text(SPIFFE + pattern)


def namespace(pattern: str) -> StringMatcher:
    """A SPIFFE ID of this namespace."""
    return regex(f"{SPIFFE}[^/]+/ns/{_segment(pattern)}/sa/[^/]+")


def service_account(value: str, own_namespace: str) -> StringMatcher:
    """A SPIFFE ID of this service account: `NAMESPACE/ACCOUNT`, or `ACCOUNT` in the policy's namespace."""
    space, slash, name = value.partition("/")
    wanted = (space, name) if slash else (own_namespace, value)
    return regex(f"{SPIFFE}[^/]+/ns/{re.escape(wanted[0])}/sa/{re.escape(wanted[1])}")


def trust_domain(pattern: str) -> StringMatcher:
    """A SPIFFE ID of this trust domain."""
    return regex(f"{SPIFFE}{_segment(pattern)}/.*")


def _segment(pattern: str) -> str:
    """A pattern for one part of a path."""
    if pattern == "*":
        return "[^/]+"
    if pattern.startswith("*"):
        return "[^/]*" + re.escape(pattern[1:])
    if pattern.endswith("*"):
        return re.escape(pattern[:-1]) + "[^/]*"
    return re.escape(pattern)


def aliases(pattern: str, trust_domains: tuple[str, ...]) -> tuple[str, ...]:
    """A principal as each of the mesh's trust domains spells it, when its own is one of them.

    `cluster.local` always stands for the mesh's own, as in Istio, so that policies outlive a change of trust domain.
    """
    domain, slash, rest = pattern.partition("/")
    if (
        not slash
        or domain == "*"
        or not (domain == "cluster.local" or any(_fits(domain, own) for own in trust_domains))
    ):
        return (pattern,)
    return tuple(dict.fromkeys(f"{own}/{rest}" for own in trust_domains))


def _fits(pattern: str, value: str) -> bool:
    if pattern.startswith("*"):
        return value.endswith(pattern[1:])
    return value.startswith(pattern[:-1]) if pattern.endswith("*") else value == pattern
