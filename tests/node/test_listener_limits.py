"""A real Envoy's listeners hold as many connections as they may, those that come later and after a restart too."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gossamer.core.latest import Latest
from gossamer.node.envoy import EnvoyState
from gossamer.node.listener_limits import limit_listeners
from gossamer.node.sandbox import Isolation
from tests.node.capture_parts import cluster, envoy_settings, free_port, plain_listener, running, sandboxed
from tests.node.test_envoy import _until

pytestmark = pytest.mark.envoy


@asynccontextmanager
async def _greeting() -> AsyncIterator[int]:
    """A server that greets whoever comes, and stays as long as its client does; yields its port."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b".")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def _kept(port: int, number: int) -> list[bool]:
    """Of connections that are open at once, which are kept: what is too much is closed as soon as it is taken."""
    found, writers = [], []
    for _ in range(number):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writers.append(writer)
        try:
            found.append(bool(await reader.read(1)))
        except ConnectionResetError:
            found.append(False)
    for writer in writers:
        writer.close()
    return found


async def _becomes(port: int, wanted: list[bool]) -> None:
    async with asyncio.timeout(20):
        while await _kept(port, len(wanted)) != wanted:  # noqa: ASYNC110 - Envoy sets nothing of ours
            await asyncio.sleep(0.02)


def test_each_listener_holds_so_many(tmp_path: Path, envoy: Path) -> None:
    async def scenario() -> None:
        first, second = free_port(), free_port()
        async with sandboxed(tmp_path / "run", Isolation.NONE) as sandbox, _greeting() as upstream:
            bootstrap: dict[str, Any] = {
                "static_resources": {
                    "listeners": [plain_listener(port, "app") for port in (first, second)],
                    "clusters": [cluster("app", upstream)],
                },
                "layered_runtime": {"layers": [{"name": "admin", "admin_layer": {}}]},
            }
            settings = envoy_settings(tmp_path / "envoy", envoy, bootstrap)
            async with running(sandbox, settings) as found:
                names: Latest[tuple[str, ...]] = Latest((f"plain_{first}",))
                limiting = asyncio.create_task(limit_listeners(found, names, 2))
                await _becomes(first, [True, True, False, False])
                assert await _kept(second, 4) == [True] * 4
                names.publish((f"plain_{first}", f"plain_{second}"))
                await _becomes(second, [True, True, False])
                os.kill(found.pid, signal.SIGKILL)
                await _until(lambda: found.restarts == 1 and found.state.value is EnvoyState.READY)
                await _becomes(first, [True, True, False])
                limiting.cancel()

    asyncio.run(scenario())
