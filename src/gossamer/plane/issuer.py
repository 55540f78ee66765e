"""An issuer of tokens, asked for its keys over HTTP.

Invariant: an answer is a key set of bounded size or an error, and nobody's answer leads the control plane where its
operator did not send it.
"""

from __future__ import annotations

import json
import ssl
from typing import Any, Final

from gossamer.model.tokens import KeySource
from gossamer.plane.download import HTTP_ERRORS, Access, DownloadError, Downloads

LARGEST: Final = 1024 * 1024
"""Bytes of a key set, or of a discovery document, at most."""
FETCH_ERRORS: Final = (*HTTP_ERRORS, DownloadError, OSError, ValueError)
"""What `fetch_keys` raises."""
_REDIRECTS: Final = 3
_DISCOVERY: Final = "/.well-known/openid-configuration"


async def fetch_keys(
    source: KeySource, trust: ssl.SSLContext, *, private_redirects: bool = False, names_itself: bool = False
) -> str:
    """The JSON Web Key Set of a source, within no bound of time; one of FETCH_ERRORS if there is none.

    `trust` verifies certificates, `private_redirects` lets answers lead to private addresses. With `names_itself` a
    discovery document must name the issuer that was asked, as OpenID Connect Discovery 1.0 demands.
    """
    url, access = source.url, Access(trust=trust, private_redirects=private_redirects)
    if source.discovered:
        where = f"{url.rstrip('/')}{_DISCOVERY}"
        document = _document(await _get(where, url, access), url)
        if names_itself and document.get("issuer") != url:
            raise DownloadError(f"the discovery document of {url} is of another issuer ({document.get('issuer')})")
        url = _keys_url(document, url)
    text = (await _get(url, source.url, access)).decode("utf-8", "replace")
    if not is_key_set(text):
        raise DownloadError(f"what {url} answers is no JSON Web Key Set")
    return text


def is_key_set(text: str) -> bool:
    """Whether a text is a JSON Web Key Set with at least one key."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    keys = value.get("keys") if isinstance(value, dict) else None
    return isinstance(keys, list) and bool(keys) and all(isinstance(key, dict) and "kty" in key for key in keys)


async def _get(url: str, first: str, access: Access) -> bytes:
    """The content at a URL. `first` is the one that somebody wrote."""
    async with Downloads(first, access, _REDIRECTS) as downloads:
        return (await downloads.get(url, LARGEST, {"accept": "application/json"})).expected()


def _document(content: bytes, issuer: str) -> dict[str, Any]:
    """An issuer's discovery document."""
    try:
        value = json.loads(content)
    except ValueError as error:
        raise DownloadError(f"the discovery document of {issuer} is not JSON") from error
    return value if isinstance(value, dict) else {}


def _keys_url(document: dict[str, Any], issuer: str) -> str:
    url = document.get("jwks_uri")
    if not isinstance(url, str):
        raise DownloadError(f"the discovery document of {issuer} has no jwks_uri")
    return url
