"""What runs behind the sidecars of the agreement tests: it says what it got, and asks others when told to.

`python -m tests.e2e.agreement.app NAME` serves, until it is ended,

- HTTP on port 8080: what arrived, as JSON; `POST /-/ask` makes it ask somebody and tell what came back, `GET
  /-/to/HOST/PATH` makes it pass a request on, over connections that it keeps, `GET /-/drip` lasts a minute, and `GET
  /-/fail` gets a 502; a WebSocket gets the same of its handshake, for each message;
- TCP on port 9090: `NAME: ` and the line, for each that it gets;
- gRPC on port 9091: the same, twice in a stream, by the method `/echo.Echo/Say`;
- TCP on port 9306: `NAME: ` before anything is asked, and then as on 9090;
- TLS on port 9443, with a certificate of its own: HTTP as on 8080.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import grpc.aio
import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from tests.compile.certificates import Issuer
from tests.e2e.agreement.asking import ask

HTTP, TCP, TLS = 8080, 9090, 9443
GRPC, GREETING = 9091, 9306


def application(name: str) -> Starlette:
    """The HTTP side."""

    async def echo(request: Request) -> Response:
        query = request.scope["query_string"].decode()
        raw = request.scope["raw_path"].decode() + (f"?{query}" if query else "")
        headers = [[key, value] for key, value in request.headers.items()]
        said: dict[str, Any] = {"name": name, "method": request.method, "path": raw, "headers": headers}
        return JSONResponse(said, headers={"x-from": name})

    async def talk(socket: WebSocket) -> None:
        await socket.accept()
        headers = [[key, value] for key, value in socket.headers.items()]
        said = {"name": name, "method": "GET", "path": socket.url.path, "headers": headers}
        async for message in socket.iter_text():
            await socket.send_json(said | {"message": message})

    async def told(request: Request) -> Response:
        return JSONResponse(await ask(**await request.json()))

    relaying = httpx.AsyncClient(trust_env=False, timeout=5)

    async def relay(request: Request) -> Response:
        try:
            reply = await relaying.get(f"http://{request.path_params['host']}/{request.path_params['rest']}")
        except httpx.HTTPError as error:
            return JSONResponse({"problem": f"{type(error).__name__}: {error}"}, status_code=502)
        return Response(reply.content, status_code=reply.status_code, media_type="application/json")

    async def drops() -> AsyncIterator[bytes]:
        for _ in range(300):
            yield b"."
            await asyncio.sleep(0.2)

    async def drip(_: Request) -> Response:
        return StreamingResponse(drops())

    async def fail(_: Request) -> Response:
        return Response(f"{name} fails", status_code=502)

    anything = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]
    return Starlette(
        routes=[
            Route("/-/ask", told, methods=["POST"]),
            Route("/-/drip", drip),
            Route("/-/fail", fail),
            Route("/-/to/{host}/{rest:path}", relay),
            Route("/{rest:path}", echo, methods=anything),
            WebSocketRoute("/{rest:path}", talk),
        ],
    )


async def _tcp(name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, first: bool = False) -> None:
    if first:
        writer.write(f"{name}: welcome\n".encode())
    while line := await reader.readline():
        writer.write(f"{name}: ".encode() + line)
        await writer.drain()
    writer.close()


def _grpc(name: str, port: int) -> grpc.aio.Server:
    async def say(request: bytes, _: object) -> AsyncIterator[bytes]:
        for _count in range(2):
            yield f"{name}: ".encode() + request

    server = grpc.aio.server()
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {"Say": grpc.unary_stream_rpc_method_handler(say)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("echo.Echo", handlers),))
    server.add_insecure_port(f"0.0.0.0:{port}")
    return server


@asynccontextmanager
async def _streams(name: str) -> AsyncIterator[None]:
    """What a workload serves beside HTTP, TCP and TLS."""
    calls = _grpc(name, GRPC)
    await calls.start()
    try:
        async with await asyncio.start_server(partial(_tcp, name, first=True), "0.0.0.0", GREETING):
            yield
    finally:
        await calls.stop(None)


async def serve(name: str, ports: tuple[int, int, int] = (HTTP, TCP, TLS)) -> None:
    """Serve until cancelled or told to end by a signal."""
    web = application(name)
    with tempfile.TemporaryDirectory() as folder:
        own = Issuer().issue("secure.example").write(Path(folder), "own")
        quiet: dict[str, Any] = {"log_level": "warning", "host": "0.0.0.0", "lifespan": "off"}
        quiet["ws"] = "websockets-sansio"
        servers = [
            uvicorn.Server(uvicorn.Config(web, port=ports[0], **quiet)),
            uvicorn.Server(uvicorn.Config(web, port=ports[2], ssl_certfile=own, **quiet)),
        ]
        lines = await asyncio.start_server(lambda reader, writer: _tcp(name, reader, writer), "0.0.0.0", ports[1])
        async with lines, nullcontext() if ports != (HTTP, TCP, TLS) else _streams(name):
            await asyncio.gather(*(server.serve() for server in servers))


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[2:]]
    asyncio.run(serve(sys.argv[1], (given[0], given[1], given[2]) if given else (HTTP, TCP, TLS)))
