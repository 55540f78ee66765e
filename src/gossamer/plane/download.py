"""What is fetched over HTTP because configuration asks for it: keys of issuers, modules of plugins.

Invariant: an answer is never held beyond the size that it may have, and nobody's answer leads the control plane where
its operator did not send it: from HTTPS to plain HTTP never, and to private addresses only if that is allowed.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import httpcore

HTTP_ERRORS: Final = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    httpcore.UnsupportedProtocol,
)
_MOVED: Final = (301, 302, 303, 307, 308)
_AUTHORIZATION: Final = "authorization"


class DownloadError(Exception):
    """Why something is not to be had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How servers are reached: whose certificates are believed, and whether answers may lead to private addresses."""

    trust: ssl.SSLContext = field(default_factory=ssl.create_default_context)
    private_redirects: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a server says in the end. `headers` have lower-case names; there is `content` with status 200 alone."""

    url: str
    status: int
    headers: Mapping[str, str]
    content: bytes = b""

    def expected(self) -> bytes:
        """The content; DownloadError if the status is not 200."""
        if self.status != 200:
            raise DownloadError(f"{self.url} answers {self.status}")
        return self.content


class Downloads:
    """Requests on behalf of one URL that somebody wrote, as a context. Where answers lead from there private addresses
    are out of bounds, and so is HTTP for what began with HTTPS."""

    def __init__(self, written: str, access: Access, redirects: int) -> None:
        self._written = urlsplit(written)
        self._said = written
        self._access = access
        self._redirects = redirects
        self._backend = _Backend()
        self._pool = httpcore.AsyncConnectionPool(ssl_context=access.trust, network_backend=self._backend)

    async def __aenter__(self) -> Downloads:
        await self._pool.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._pool.__aexit__(kind, error, trace)

    async def get(self, url: str, largest: int, headers: Mapping[str, str]) -> Answer:
        """What a URL answers, `largest` bytes at most. A header `authorization` is for its own server alone."""
        origin = urlsplit(url)[:2]
        for _ in range(self._redirects + 1):
            parts = urlsplit(url)
            self._check(url)
            self._backend.guarded = not self._access.private_redirects and parts.netloc != self._written.netloc
            given: dict[bytes | str, bytes | str] = {
                name: value for name, value in headers.items() if parts[:2] == origin or name != _AUTHORIZATION
            }
            async with self._pool.stream("GET", url, headers=given) as response:
                told = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
                if response.status not in _MOVED:
                    content = await _content(response, url, largest) if response.status == 200 else b""
                    return Answer(url=url, status=response.status, headers=told, content=content)
            url = urljoin(url, told.get("location", ""))
        raise DownloadError(f"{self._said} redirects more than {self._redirects} times")

    def _check(self, url: str) -> None:
        scheme = urlsplit(url).scheme
        if scheme not in ("http", "https") or (self._written.scheme == "https" and scheme != "https"):
            raise DownloadError(f"{self._said} leads to {url}, which is not to be trusted with it")


async def _content(response: httpcore.Response, url: str, largest: int) -> bytes:
    content = bytearray()
    async for part in response.aiter_stream():
        content += part
        if len(content) > largest:
            raise DownloadError(f"{url} is larger than {largest // 1024 // 1024} MB")
    return bytes(content)


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
