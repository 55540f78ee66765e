"""A certificate for where Envoy has to be shown some, and real ones have no business: configuration under validation.

Invariant: its authority is made for it and forgotten, so it vouches for nobody.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from gossamer.ca.certificates import Issuer, Names, Validity, build_root, chain_pem, key_pem, new_key

_DOMAIN = "stub.invalid"


def create_stub(now: datetime) -> tuple[str, str, str]:
    """Certificate, key and authority, as PEM."""
    root_key, key = new_key(), new_key()
    root = build_root(root_key, _DOMAIN, now, 1)
    validity = Validity(not_before=now - timedelta(hours=1), not_after=now + timedelta(days=365))
    leaf = Issuer.of(root_key, root).sign_leaf(key.public_key(), Names(uri=f"spiffe://{_DOMAIN}"), validity, 2)
    return chain_pem([leaf]).decode(), key_pem(key).decode(), chain_pem([root]).decode()
