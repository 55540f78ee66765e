"""gRPC on UNIX sockets of this host: who may connect is said by modes of files, so these are set before it serves."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import grpc
import grpc.aio

from gossamer.ca.files import private_folder
from gossamer.core.errors import StateError

_LONGEST_PATH: Final = 107


@asynccontextmanager
async def serve_socket(
    path: Path, handlers: Iterable[grpc.GenericRpcHandler], *, mode: int, make_folder: Callable[[Path], object]
) -> AsyncIterator[None]:
    """Serve at `path`, which has `mode` and is in the folder that `make_folder` makes, while the context lasts.
    StateError if it cannot. The path may have 107 bytes, and is gone afterwards."""
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise StateError(f"{path} is too long for a UNIX socket ({_LONGEST_PATH} bytes): choose a shorter folder")
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(tuple(handlers))
    try:
        make_folder(path.parent)
        path.unlink(missing_ok=True)
        server.add_insecure_port(f"unix:{path}")
        path.chmod(mode)
        await server.start()
    except (RuntimeError, OSError) as error:
        raise StateError(f"cannot listen on {path}: {error}") from error
    try:
        yield
    finally:
        await server.stop(0)
        path.unlink(missing_ok=True)


@asynccontextmanager
async def serve_private(path: Path, handlers: Iterable[grpc.GenericRpcHandler]) -> AsyncIterator[None]:
    """A server that its owner alone can reach: folder 0700, socket 0600. StateError if it cannot be."""
    async with serve_socket(path, handlers, mode=0o600, make_folder=private_folder):
        yield
