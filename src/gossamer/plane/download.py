"""What is fetched over HTTP because configuration asks for it: keys of issuers, modules of plugins.

Invariant: an answer is never held beyond the size that it may have. Where redirects may lead is for who fetches to say.
"""

from __future__ import annotations

from typing import Final

import httpcore

HTTP_ERRORS: Final = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    httpcore.UnsupportedProtocol,
)
_MOVED: Final = (301, 302, 303, 307, 308)


class DownloadError(Exception):
    """Why something is not to be had."""


def redirect_of(response: httpcore.Response) -> str | None:
    """Where an answer sends whoever asked, empty if it does not say; None for one that is no redirect."""
    if response.status not in _MOVED:
        return None
    return dict(response.headers).get(b"location", b"").decode("latin-1")


async def content_of(response: httpcore.Response, url: str, largest: int) -> bytes:
    """The body of an answer, `largest` bytes at most. DownloadError for any other, or one that is not 200."""
    if response.status != 200:
        raise DownloadError(f"{url} answers {response.status}")
    content = bytearray()
    async for part in response.aiter_stream():
        content += part
        if len(content) > largest:
            raise DownloadError(f"{url} is larger than {largest // 1024 // 1024} MB")
    return bytes(content)
