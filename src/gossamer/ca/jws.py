"""Signed tokens (JWT, RFC 7519) and the keys that they are verified by, whoever signed them.

Invariant: a token counts only if one of the keys given signed it, by an asymmetric algorithm of a fixed list, and it is
for one of the audiences given, and for now.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from gossamer.ca.certificates import PublicKey, check_public_key
from gossamer.ca.tokens import Refusal, TokenError
from gossamer.core.errors import IdentityError

ALGORITHMS: Final = frozenset(f"{kind}{bits}" for kind in ("RS", "PS", "ES") for bits in (256, 384, 512))
LONGEST: Final = 16 * 1024
"""Characters of a token at most."""
_PEM: Final = "-----BEGIN"
_SAID: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What is asked of a token: who issued it (empty: that does not matter), for whom, and what it must claim."""

    issuer: str = ""
    audiences: tuple[str, ...]
    claims: tuple[str, ...] = ("exp", "iss", "aud", "sub")
    leeway: timedelta = timedelta()
    use: str = "sig"
    """What the keys are for, as they say."""

    @property
    def whose(self) -> str:
        """The token, for messages."""
        return f"the token of {self.issuer}" if self.issuer else "the token"


def verify(token: str, terms: Terms, keys: str) -> Mapping[str, Any]:
    """The claims of a token that one of these keys signed. TokenError, saying why, if it is not good now."""
    header, _ = read_token(token)
    algorithm, kid = str(header.get("alg")), str(header.get("kid", ""))
    if algorithm not in ALGORITHMS:
        raise untrusted(f"the token is signed by {algorithm!r}, which is not among {', '.join(sorted(ALGORITHMS))}")
    candidates = _candidates(load_keys(keys, terms.use), kid, algorithm)
    if not candidates:
        raise untrusted(f"{terms.whose} is signed by a key {kid!r} for {algorithm} that its issuer does not have")
    for last, key in enumerate(candidates, 1 - len(candidates)):
        try:
            return _decoded(token, key, algorithm, terms)
        except (jwt.InvalidSignatureError, jwt.InvalidKeyError) as error:
            if last == 0:
                raise untrusted("the token is not signed by its issuer") from error
    raise AssertionError


def _decoded(token: str, key: PublicKey, algorithm: str, terms: Terms) -> Mapping[str, Any]:
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            audience=list(terms.audiences),
            issuer=terms.issuer or None,
            leeway=terms.leeway,
            options={"require": list(terms.claims)},
        )
    except jwt.ExpiredSignatureError as error:
        raise TokenError(Refusal.EXPIRED, f"{terms.whose} has expired; let its issuer give a new one") from error
    except (jwt.InvalidSignatureError, jwt.InvalidKeyError):
        raise
    except jwt.PyJWTError as error:
        raise untrusted(f"{terms.whose} is not good: {error}") from error
    return claims


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationKey:
    """A public key of an issuer; what is empty its issuer does not say."""

    key: PublicKey = field(repr=False)
    kid: str = ""
    algorithm: str = ""


def load_keys(text: str, use: str = "sig") -> tuple[VerificationKey, ...]:
    """The keys of a JSON Web Key Set or of PEM that can verify; those that are for other uses are left out.
    IdentityError if the text is neither."""
    if text.lstrip().startswith(_PEM):
        blocks = (f"{_PEM}{part}" for part in text.split(_PEM)[1:])
        return tuple(VerificationKey(key=_public_key(block)) for block in blocks)
    try:
        rows = json.loads(text)["keys"]
        return tuple(key for row in rows if (key := _key_of(row, use)) is not None)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise IdentityError("the issuer's keys are neither a JSON Web Key Set nor public keys in PEM") from error


def _public_key(pem: str) -> PublicKey:
    try:
        return check_public_key(load_pem_public_key(pem.encode()), "the issuer's key")
    except ValueError as error:
        raise IdentityError(f"the issuer's keys hold what is no public key in PEM: {error}") from error


def _key_of(row: Mapping[str, Any], use: str) -> VerificationKey | None:
    if row.get("use", use) != use or row.get("kty") not in ("RSA", "EC"):
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


def read_token(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims, unverified. TokenError, which never repeats the token, if it is none."""
    try:
        if len(token) > LONGEST:
            raise jwt.DecodeError("too long")
        header = jwt.get_unverified_header(token)
        claims = jwt.decode(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
        raise TokenError(Refusal.MALFORMED, "this is no signed token (JWS, at most 16 KiB)") from error
    return header, claims


def untrusted(message: str) -> TokenError:
    """That a token is not believed, and why; cut short, since strangers choose what is repeated of it."""
    return TokenError(Refusal.UNTRUSTED, message if len(message) <= _SAID else f"{message[:_SAID]}...")
