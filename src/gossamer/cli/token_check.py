"""Whether a token is one that a key set vouches for now, by the rules of Envoy's JWT filter.

Invariant: what cannot be told for a good token is a bad one.
"""

from __future__ import annotations

from typing import Any, Final

from gossamer.simulate.request import EARLY, EXPIRED

_SKEW_S: Final = 60
"""Seconds by which clocks may differ: Envoy's default."""


def check_token(token: str, jwks: str) -> str:
    """Why the token is not good, empty if it is: signed by a key of the set, and within its dates."""
    import jwt  # noqa: PLC0415 - with its cryptography it takes long to load, and few questions have a token

    try:
        header = jwt.get_unverified_header(token)
        jwt.decode(token, options=_ONLY_DATES, leeway=_SKEW_S)
        keys = jwt.PyJWKSet.from_json(jwks).keys
    except jwt.ExpiredSignatureError:
        return EXPIRED
    except jwt.ImmatureSignatureError:
        return EARLY
    except (jwt.PyJWTError, ValueError) as error:
        return f"a token cannot be read: {error}"
    tried = [key for key in keys if _may_sign(key, header)]
    for key in tried:
        try:
            jwt.decode(token, key, algorithms=[header["alg"]], options=_ONLY_SIGNATURE)
        except (jwt.PyJWTError, ValueError, TypeError):
            continue
        return ""
    return "a token is signed by no key of its issuer" if tried else "a token names a key that its issuer does not have"


_NEITHER: Final = {"verify_aud": False, "verify_iss": False, "verify_iat": False, "verify_sub": False}
_ONLY_DATES: Final[Any] = {"verify_signature": False, "verify_exp": True, "verify_nbf": True, **_NEITHER}
_ONLY_SIGNATURE: Final[Any] = {"verify_exp": False, "verify_nbf": False, **_NEITHER}


def _may_sign(key: Any, header: dict[str, Any]) -> bool:
    """Whether a key is of the name and algorithm that a token's header says."""
    named = not header.get("kid") or not key.key_id or key.key_id == header["kid"]
    return named and key.algorithm_name == header.get("alg") and header.get("alg") != "none"
