"""The small HTTP API that a control plane and an agent each serve to commands on their own host.

It listens on a UNIX socket of mode 0600 in a folder of mode 0700, so whoever reaches it is the user who runs the mesh;
nothing of it is on a network.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from gossamer.core.errors import GossamerError, UnavailableError


@contextlib.asynccontextmanager
async def serving(socket: Path, routes: Sequence[Route]) -> AsyncIterator[None]:
    """Serve the routes on the socket while the context lasts; a stale socket of a dead process is replaced."""
    socket.unlink(missing_ok=True)
    config = uvicorn.Config(Starlette(routes=list(routes)), uds=str(socket), log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    socket.chmod(0o600)
    loop = asyncio.create_task(server.main_loop())
    try:
        yield
    finally:
        server.should_exit = True
        await loop
        await server.shutdown()
        socket.unlink(missing_ok=True)


def call(socket: Path, method: str, path: str, *, body: Any = None, timeout_s: float = 10.0) -> httpx.Response:
    """One request to the API behind the socket. UnavailableError if nobody answers, GossamerError if it refuses."""
    transport = httpx.HTTPTransport(uds=str(socket))
    try:
        with httpx.Client(transport=transport, base_url="http://local", timeout=timeout_s, trust_env=False) as client:
            response = client.request(method, path, json=body)
    except httpx.TransportError as error:
        raise UnavailableError(f"nobody answers at {socket}: {error}; is it running?") from error
    if response.is_error:
        raise GossamerError(response.text.strip() or f"{path}: {response.status_code}")
    return response
