"""One request as a client makes it, and what came back as a mapping that JSON can carry.

The same function asks from inside a workload and from outside, at a gateway.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any
from urllib.parse import urlsplit

import httpx

TIMEOUT_S = 10.0


async def ask(
    url: str,
    *,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    body: dict[str, Any] | None = None,
    via: str = "",
    http2: bool = False,
) -> dict[str, Any]:
    """The answer: `status`, `headers`, `body` and, if it is JSON, `json`; status 0 if none came. `tcp://` sends a line.

    `via` is an address to connect to in place of the one that the URL's host has; `body` is sent as JSON.
    """
    try:
        if urlsplit(url).scheme == "tcp":
            return await _line(url, via)
        request = httpx.Request(method, url, headers=headers, json=body)
        return await _http(request, via, http2=http2)
    except (OSError, httpx.HTTPError, ssl.SSLError, EOFError, TimeoutError) as error:
        return {"status": 0, "headers": {}, "body": f"{type(error).__name__}: {error}"}


async def _line(url: str, via: str) -> dict[str, Any]:
    place = urlsplit(via or url)
    async with asyncio.timeout(TIMEOUT_S):
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        writer.write(b"hello\n")
        body = await reader.readline()
        writer.close()
    if not body:
        raise EOFError("closed without a word")
    return {"status": 200, "headers": {}, "body": body.decode()}


async def _http(request: httpx.Request, via: str, *, http2: bool) -> dict[str, Any]:
    if via:
        place = urlsplit(via)
        request.extensions["sni_hostname"] = request.url.host
        request.url = request.url.copy_with(host=place.hostname, port=place.port)
    async with httpx.AsyncClient(
        verify=False,
        http1=not http2,
        http2=http2,
        timeout=TIMEOUT_S,
        trust_env=False,
    ) as client:
        reply = await client.send(request)
    kind = reply.headers.get("content-type", "")
    told = {"status": reply.status_code, "headers": dict(reply.headers), "body": reply.text}
    return told | ({"json": reply.json()} if kind.startswith("application/json") else {})
