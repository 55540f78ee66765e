"""How one service calls another: a deadline for each attempt, and an `Answer` whatever happens, never an exception."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

import httpcore  # not httpx, whose import costs each process four times as much

from gossamer.demo.bookinfo.context import Headers
from gossamer.demo.bookinfo.server import write_event

LONGEST_REASON = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of a call: `problem` is empty when it went well, else one clause for people.

    `status` is the last HTTP status, 504 after a deadline and 502 when nobody answered; `elapsed` is in seconds and
    counts every attempt; header names are in lower case.
    """

    status: int
    body: object = None
    problem: str = ""
    elapsed: float = 0.0
    attempts: int = 1
    headers: Mapping[str, str] = field(default_factory=dict)


def proxy_for(host: str) -> tuple[str, tuple[str, str] | None] | None:
    """The URL of the HTTP proxy for `host` by HTTP_PROXY and NO_PROXY, and its user and password, if it wants any."""
    if not any(name.lower() in ("http_proxy", "all_proxy") for name in os.environ):
        return None
    import urllib.request as environment  # noqa: PLC0415 - 20 ms that are spent only where there is a proxy

    proxies = environment.getproxies_environment()
    url = proxies.get("http") or proxies.get("all")
    if not url or environment.proxy_bypass(host):
        return None
    parts = urlsplit(url if "://" in url else f"http://{url}")
    auth = (parts.username, parts.password or "") if parts.username else None
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", auth


def build_pool(base: str) -> httpcore.AsyncConnectionPool:
    """The connections to `base`, straight or by way of the proxy in the environment."""
    proxy = proxy_for(urlsplit(base).netloc)
    return httpcore.AsyncConnectionPool(
        proxy=httpcore.Proxy(proxy[0], auth=proxy[1]) if proxy else None,
        max_connections=None,
        max_keepalive_connections=32,
        keepalive_expiry=60.0,
    )


def _refusal(response: httpcore.Response) -> str:
    """What a failed response says of itself: a mesh explains its refusals in a short plain text."""
    if not response.content or len(response.content) > LONGEST_REASON:
        return f"answered {response.status}"
    try:
        text = response.content.decode("utf-8").strip()
    except UnicodeDecodeError:
        text = ""
    return f"answered {response.status}: {text}" if text.isprintable() and text else f"answered {response.status}"


class Upstream:
    """Calls to one service: at most `attempts` tries a call, each of at most `deadline` seconds."""

    def __init__(self, name: str, base: str, *, deadline: float, attempts: int = 1) -> None:
        self.name = name
        self.base = base
        self.deadline = deadline
        self.attempts = attempts
        self._pool = build_pool(base)

    async def get(self, path: str, headers: Headers) -> Answer:
        """The JSON at `path`. What the far side refuses (4xx) is not asked again; any other failure is."""
        started = time.monotonic()
        tries = 1
        answer = await self._try(path, headers)
        while answer.status >= 500 and tries < self.attempts:
            tries += 1
            answer = await self._try(path, headers)
        if answer.problem:
            fields = {"upstream": self.name, "problem": answer.problem, "attempts": tries}
            write_event("warning", "upstream_failed", fields)
        return replace(answer, elapsed=time.monotonic() - started, attempts=tries)

    async def _try(self, path: str, headers: Headers) -> Answer:
        try:
            async with asyncio.timeout(self.deadline):
                response = await self._pool.request("GET", self.base + path, headers=headers)
        except TimeoutError:
            return Answer(status=504, problem=f"gave no answer within {self.deadline:g} s")
        except httpcore.ConnectError:
            return Answer(status=502, problem="could not be reached")
        except httpcore.ProxyError as error:
            return Answer(status=502, problem=f"could not be reached through the proxy: {error}")
        except (httpcore.NetworkError, httpcore.ProtocolError):
            return Answer(status=502, problem="broke the connection off without an answer")
        received = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
        if response.status != 200:
            return Answer(status=response.status, problem=_refusal(response), headers=received)
        try:
            return Answer(status=200, body=json.loads(response.content), headers=received)
        except ValueError:
            return Answer(status=502, problem="answered with something that is not JSON", headers=received)

    async def aclose(self) -> None:
        """Close the idle connections."""
        await self._pool.aclose()
