"""One Envoy's life, with a real Envoy: start, restart, drain, adoption, admin interface."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from gossamer.core.errors import EnvoyError, UnavailableError
from gossamer.node.envoy import Envoy, EnvoyState
from gossamer.node.envoy_admin import Admin
from gossamer.node.envoy_settings import EnvoySettings
from gossamer.node.sandbox import Isolation, Lifeline, SandboxSettings, open_sandbox
from tests.node.capture_parts import answering, cluster, envoy_settings, free_port, plain_listener, running, sandboxed

pytestmark = pytest.mark.envoy


def _bootstrap(port: int, upstream: int) -> dict[str, Any]:
    return {
        "static_resources": {"listeners": [plain_listener(port, "app")], "clusters": [cluster("app", upstream)]},
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3."
                        "DownstreamConnectionsConfig",
                        "max_active_downstream_connections": 1000,
                    },
                }
            ]
        },
    }


async def _until(condition: Any, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


@asynccontextmanager
async def _serving(folder: Path, binary: Path, **options: Any) -> AsyncIterator[tuple[Envoy, int]]:
    port = free_port()
    async with sandboxed(folder / "run", Isolation.NONE) as sandbox, answering("hello") as upstream:
        settings = envoy_settings(folder / "envoy", binary, _bootstrap(port, upstream), **options)
        async with running(sandbox, settings) as found:
            yield found, port


async def _get(port: int) -> str:
    async with httpx.AsyncClient(trust_env=False) as client:
        return (await client.get(f"http://127.0.0.1:{port}/")).text


def test_a_killed_envoy_is_started_again_at_once(tmp_path: Path, envoy: Path) -> None:
    async def scenario() -> None:
        async with _serving(tmp_path, envoy) as (found, port):
            assert await _get(port) == "hello"
            seen: list[EnvoyState] = []
            found.state.subscribe(seen.append)
            first = found.pid
            os.kill(first, signal.SIGKILL)
            await _until(lambda: found.restarts == 1 and found.state.value is EnvoyState.READY)
            assert seen == [EnvoyState.FAILED, EnvoyState.STARTING, EnvoyState.READY]
            assert found.pid != first
            assert await _get(port) == "hello"
        assert found.state.value is EnvoyState.STOPPED
        assert found.pid == 0

    asyncio.run(scenario())


def test_one_that_hangs_is_not_ready_and_is_replaced_in_the_end(tmp_path: Path, envoy: Path) -> None:
    async def scenario() -> None:
        async with _serving(tmp_path, envoy, probe_seconds=0.2, hung_seconds=6.0) as (found, port):
            first = found.pid
            os.kill(first, signal.SIGSTOP)
            await _until(lambda: found.state.value is EnvoyState.UNRESPONSIVE)
            os.kill(first, signal.SIGCONT)
            await _until(lambda: found.state.value is EnvoyState.READY)
            assert found.pid == first, "it came back by itself"
            os.kill(first, signal.SIGSTOP)
            await _until(lambda: found.restarts == 1 and found.state.value is EnvoyState.READY, 20)
            assert found.pid != first
            assert await _get(port) == "hello"

    asyncio.run(scenario())


def test_stopping_waits_for_open_connections_within_the_drain_time(tmp_path: Path, envoy: Path) -> None:
    async def scenario() -> None:
        async with _serving(tmp_path, envoy, drain_seconds=3) as (found, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await _ask_half(writer)
            stopping = asyncio.create_task(found.stop())
            await _until(lambda: found.state.value is EnvoyState.DRAINING)
            await asyncio.sleep(0.3)
            assert not stopping.done()
            writer.write(b"\r\n\r\n")
            assert (await reader.read()).endswith(b"hello")
            writer.close()
            began = time.monotonic()
            await stopping
            assert time.monotonic() - began < 1.5, "nothing is open any more: no need to sit the drain time out"

    asyncio.run(scenario())


def test_stopping_cuts_what_is_longer_than_the_drain_time(tmp_path: Path, envoy: Path) -> None:
    async def scenario() -> None:
        async with _serving(tmp_path, envoy, drain_seconds=1) as (found, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await _ask_half(writer)
            began = time.monotonic()
            await found.stop()
            assert 0.9 < time.monotonic() - began < 3
            assert await reader.read() == b""
            writer.close()

    asyncio.run(scenario())


async def _ask_half(writer: asyncio.StreamWriter) -> None:
    writer.write(b"GET / HTTP/1.1\r\nHost: x")
    await writer.drain()
    await asyncio.sleep(0.1)


def test_admin_interface(tmp_path: Path, envoy: Path) -> None:
    async def scenario() -> None:
        async with _serving(tmp_path, envoy) as (found, _):
            admin = found.admin
            assert await admin.state() == "LIVE"
            assert "app" in (cluster["name"] for cluster in (await admin.clusters())["cluster_statuses"])
            assert (await admin.config_dump(resource="static_clusters"))["configs"]
            assert (await admin.server_info())["command_line_options"]["concurrency"] == 1
            assert await admin.stats("^server.live$") == {"server.live": 1}
            assert "admin: debug" in await admin.set_log_level("debug", "admin")
            assert "envoy_server_live" in await admin.prometheus()
            assert await admin.open_work() == 0
            with pytest.raises(EnvoyError, match="refused /logging"):
                await admin.set_log_level("loud")
            socket = found.settings.admin_socket
            assert socket.parent.stat().st_mode & 0o777 == 0o700
        gone = Admin(found.settings.admin_socket)
        assert await gone.state() == ""
        with pytest.raises(UnavailableError, match="does not answer"):
            await gone.stats()
        await gone.close()

    asyncio.run(scenario())


def test_an_envoy_that_does_not_start_says_why(tmp_path: Path, envoy: Path) -> None:
    async def scenario() -> None:
        async with sandboxed(tmp_path / "run", Isolation.NONE) as sandbox:
            settings = envoy_settings(tmp_path / "envoy", envoy, {"static_resources": {"listeners": [{"name": 7}]}})
            found = Envoy(sandbox, settings, lambda: 0.0)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(found.run())
                with pytest.raises(EnvoyError, match=r"not ready after 2 s .*restarts.*listeners"):
                    await found.wait_ready(2)
                assert 1 <= found.restarts < 7, "it backs off"
                await found.stop()

    asyncio.run(scenario())


@pytest.mark.parametrize("changed", [False, True])
def test_an_envoy_left_by_an_earlier_agent(changed: bool, tmp_path: Path, envoy: Path) -> None:
    """It is adopted if it would be started in the same way, and drained and replaced if not."""
    port = free_port()

    async def first(settings: EnvoySettings, sandbox_settings: SandboxSettings) -> int:
        sandbox = await open_sandbox(sandbox_settings)
        found = Envoy(sandbox, settings, lambda: 0.5)
        running_envoy = asyncio.create_task(found.run())
        await found.wait_ready(20)
        pid = found.pid
        running_envoy.cancel()
        await asyncio.wait([running_envoy])
        await sandbox.detach()
        return pid

    async def second(settings: EnvoySettings, sandbox_settings: SandboxSettings) -> tuple[int, bool, str]:
        sandbox = await open_sandbox(sandbox_settings)
        try:
            async with running(sandbox, settings) as found:
                return found.pid, found.adopted, await _get(port)
        finally:
            await sandbox.close()

    async def scenario() -> None:
        async with answering("hello") as upstream:
            sandbox_settings = SandboxSettings(runtime=tmp_path / "run", lifeline=Lifeline.OUTLIVE)
            settings = envoy_settings(tmp_path / "envoy", envoy, _bootstrap(port, upstream), drain_seconds=1)
            pid = await first(settings, sandbox_settings)
            assert await _get(port) == "hello", "no agent, and traffic goes on"
            again = replace(settings, concurrency=2) if changed else settings
            new_pid, adopted, answer = await second(again, sandbox_settings)
            assert answer == "hello"
            assert (new_pid != pid, adopted) == (changed, not changed)

    asyncio.run(scenario())
