"""One request as a client makes it, and what came back as a mapping that JSON can carry.

The same function asks from inside a workload and from outside, at a gateway.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import Any
from urllib.parse import urlsplit

import grpc.aio
import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

TIMEOUT_S = 10.0
SAY = "/echo.Echo/Say"


async def ask(
    url: str,
    *,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    body: dict[str, Any] | None = None,
    via: str = "",
    http2: bool = False,
) -> dict[str, Any]:
    """The answer: `status`, `headers`, `body` and, if it is JSON, `json`; status 0 if none came. `tcp://` sends a line,
    `greeting://` waits for one, `ws://` sends a message over a WebSocket, and `grpc://` calls `/echo.Echo/Say`.

    `via` is an address to connect to in place of the one that the URL's host has; `body` is sent as JSON.
    """
    try:
        match urlsplit(url).scheme:
            case "tcp" | "greeting" as scheme:
                return await _line(url, via, first=scheme == "greeting")
            case "ws":
                return await _message(url, via)
            case "grpc":
                return await _call(url, via)
        request = httpx.Request(method, url, headers=headers, json=body)
        return await _http(request, via, http2=http2)
    except (
        OSError,
        httpx.HTTPError,
        ssl.SSLError,
        EOFError,
        TimeoutError,
        WebSocketException,
        grpc.aio.AioRpcError,
    ) as error:
        return {"status": 0, "headers": {}, "body": f"{type(error).__name__}: {error}"}


async def _message(url: str, via: str) -> dict[str, Any]:
    place = urlsplit(via or url)
    async with (
        asyncio.timeout(TIMEOUT_S),
        connect(url, host=place.hostname, port=place.port or 80, proxy=None) as talk,
    ):
        await talk.send("hello")
        said = json.loads(await talk.recv())
        assert said["message"] == "hello"
    return {"status": 200, "headers": {"x-from": said["name"]}, "body": "", "json": said}


async def _call(url: str, via: str) -> dict[str, Any]:
    asked, place = urlsplit(url), urlsplit(via or url)
    options = (("grpc.default_authority", asked.netloc), ("grpc.enable_http_proxy", 0))
    async with grpc.aio.insecure_channel(f"{place.hostname}:{place.port}", options=options) as channel:
        say: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(SAY)
        answers = [answer async for answer in say(b"hello", timeout=TIMEOUT_S)]
    assert len(answers) == 2
    name, _, word = answers[0].decode().partition(": ")
    assert word == "hello"
    said = {"name": name, "path": SAY, "headers": [["host", asked.netloc]]}
    return {"status": 200, "headers": {"x-from": name}, "body": "", "json": said}


async def _line(url: str, via: str, *, first: bool) -> dict[str, Any]:
    place = urlsplit(via or url)
    async with asyncio.timeout(TIMEOUT_S):
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        if not first:
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
