"""Envoy's admin interface, over its UNIX socket.

Invariant: a failure to reach Envoy is an UnavailableError, an answer that says no is an EnvoyError.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import httpcore

from gossamer.core.errors import EnvoyError, UnavailableError

_TIMEOUT: Final = {"connect": 2.0, "read": 10.0, "write": 10.0, "pool": 10.0}
_READY_SECONDS: Final = 2.0
_FAILURES: Final = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError)


class Admin:
    """A client of one Envoy. Close it when done."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        # one connection a request: an Envoy that restarts leaves no dead one behind
        self._pool = httpcore.AsyncConnectionPool(uds=str(socket), max_keepalive_connections=0)

    async def close(self) -> None:
        await self._pool.aclose()

    async def state(self) -> str:
        """LIVE, DRAINING, PRE_INITIALIZING or INITIALIZING (Envoy's ServerInfo.State); empty when unreachable."""
        try:
            async with asyncio.timeout(_READY_SECONDS):
                answer = await self._send("GET", "/ready", {})
        except (*_FAILURES, TimeoutError):
            return ""
        return answer.content.decode(errors="replace").strip()

    async def config_dump(self, *, mask: str = "", resource: str = "") -> dict[str, Any]:
        """The configuration that it has, endpoints included."""
        query = {key: value for key, value in (("mask", mask), ("resource", resource)) if value}
        answer = await self._request("GET", "/config_dump", {**query, "include_eds": ""})
        return _object(answer)

    async def secret_versions(self, names: Sequence[str]) -> list[tuple[str, str]]:
        """The names and versions of these secrets as it has them; without a version, one that it still waits for."""
        query = {"name_regex": f"^({'|'.join(re.escape(name) for name in names)})$"}
        found: list[tuple[str, str]] = []
        for kind in ("dynamic_active_secrets", "dynamic_warming_secrets"):
            dump = _object(await self._request("GET", "/config_dump", {"resource": kind, **query}))
            has = kind == "dynamic_active_secrets"
            found += [(one["name"], one.get("version_info", "") if has else "") for one in dump.get("configs", ())]
        return found

    async def clusters(self) -> dict[str, Any]:
        """Clusters with the state of every endpoint."""
        return _object(await self.clusters_text())

    async def clusters_text(self) -> str:
        """The same, as the JSON text that it came in: some megabytes with a thousand clusters."""
        return await self._request("GET", "/clusters", {"format": "json"})

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

    async def set_runtime(self, values: dict[str, str]) -> None:
        """Set runtime keys, for as long as this Envoy runs."""
        await self._request("POST", "/runtime_modify", values)

    async def begin_drain(self) -> None:
        """Fail health checks, and close listeners and idle connections over the drain time."""
        await self._request("POST", "/healthcheck/fail", {})
        await self._request("POST", "/drain_listeners", {"graceful": ""})

    async def open_work(self) -> int:
        """Requests under way, and connections that are not HTTP; idle HTTP connections and the admin's own left out."""
        stats = await self.stats(r"^(listener|http)\..*\.downstream_(cx|rq)_active$")
        counts = {name: value for name, value in stats.items() if ".admin." not in name}
        requests = sum(value for name, value in counts.items() if name.endswith("_rq_active"))
        listeners = sum(v for k, v in counts.items() if k.startswith("listener.") and k.count("worker_") == 0)
        managed = sum(v for k, v in counts.items() if k.startswith("http.") and k.endswith("_cx_active"))
        return requests + max(0, listeners - managed)

    async def _send(self, method: str, path: str, query: dict[str, str]) -> httpcore.Response:
        target = f"{path}?{urlencode(query)}" if query else path
        return await self._pool.request(method, f"http://envoy{target}", extensions={"timeout": _TIMEOUT})

    async def _request(self, method: str, path: str, query: dict[str, str]) -> str:
        try:
            answer = await self._send(method, path, query)
        except _FAILURES as error:
            raise UnavailableError(
                f"Envoy does not answer at {self._socket}: {error or type(error).__name__}"
            ) from error
        text = answer.content.decode(errors="replace")
        if answer.status != HTTPStatus.OK:
            raise EnvoyError(f"Envoy refused {path}: {text.strip() or answer.status}")
        return text


def _object(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text)
    return found
