"""How every service listens, answers, logs and stops: uvicorn with what a sidecar as its only client calls for."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Mapping

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse

from gossamer.demo.bookinfo.context import peer_identity
from gossamer.demo.bookinfo.settings import Settings

# Longer than Envoy keeps an idle upstream connection (one hour): whoever closes first must be Envoy, since a request
# that it sends into a connection that we are closing fails.
KEEP_ALIVE_SECONDS = 2 * 60 * 60
DRAIN_SECONDS = 5


def bind_socket(host: str, port: int) -> socket.socket:
    """A bound TCP socket that does not listen yet, so that nobody connects before the service is ready."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only where the protocol is named; with it a response, written in two parts,
    # waits 40 ms for the acknowledgement of the first.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock


def write_event(level: str, event: str, fields: Mapping[str, object]) -> None:
    """One line on standard error: for people on a terminal, JSON elsewhere."""
    if sys.stderr.isatty():
        line = " ".join([event, *(f"{name}={value}" for name, value in fields.items())])
    else:
        line = json.dumps({"ts": round(time.time(), 3), "level": level, "event": event, **fields})
    print(line, file=sys.stderr, flush=True)


def reply(request: Request, settings: Settings, body: object, *, status: int = 200) -> JSONResponse:
    """`body` as JSON, with headers that say which pod answered and whom its sidecar saw calling."""
    return JSONResponse(body, status_code=status, headers=about_us(request, settings))


def about_us(request: Request, settings: Settings) -> dict[str, str]:
    """Headers for a response: `x-bookinfo-pod`, and `x-bookinfo-peer` when a sidecar vouched for the caller."""
    peer = peer_identity(request.headers.getlist("x-forwarded-client-cert"))
    return {"x-bookinfo-pod": settings.podname} | ({"x-bookinfo-peer": peer} if peer else {})


class _AnnouncedServer(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, settings: Settings) -> None:
        super().__init__(config)
        self._settings = settings

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        host, port = (sockets or [])[0].getsockname()[:2]
        where = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        settings = self._settings
        fields = {"service": settings.service, "version": settings.version, "pod": settings.podname, "address": where}
        write_event("info", "listening", fields)


def serve_app(settings: Settings, app: Starlette, sock: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT, then answer what is open for at most five seconds."""
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http="h11",
        ws="none",
        log_config=None,
        access_log=False,  # the sidecar keeps one
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
    _AnnouncedServer(config, settings).run(sockets=[sock])
