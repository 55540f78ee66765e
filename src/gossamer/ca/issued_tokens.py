"""Evidence that is a signed token: a Kubernetes service account's, or one of a cloud or CI system (OpenID Connect).

Invariant: a token counts only if one of its issuer's own keys signed it, by an asymmetric algorithm of a fixed list,
for this mesh alone and for now, and an `allow` of its attestor matches it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from gossamer.api.attestors import Attestor
from gossamer.api.common import Exact, Prefix
from gossamer.ca.attestation import Attested, Evidence
from gossamer.ca.jws import Terms, read_token, untrusted, verify
from gossamer.ca.tokens import Grant, TokenError

_LONGEST_SUBJECT: Final = 1024
_FAR: Final = 4_000_000_000
"""Seconds since 1970: what ends later is as good as never."""


class KeyReader(Protocol):
    """Where the keys of issuers come from."""

    async def keys_of(self, attestor: Attestor, kid: str) -> str:
        """Its keys, as a JSON Web Key Set or PEM: fetched anew, within limits, if `kid` is none that is known.
        UnavailableError if there are none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenAttestors:
    """An `Attest` for the tokens of these attestors, as they are at the time. Which of them a token is for, it says."""

    attestors: Callable[[], Sequence[Attestor]]
    keys: KeyReader

    async def __call__(self, evidence: Evidence) -> Attested:
        header, said = read_token(evidence.token)
        issuer, audiences = said.get("iss"), _audiences(said)
        ours = [one for one in self.attestors() if one.kind == evidence.kind and one.issuer == issuer]
        if not ours:
            raise untrusted(f"no attestor of this mesh takes {evidence.kind} tokens of issuer {issuer!r}")
        fitting = [one for one in ours if audiences and audiences <= set(one.audiences)]
        if not fitting:
            wanted = sorted({audience for one in ours for audience in one.audiences})
            raise untrusted(
                f"the token is for audience {', '.join(sorted(audiences)) or 'nobody'}, and must be for "
                f"{' or '.join(wanted)} alone: whoever else it is for could use it here"
            )
        refusal = untrusted("")
        for attestor in fitting:
            try:
                keys = await self.keys.keys_of(attestor, str(header.get("kid", "")))
                return attested(attestor, evidence.token, verify(evidence.token, terms_of(attestor), keys))
            except TokenError as error:
                refusal = error
        raise refusal


def terms_of(attestor: Attestor) -> Terms:
    """What is asked of a token of an attestor."""
    return Terms(issuer=attestor.issuer, audiences=attestor.audiences, leeway=attestor.leeway)


def attested(attestor: Attestor, token: str, claims: Mapping[str, Any]) -> Attested:
    """What a verified token proves. TokenError if no `allow` of the attestor matches it."""
    if attestor.kubernetes is not None:
        return _pod(attestor, token, claims)
    for allowed in attestor.oidc.allow if attestor.oidc else ():
        if allowed.claims and all(_matches(claims, name, match) for name, match in allowed.claims.items()):
            return _attested(attestor, token, claims, allowed.grants)
    raise untrusted(f"attestor {attestor.name} allows no token of {claims['sub']!r} with the claims that it has")


def _pod(attestor: Attestor, token: str, claims: Mapping[str, Any]) -> Attested:
    """Of a projected service-account token, by the claims that Kubernetes documents for it."""
    about = claims.get("kubernetes.io")
    about = about if isinstance(about, dict) else {}
    namespace, account = str(about.get("namespace")), _entry(about, "serviceaccount", "name")
    if claims["sub"] != f"system:serviceaccount:{namespace}:{account}":
        raise untrusted(f"the token of {claims['sub']!r} is not one of a Kubernetes service account")
    for allowed in attestor.kubernetes.allow if attestor.kubernetes else ():
        if Grant(namespace=allowed.namespace, service_account=allowed.service_account).allows(namespace, account):
            grants = allowed.grants or (f"{namespace}/{account}",)
            pod = _entry(about, "pod", "name")
            return _attested(attestor, token, claims, grants, pod=pod, uid=_entry(about, "pod", "uid"))
    raise untrusted(f"attestor {attestor.name} does not allow service account {namespace}/{account}")


def _entry(about: Mapping[str, Any], what: str, name: str) -> str:
    inner = about.get(what)
    value = inner.get(name) if isinstance(inner, dict) else None
    return value if isinstance(value, str) else ""


def _attested(
    attestor: Attestor, token: str, claims: Mapping[str, Any], grants: Sequence[str], *, pod: str = "", uid: str = ""
) -> Attested:
    if len(claims["sub"]) > _LONGEST_SUBJECT:
        raise untrusted(f"the token's subject is longer than {_LONGEST_SUBJECT} characters")
    signed = token.rpartition(".")[0]
    return Attested(
        attestor=attestor.name,
        subject=claims["sub"] + (f" pod {pod}" if pod else ""),
        grants=tuple(Grant.parse(grant) for grant in grants),
        digest=hashlib.sha256(signed.encode()).hexdigest(),
        expires=datetime.fromtimestamp(min(claims["exp"], _FAR), UTC) + attestor.leeway,
        lifetime=attestor.host_lifetime,
        instance=uid,
        label=pod,
        reuse=attestor.reuse,
    )


def _matches(claims: Mapping[str, Any], name: str, match: object) -> bool:
    value = _claim(claims, name)
    if isinstance(value, bool):
        value = "true" if value else "false"
    if not isinstance(value, str):
        return False
    if isinstance(match, Exact):
        return value == match.value
    return isinstance(match, Prefix) and bool(match.value) and value.startswith(match.value)


def _claim(claims: Mapping[str, Any], name: str) -> object:
    if name in claims:
        return claims[name]
    outer, dot, inner = name.partition(".")
    below = claims.get(outer)
    return _claim(below, inner) if dot and isinstance(below, dict) else None


def _audiences(claims: Mapping[str, Any]) -> set[str]:
    value = claims.get("aud")
    return {value} if isinstance(value, str) else {str(item) for item in value} if isinstance(value, list) else set()
