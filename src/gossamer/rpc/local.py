"""The small HTTP API that a control plane and an agent each serve to commands on their own host.

It listens on a UNIX socket of mode 0600 in a folder of mode 0700, so whoever reaches it is the user who runs the mesh;
nothing of it is on a network.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpcore

from gossamer.core.errors import GossamerError, UnavailableError

PLANE_SOCKET: Final = "control-plane.sock"
AGENT_SOCKET: Final = "agent.sock"
"""In the runtime folder of a mesh."""

if TYPE_CHECKING:
    from starlette.routing import Route


@contextlib.asynccontextmanager
async def serving(socket: Path, routes: Sequence[Route]) -> AsyncIterator[None]:
    """Serve the routes on the socket while the context lasts; a stale socket of a dead process is replaced."""
    import uvicorn  # noqa: PLC0415 - commands that only ask need not wait for a server's modules
    from starlette.applications import Starlette  # noqa: PLC0415

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the API said."""

    text: str

    def json(self) -> Any:
        return json.loads(self.text)


def call(socket: Path, method: str, path: str, *, body: Any = None, timeout_s: float = 10.0) -> Answer:
    """One request to the API behind the socket. UnavailableError if nobody answers, GossamerError if it refuses."""
    timeouts = dict.fromkeys(("connect", "read", "write", "pool"), timeout_s)
    content = b"" if body is None else json.dumps(body).encode()
    headers = [("content-type", "application/json"), ("content-length", str(len(content)))]
    try:
        with httpcore.ConnectionPool(uds=str(socket)) as pool:
            response = pool.request(
                method, f"http://local{path}", headers=headers, content=content, extensions={"timeout": timeouts}
            )
    except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
        raise UnavailableError(f"nobody answers at {socket}: {error or 'in time'}; is it running?") from error
    text = response.content.decode()
    if response.status >= 400:
        raise GossamerError(text.strip() or f"{path}: {response.status}")
    return Answer(text=text)
