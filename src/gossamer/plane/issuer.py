"""An issuer of tokens, asked for its keys over HTTP.

Invariant: an answer is a key set of bounded size or an error, and nobody's answer leads the control plane where its
operator did not send it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import socket
import ssl
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import httpcore

from gossamer.model.tokens import KeySource
from gossamer.plane.download import HTTP_ERRORS, DownloadError, content_of, redirect_of

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
    url = source.url
    if source.discovered:
        where = f"{url.rstrip('/')}{_DISCOVERY}"
        document = _document(await _get(where, url, trust, private_redirects=private_redirects), url)
        if names_itself and document.get("issuer") != url:
            raise DownloadError(f"the discovery document of {url} is of another issuer ({document.get('issuer')})")
        url = _keys_url(document, url)
    text = (await _get(url, source.url, trust, private_redirects=private_redirects)).decode("utf-8", "replace")
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


async def _get(url: str, first: str, trust: ssl.SSLContext, *, private_redirects: bool) -> bytes:
    """The content at a URL. `first` is the one that somebody wrote: where answers lead from there, private
    addresses are out of bounds."""
    backend = _Backend()
    async with httpcore.AsyncConnectionPool(ssl_context=trust, network_backend=backend) as pool:
        for _ in range(_REDIRECTS + 1):
            parts = urlsplit(url)
            backend.guarded = not private_redirects and parts.netloc != urlsplit(first).netloc
            if parts.scheme not in ("http", "https") or (first.startswith("https:") and parts.scheme != "https"):
                raise DownloadError(f"{first} leads to {url}, which is not to be trusted with it")
            async with pool.stream("GET", url, headers={"accept": "application/json"}) as response:
                target = redirect_of(response)
                if target is None:
                    return await content_of(response, url, LARGEST)
            url = urljoin(url, target)
    raise DownloadError(f"{first} redirects more than {_REDIRECTS} times")


class _Backend(httpcore.AsyncNetworkBackend):
    """Connects; when `guarded`, to public addresses alone, and to the very address that was looked at."""

    def __init__(self) -> None:
        self._inner = httpcore.AnyIOBackend()
        self.guarded = False

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the interface of httpcore
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        if self.guarded:
            host = await _public_address(host, port)
        return await self._inner.connect_tcp(host, port, timeout, local_address, socket_options)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def _public_address(host: str, port: int) -> str:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for *_, address in found:
        if not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_global:
            raise DownloadError(f"a redirect leads to {host}, a private address ({address[0]}); that is not followed")
    return str(found[0][4][0])


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
