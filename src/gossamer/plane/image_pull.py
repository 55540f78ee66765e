"""Wasm modules in OCI images, pulled from their registry (OCI distribution specification, Docker's token protocol).

Invariant: what is used has the digest that the reference, or the manifest above it, says. Credentials go to the
registry and to the server of tokens that it names, by HTTPS unless the registry is on this machine.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import json
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode, urlsplit

from gossamer.model.images import HUB, Image
from gossamer.plane.download import Access, Answer, DownloadError, Downloads
from gossamer.plane.image_layers import MANIFESTS, module_in, read_manifest
from gossamer.plane.pull_secrets import Login

_MANIFEST_BYTES: Final = 1024 * 1024
_TOKEN_BYTES: Final = 64 * 1024
_REDIRECTS: Final = 5
_CHALLENGE: Final = re.compile(r'(\w+)="([^"]*)"')
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


async def pull_module(image: Image, sha256: str, login: Login | None, access: Access, largest: int) -> bytes:
    """The module in an image, `largest` bytes at most. DownloadError if it is not to be had, or if neither the image
    nor, of one for several platforms, the one that is taken has this `sha256` (empty: any)."""
    base = f"{'http' if _is_here(image.host) else 'https'}://{_server(image.host)}/v2/{image.repository}"
    async with Downloads(base, access, _REDIRECTS) as downloads:
        registry = _Registry(downloads, image, base, login)
        content = await registry.manifest(image.reference)
        digests = [_digest(content)]
        if image.digest and digests[0] != image.digest:
            raise DownloadError(f"{_named(image)} has the digest {digests[0]}")
        manifest = read_manifest(content)
        if manifest.instead:
            content = await registry.manifest(manifest.instead, of_index=True)
            digests.append(_digest(content))
            manifest = read_manifest(content)
        if sha256 and f"sha256:{sha256}" not in digests:
            raise DownloadError(f"{_named(image)} has the digest {digests[0]}, not sha256:{sha256}")
        for layer in manifest.layers:
            blob = await registry.blob(layer.digest, largest)
            module = blob if layer.module else await asyncio.to_thread(module_in, blob, largest)
            if module is not None:
                return module
    raise DownloadError(f"{_named(image)} holds no plugin.wasm")


class _Registry:
    """One image's repository, and what we may do there."""

    def __init__(self, downloads: Downloads, image: Image, base: str, login: Login | None) -> None:
        self._downloads = downloads
        self._image = image
        self._base = base
        self._login = login
        self._authorization = ""

    async def manifest(self, reference: str, *, of_index: bool = False) -> bytes:
        """A manifest by tag or digest; below an index it must have its digest."""
        if of_index and not _DIGEST.fullmatch(reference):
            raise DownloadError(f"{_named(self._image)} has an index with the digest {reference!r}, which is none")
        content = await self._get(f"manifests/{reference}", _MANIFEST_BYTES, ", ".join(MANIFESTS))
        if of_index and _digest(content) != reference:
            raise DownloadError(f"{_named(self._image)} has a manifest that is not what its digest says")
        return content

    async def blob(self, digest: str, largest: int) -> bytes:
        """A layer by its digest, which it has."""
        if not _DIGEST.fullmatch(digest):
            raise DownloadError(f"{_named(self._image)} has a layer with the digest {digest!r}, no SHA-256")
        content = await self._get(f"blobs/{digest}", largest, "*/*")
        if _digest(content) != digest:
            raise DownloadError(f"{_named(self._image)} has a layer that is not what its digest says")
        return content

    async def _get(self, path: str, largest: int, accept: str) -> bytes:
        answer = await self._ask(path, largest, accept)
        if answer.status == 401 and not self._authorization:
            await self._authorize(answer.headers.get("www-authenticate", ""))
            answer = await self._ask(path, largest, accept)
        if answer.status in (401, 403):
            todo = "name a Secret with credentials as imagePullSecret" if self._login is None else "look at the Secret"
            raise DownloadError(f"{self._image.host} does not give out {_named(self._image)} ({answer.status}): {todo}")
        if answer.status == 404 and path.startswith("manifests/"):
            raise DownloadError(f"{self._image.host} has no {_named(self._image)}")
        return answer.expected()

    async def _ask(self, path: str, largest: int, accept: str) -> Answer:
        headers = {"accept": accept}
        if self._authorization:
            headers["authorization"] = self._authorization
        return await self._downloads.get(f"{self._base}/{path}", largest, headers)

    async def _authorize(self, challenge: str) -> None:
        """Do as the registry asks: show who we are, or fetch a token, without a name if we have none."""
        scheme, _, rest = challenge.partition(" ")
        parameters = dict(_CHALLENGE.findall(rest))
        if scheme.lower() == "bearer" and "realm" in parameters:
            self._authorization = f"Bearer {await self._token(parameters)}"
        elif scheme.lower() == "basic" and self._login is not None:
            self._authorization = self._login.basic

    async def _token(self, parameters: Mapping[str, str]) -> str:
        query = {"scope": f"repository:{self._image.repository}:pull"}
        if "service" in parameters:
            query["service"] = parameters["service"]
        realm = parameters["realm"]
        url = f"{realm}{'&' if urlsplit(realm).query else '?'}{urlencode(query)}"
        headers = {"accept": "application/json"}
        if self._login is not None:
            headers["authorization"] = self._login.basic
        answer = await self._downloads.get(url, _TOKEN_BYTES, headers)
        if answer.status in (401, 403):
            raise DownloadError(f"{urlsplit(realm).netloc} gives no token for {_named(self._image)} to us")
        try:
            document = json.loads(answer.expected())
        except (ValueError, RecursionError) as error:
            raise DownloadError(f"what {urlsplit(realm).netloc} answers is no token") from error
        found = document.get("token") or document.get("access_token") if isinstance(document, dict) else None
        if not isinstance(found, str) or not found.isprintable() or not found.isascii():
            raise DownloadError(f"what {urlsplit(realm).netloc} answers is no token")
        return found


def _named(image: Image) -> str:
    return f"{image.host}/{image.repository}{'@' if image.digest else ':'}{image.reference}"


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _server(host: str) -> str:
    return "registry-1.docker.io" if host == HUB else host


def _is_here(host: str) -> bool:
    """Whether a registry is on this machine: it is spoken to without TLS, as Docker does."""
    name = urlsplit(f"//{host}").hostname or ""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"
