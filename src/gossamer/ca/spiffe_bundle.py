"""SPIFFE bundles: the document by which a trust domain tells others its roots.

Rules: SPIFFE Trust Domain and Bundle, sections 4 and 5 (a JSON Web Key Set whose keys say what they are for).
Invariant: what is read is certificates of authorities alone; keys for anything else are passed over, as it demands.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from gossamer.ca.certificates import chain_pem
from gossamer.core.errors import IdentityError

_X509: Final = "x509-svid"
_CURVES: Final = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SpiffeBundle:
    """Roots, and how often who fetched them should look again; None: it does not say."""

    roots: tuple[x509.Certificate, ...]
    refresh: timedelta | None

    @property
    def pem(self) -> str:
        return chain_pem(self.roots).decode()


def load_bundle(document: bytes) -> SpiffeBundle:
    """The bundle of a document. IdentityError, saying why, if it is none or has no X.509 authority."""
    try:
        value = json.loads(document)
        keys = list(value["keys"])
        hint = value.get("spiffe_refresh_hint")
        refresh = timedelta(seconds=int(hint)) if hint else None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        raise IdentityError("what it answers is no SPIFFE bundle (a JSON Web Key Set)") from error
    roots = tuple(_root(key) for key in keys if isinstance(key, dict) and key.get("use") == _X509)
    if not roots:
        raise IdentityError("the bundle has no key of use x509-svid")
    return SpiffeBundle(roots=tuple(dict.fromkeys(roots)), refresh=refresh)


def dump_bundle(roots: Iterable[x509.Certificate], *, sequence: int, refresh: timedelta) -> bytes:
    """The bundle of these roots as its document."""
    document = {
        "keys": [_key(root) for root in roots],
        "spiffe_sequence": sequence,
        "spiffe_refresh_hint": int(refresh.total_seconds()),
    }
    return json.dumps(document).encode()


def _root(key: dict[str, Any]) -> x509.Certificate:
    chain = key.get("x5c")
    if not isinstance(chain, list) or len(chain) != 1:
        raise IdentityError("a key of use x509-svid has not exactly one certificate in x5c")
    try:
        certificate = x509.load_der_x509_certificate(base64.b64decode(chain[0], validate=True))
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (ValueError, TypeError, binascii.Error, x509.ExtensionNotFound) as error:
        raise IdentityError(f"a certificate of the bundle is damaged: {error}") from error
    if not constraints.ca:
        raise IdentityError("a certificate of the bundle is no authority's")
    return certificate


def _key(root: x509.Certificate) -> dict[str, Any]:
    der = root.public_bytes(serialization.Encoding.DER)
    return {"use": _X509, "x5c": [base64.b64encode(der).decode()], **_public(root)}


def _public(root: x509.Certificate) -> dict[str, str]:
    public = root.public_key()
    if isinstance(public, ec.EllipticCurvePublicKey):
        numbers, size = public.public_numbers(), (public.curve.key_size + 7) // 8
        curve = _CURVES.get(public.curve.name, public.curve.name)
        return {"kty": "EC", "crv": curve, "x": _number(numbers.x, size), "y": _number(numbers.y, size)}
    if isinstance(public, rsa.RSAPublicKey):
        n, e = public.public_numbers().n, public.public_numbers().e
        return {"kty": "RSA", "n": _number(n, (n.bit_length() + 7) // 8), "e": _number(e, (e.bit_length() + 7) // 8)}
    raise IdentityError("the key of a root is neither ECDSA nor RSA")


def _number(value: int, size: int) -> str:
    return base64.urlsafe_b64encode(value.to_bytes(size, "big")).decode().rstrip("=")
