"""Evidence that is a signed token: a Kubernetes service account's, or one of a cloud or CI system (OpenID Connect).

Invariant: a token counts only if one of its issuer's own keys signed it, by an asymmetric algorithm of a fixed list,
for this mesh alone and for now, and an `allow` of its attestor matches it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from gossamer.api.attestors import Attestor
from gossamer.api.common import Exact, Prefix
from gossamer.ca.attestation import Attested, Evidence
from gossamer.ca.certificates import PublicKey, check_public_key
from gossamer.ca.tokens import Grant, Refusal, TokenError
from gossamer.core.errors import IdentityError

ALGORITHMS: Final = frozenset(f"{kind}{bits}" for kind in ("RS", "PS", "ES") for bits in (256, 384, 512))
LONGEST: Final = 16 * 1024
"""Characters of a token at most."""
_CLAIMS: Final = ["exp", "iss", "aud", "sub"]
_PEM: Final = "-----BEGIN"
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
        header, said = _read(evidence.token)
        issuer, audiences = said.get("iss"), _audiences(said)
        ours = [one for one in self.attestors() if one.kind == evidence.kind and one.issuer == issuer]
        if not ours:
            raise _untrusted(f"no attestor of this mesh takes {evidence.kind} tokens of issuer {issuer!r}")
        fitting = [one for one in ours if audiences and audiences <= set(one.audiences)]
        if not fitting:
            wanted = sorted({audience for one in ours for audience in one.audiences})
            raise _untrusted(
                f"the token is for audience {', '.join(sorted(audiences)) or 'nobody'}, and must be for "
                f"{' or '.join(wanted)} alone: whoever else it is for could use it here"
            )
        refusal = _untrusted("")
        for attestor in fitting:
            try:
                keys = await self.keys.keys_of(attestor, str(header.get("kid", "")))
                return attested(attestor, evidence.token, verify(evidence.token, attestor, keys))
            except TokenError as error:
                refusal = error
        raise refusal


def verify(token: str, attestor: Attestor, keys: str) -> Mapping[str, Any]:
    """The claims of a token that one of these keys signed. TokenError, saying why, if it is not good now."""
    header, _ = _read(token)
    algorithm, kid = header.get("alg"), str(header.get("kid", ""))
    if algorithm not in ALGORITHMS:
        raise _untrusted(f"the token is signed by {algorithm!r}, which is not among {', '.join(sorted(ALGORITHMS))}")
    candidates = _candidates(load_keys(keys), kid, str(algorithm))
    if not candidates:
        raise _untrusted(f"issuer {attestor.issuer} has no key {kid!r} for {algorithm}")
    for last, key in enumerate(candidates, 1 - len(candidates)):
        try:
            return _decoded(token, key, str(algorithm), attestor)
        except (jwt.InvalidSignatureError, jwt.InvalidKeyError) as error:
            if last == 0:
                raise _untrusted("the token is not signed by its issuer") from error
    raise AssertionError


def _decoded(token: str, key: PublicKey, algorithm: str, attestor: Attestor) -> Mapping[str, Any]:
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            audience=list(attestor.audiences),
            issuer=attestor.issuer,
            leeway=attestor.leeway,
            options={"require": _CLAIMS},
        )
    except jwt.ExpiredSignatureError as error:
        raise TokenError(
            Refusal.EXPIRED, f"the token of {attestor.issuer} has expired; let its issuer give a new one"
        ) from error
    except (jwt.InvalidSignatureError, jwt.InvalidKeyError):
        raise
    except jwt.PyJWTError as error:
        raise _untrusted(f"the token of {attestor.issuer} is not good: {error}") from error
    return claims


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationKey:
    """A public key of an issuer; what is empty its issuer does not say."""

    key: PublicKey = field(repr=False)
    kid: str = ""
    algorithm: str = ""


def load_keys(text: str) -> tuple[VerificationKey, ...]:
    """The keys of a JSON Web Key Set or of PEM that can verify; those that are for other uses are left out.
    IdentityError if the text is neither."""
    if text.lstrip().startswith(_PEM):
        blocks = (f"{_PEM}{part}" for part in text.split(_PEM)[1:])
        return tuple(VerificationKey(key=_public_key(block)) for block in blocks)
    try:
        rows = json.loads(text)["keys"]
        return tuple(key for row in rows if (key := _key_of(row)) is not None)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise IdentityError("the issuer's keys are neither a JSON Web Key Set nor public keys in PEM") from error


def _public_key(pem: str) -> PublicKey:
    try:
        return check_public_key(load_pem_public_key(pem.encode()), "the issuer's key")
    except ValueError as error:
        raise IdentityError(f"the issuer's keys hold what is no public key in PEM: {error}") from error


def _key_of(row: Mapping[str, Any]) -> VerificationKey | None:
    if row.get("use", "sig") != "sig" or row.get("kty") not in ("RSA", "EC"):
        return None
    try:
        key = check_public_key(jwt.PyJWK(dict(row)).key, "the issuer's key")
    except (jwt.PyJWTError, IdentityError):
        return None  # of a kind that is not used here; its neighbours may be
    return VerificationKey(key=key, kid=str(row.get("kid", "")), algorithm=str(row.get("alg", "")))


def knows(keys: str, kid: str) -> bool:
    """Whether a token with this key id can be verified by these keys, as far as that can be told."""
    found = load_keys(keys)
    return any(key.kid in ("", kid) for key in found) or (not kid and len(found) == 1)


def _candidates(keys: Sequence[VerificationKey], kid: str, algorithm: str) -> list[PublicKey]:
    """Those that may have signed: by the id that the token names, or else those that have none (PEM)."""
    named = [key for key in keys if kid and key.kid == kid] or [key for key in keys if not key.kid]
    if not kid and len(keys) == 1:
        named = list(keys)
    fits = ec.EllipticCurvePublicKey if algorithm.startswith("ES") else rsa.RSAPublicKey
    return [key.key for key in named if key.algorithm in ("", algorithm) and isinstance(key.key, fits)]


def attested(attestor: Attestor, token: str, claims: Mapping[str, Any]) -> Attested:
    """What a verified token proves. TokenError if no `allow` of the attestor matches it."""
    if attestor.kubernetes is not None:
        return _pod(attestor, token, claims)
    for allowed in attestor.oidc.allow if attestor.oidc else ():
        if allowed.claims and all(_matches(claims, name, match) for name, match in allowed.claims.items()):
            return _attested(attestor, token, claims, allowed.grants)
    raise _untrusted(f"attestor {attestor.name} allows no token of {claims['sub']!r} with the claims that it has")


def _pod(attestor: Attestor, token: str, claims: Mapping[str, Any]) -> Attested:
    """Of a projected service-account token, by the claims that Kubernetes documents for it."""
    about = claims.get("kubernetes.io")
    about = about if isinstance(about, dict) else {}
    namespace, account = str(about.get("namespace")), _entry(about, "serviceaccount", "name")
    if claims["sub"] != f"system:serviceaccount:{namespace}:{account}":
        raise _untrusted(f"the token of {claims['sub']!r} is not one of a Kubernetes service account")
    for allowed in attestor.kubernetes.allow if attestor.kubernetes else ():
        if Grant(namespace=allowed.namespace, service_account=allowed.service_account).allows(namespace, account):
            grants = allowed.grants or (f"{namespace}/{account}",)
            pod = _entry(about, "pod", "name")
            return _attested(attestor, token, claims, grants, pod=pod, uid=_entry(about, "pod", "uid"))
    raise _untrusted(f"attestor {attestor.name} does not allow service account {namespace}/{account}")


def _entry(about: Mapping[str, Any], what: str, name: str) -> str:
    inner = about.get(what)
    value = inner.get(name) if isinstance(inner, dict) else None
    return value if isinstance(value, str) else ""


def _attested(
    attestor: Attestor, token: str, claims: Mapping[str, Any], grants: Sequence[str], *, pod: str = "", uid: str = ""
) -> Attested:
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


def _read(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims, unverified. TokenError, which never repeats the token, if it is none."""
    try:
        if len(token) > LONGEST:
            raise jwt.DecodeError("too long")
        header = jwt.get_unverified_header(token)
        claims = jwt.decode(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
        raise TokenError(Refusal.MALFORMED, "this is no signed token (JWS, at most 16 KiB)") from error
    return header, claims


def _audiences(claims: Mapping[str, Any]) -> set[str]:
    value = claims.get("aud")
    return {value} if isinstance(value, str) else {str(item) for item in value} if isinstance(value, list) else set()


def _untrusted(message: str) -> TokenError:
    return TokenError(Refusal.UNTRUSTED, message)
