"""Our own roots as a SPIFFE bundle, for other trust domains to fetch: an HTTPS server with one document.

The certificate that it shows is given to us (SPIFFE's `https_web` profile: who fetches has nothing else to verify us
by). Invariant: it says the roots of the mesh alone, as they are trusted now.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gossamer.ca.authority import Authority
from gossamer.ca.spiffe_bundle import dump_bundle
from gossamer.core.address import split_address
from gossamer.core.errors import UsageError
from gossamer.core.latest import Latest

REFRESH: Final = timedelta(minutes=5)
_LOOK_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleEndpoint:
    """Where it listens (HOST:PORT), and the files (PEM) of its certificate chain and key."""

    listen: str
    certificate: Path
    key: Path


@contextlib.asynccontextmanager
async def serving_bundle(endpoint: BundleEndpoint, authority: Latest[Authority]) -> AsyncIterator[int]:
    """Serve the bundle while the context lasts, at any path; yields the port. UsageError if it cannot.

    The certificate's files are looked at every minute, so that they may be renewed.
    """
    host, port = split_address(endpoint.listen)
    context = _context(endpoint)

    async def bundle(_: Request) -> Response:
        document = dump_bundle(authority.value.roots, sequence=authority.generation, refresh=REFRESH)
        return Response(document, media_type="application/json")

    app = Starlette(routes=[Route("/{path:path}", bundle)])
    config = uvicorn.Config(app, host=host.strip("[]"), port=port, log_level="error", lifespan="off")
    config.load()
    config.ssl = context
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    try:
        await server.startup()
    except SystemExit as error:  # how uvicorn says that the port is taken
        raise UsageError(f"cannot listen on {endpoint.listen} for the bundle") from error
    tasks = [asyncio.create_task(server.main_loop()), asyncio.create_task(_renew(endpoint, context))]
    try:
        yield int(server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.shutdown()


def _context(endpoint: BundleEndpoint) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load(endpoint, context)
    return context


def _load(endpoint: BundleEndpoint, context: ssl.SSLContext) -> None:
    try:
        context.load_cert_chain(endpoint.certificate, endpoint.key)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"the bundle's certificate {endpoint.certificate} and key cannot be used: {error}") from error


async def _renew(endpoint: BundleEndpoint, context: ssl.SSLContext) -> None:
    while True:
        await asyncio.sleep(_LOOK_S)
        with contextlib.suppress(UsageError):
            _load(endpoint, context)
