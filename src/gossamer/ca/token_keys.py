"""The keys that sign JWT-SVIDs: how they follow each other, what verifies them, and their file.

Rules: the SPIFFE standard for JWT-SVIDs and trust bundles. Invariant: a key is published for a while before it signs,
and stays so until all that it signed has ended, so that nobody meets a token whose key he has not heard of.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec

from gossamer.ca.certificates import key_pem, load_key, new_key
from gossamer.ca.files import dump_document, load_document, private_folder, write_private
from gossamer.ca.spiffe import SpiffeId
from gossamer.core.errors import IdentityError, StateError

LIFETIME: Final = timedelta(minutes=5)
"""Of a JWT-SVID: whoever has it can use it, so not for long."""
SIGNS: Final = timedelta(days=30)
"""How long a key signs."""
AHEAD: Final = timedelta(hours=1)
"""How long a key is published before it signs, and after it has ended to."""
ALGORITHM: Final = "ES256"
_SCHEMA: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenKey:
    """A key, and when it was made."""

    key: ec.EllipticCurvePrivateKey = field(repr=False)
    created: datetime

    @property
    def id(self) -> str:
        """Its thumbprint (RFC 7638)."""
        members = {name: self.members[name] for name in ("crv", "kty", "x", "y")}
        return _base64(hashlib.sha256(json.dumps(members, separators=(",", ":")).encode()).digest())

    @property
    def members(self) -> dict[str, str]:
        """Its public half, as a JSON Web Key has it."""
        numbers = self.key.public_key().public_numbers()
        return {
            "kty": "EC",
            "crv": "P-256",
            "x": _base64(numbers.x.to_bytes(32, "big")),
            "y": _base64(numbers.y.to_bytes(32, "big")),
        }


Keys = tuple[TokenKey, ...]
"""The oldest first."""


def following(keys: Keys, now: datetime) -> Keys:
    """The keys as they are to be: a new one when the newest has signed for long, those that have ended left out."""
    if not keys or keys[-1].created + SIGNS <= now:
        keys = (*keys, TokenKey(key=new_key(), created=now))
    signing = signing_key(keys, now)
    return tuple(key for key in keys if key.created >= signing.created or (signing.created + AHEAD) + AHEAD > now)


def signing_key(keys: Keys, now: datetime) -> TokenKey:
    """The one that signs: the newest that has been published long enough, or else the oldest."""
    return next((key for key in reversed(keys) if key.created + AHEAD <= now), keys[0])


def key_set(keys: Keys) -> str:
    """What verifies them, as a JSON Web Key Set."""
    rows = [{**key.members, "kid": key.id, "use": "jwt-svid", "alg": ALGORITHM} for key in keys]
    return json.dumps({"keys": rows}, sort_keys=True)


def sign_token(keys: Keys, subject: SpiffeId, audience: Sequence[str], now: datetime, lifetime: timedelta) -> str:
    """A JWT-SVID of `subject` for `audience`."""
    import jwt  # noqa: PLC0415 - most meshes sign none

    key = signing_key(keys, now)
    issued = int(now.timestamp())
    claims: dict[str, Any] = {
        "sub": str(subject),
        "aud": list(audience),
        "iat": issued,
        "exp": issued + int(lifetime.total_seconds()),
    }
    return jwt.encode(claims, key.key, algorithm=ALGORITHM, headers={"kid": key.id})


def load_keys(path: Path) -> Keys:
    """What `save_keys` kept; none if there is nothing. StateError if the file is damaged."""
    content = load_document(path, _SCHEMA)
    try:
        return tuple(_key_of(row) for row in (content or {}).get("keys", ()))
    except (KeyError, TypeError, ValueError, AttributeError, IdentityError) as error:
        raise StateError(
            f"{path} is damaged ({error}); move it away: tokens signed by its keys are refused then"
        ) from error


def save_keys(path: Path, keys: Keys) -> None:
    """Keep the keys, mode 0600."""
    private_folder(path.parent)
    rows = [{"key": key_pem(key.key).decode(), "created": key.created.isoformat()} for key in keys]
    write_private(path, dump_document(_SCHEMA, {"keys": rows}))


def _key_of(row: dict[str, Any]) -> TokenKey:
    key = load_key(row["key"].encode(), "a key for tokens")
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise IdentityError("a key for tokens is ECDSA on P-256")
    return TokenKey(key=key, created=datetime.fromisoformat(row["created"]))


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
