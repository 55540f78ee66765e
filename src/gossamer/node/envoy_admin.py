"""Envoy's admin interface, over its UNIX socket.

Invariant: a failure to reach Envoy is an UnavailableError, an answer that says no is an EnvoyError.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import httpx

from gossamer.core.errors import EnvoyError, UnavailableError

_TIMEOUT: Final = httpx.Timeout(10.0, connect=2.0)


class Admin:
    """A client of one Envoy. Close it when done."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        # one connection a request: an Envoy that restarts leaves no dead one behind
        transport = httpx.AsyncHTTPTransport(uds=str(socket), limits=httpx.Limits(max_keepalive_connections=0))
        self._client = httpx.AsyncClient(transport=transport, base_url="http://envoy", timeout=_TIMEOUT)

    async def close(self) -> None:
        await self._client.aclose()

    async def state(self) -> str:
        """LIVE, DRAINING, PRE_INITIALIZING or INITIALIZING (Envoy's ServerInfo.State); empty when unreachable."""
        try:
            answer = await self._client.get("/ready")
        except httpx.HTTPError:
            return ""
        return answer.text.strip()

    async def config_dump(self, *, mask: str = "", resource: str = "") -> dict[str, Any]:
        """The configuration that it has, endpoints included."""
        query = {key: value for key, value in (("mask", mask), ("resource", resource)) if value}
        answer = await self._request("GET", "/config_dump", {**query, "include_eds": ""})
        return _object(answer)

    async def clusters(self) -> dict[str, Any]:
        """Clusters with the state of every endpoint."""
        return _object(await self._request("GET", "/clusters", {"format": "json"}))

    async def server_info(self) -> dict[str, Any]:
        return _object(await self._request("GET", "/server_info", {}))

    async def stats(self, pattern: str = "") -> dict[str, int]:
        """Counters and gauges by name, of those that `pattern` (a regular expression) finds."""
        text = await self._request("GET", "/stats", {"filter": pattern} if pattern else {})
        found: dict[str, int] = {}
        for line in text.splitlines():
            name, _, value = line.rpartition(": ")
            if value.lstrip("-").isdigit():
                found[name] = int(value)
        return found

    async def prometheus(self) -> str:
        return await self._request("GET", "/stats/prometheus", {})

    async def set_log_level(self, level: str, logger: str = "") -> str:
        """Set one logger's level, or all; returns the levels that are in force. EnvoyError for an unknown one."""
        return await self._request("POST", "/logging", {logger or "level": level})

    async def begin_drain(self) -> None:
        """Fail health checks, and close listeners and idle connections over the drain time."""
        await self._request("POST", "/healthcheck/fail", {})
        await self._request("POST", "/drain_listeners", {"graceful": ""})

    async def active_connections(self) -> int:
        """Open downstream connections, the admin interface's own left out."""
        stats = await self.stats(r"^listener\..*\.downstream_cx_active$")
        return sum(value for name, value in stats.items() if not name.startswith("listener.admin."))

    async def _request(self, method: str, path: str, query: dict[str, str]) -> str:
        try:
            answer = await self._client.request(method, path, params=query)
        except httpx.HTTPError as error:
            raise UnavailableError(
                f"Envoy does not answer at {self._socket}: {error or type(error).__name__}"
            ) from error
        if answer.status_code != httpx.codes.OK:
            raise EnvoyError(f"Envoy refused {path}: {answer.text.strip() or answer.status_code}")
        return answer.text


def _object(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text)
    return found
