"""What the capture tests are made of: isolations this machine allows, a static Envoy that captures, programs to run."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from gossamer.core.errors import CaptureError
from gossamer.core.frozen import FrozenMap
from gossamer.node.envoy import Envoy
from gossamer.node.envoy_settings import EnvoySettings
from gossamer.node.sandbox import Command, Isolation, Lifeline, Network, Sandbox, SandboxSettings, open_sandbox
from tests.conftest import need

NAMESPACES = (Isolation.ROOT, Isolation.USER)
ENVIRONMENT = FrozenMap({**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
_FILTER = "type.googleapis.com/envoy.extensions.filters"


@asynccontextmanager
async def sandboxed(
    runtime: Path,
    isolation: Isolation,
    *,
    hidden: tuple[Path, ...] = (),
    lifeline: Lifeline = Lifeline.DIE,
) -> AsyncIterator[Sandbox]:
    """A sandbox of its own, ended afterwards; the test is skipped where the machine does not allow it."""
    need(isolation is not Isolation.ROOT or os.geteuid() == 0, "this needs root")
    settings = SandboxSettings(runtime=runtime, isolation=isolation, hidden=hidden, lifeline=lifeline)
    try:
        sandbox = await open_sandbox(settings)
    except CaptureError as error:
        need(False, f"namespaces are not allowed here: {error}")
        raise
    try:
        yield sandbox
    finally:
        await sandbox.close()


async def run_program(sandbox: Sandbox, code: str, log: Path, *arguments: str, network: str = "one") -> tuple[int, str]:
    """Run Python code confined to a network; returns its exit code and all that it printed."""
    log.unlink(missing_ok=True)
    argv = (sys.executable, "-c", code, *arguments)
    child = await sandbox.spawn("python", Command(argv=argv, env=ENVIRONMENT, log=log, network=network))
    return await child.wait(), log.read_text()


async def add_network(sandbox: Sandbox, name: str = "one") -> Path:
    return await sandbox.add_network(Network(name=name))


def envoy_settings(folder: Path, binary: Path, bootstrap: dict[str, Any], **options: Any) -> EnvoySettings:
    """Settings of a test's Envoy; its admin interface is added to the bootstrap."""
    admin = folder / "admin.sock"
    bootstrap = {**bootstrap, "admin": {"address": {"pipe": {"path": str(admin)}}}}
    return EnvoySettings(
        name="envoy",
        binary=binary,
        bootstrap=json.dumps(bootstrap),
        folder=folder,
        admin_socket=admin,
        log=folder / "envoy.log",
        **options,
    )


@asynccontextmanager
async def running(sandbox: Sandbox, settings: EnvoySettings) -> AsyncIterator[Envoy]:
    """A ready Envoy."""
    import asyncio

    envoy = Envoy(sandbox, settings, lambda: 0.5)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(envoy.run())
        try:
            await envoy.wait_ready(20)
            yield envoy
        finally:
            await envoy.stop()


def socket_address(address: str, port: int, network: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {"address": address, "port_value": port}
    if network:
        found["network_namespace_filepath"] = network
    return {"socket_address": found}


def cluster(name: str, port: int, source: dict[str, Any] | None = None) -> dict[str, Any]:
    """A cluster of 127.0.0.1:port, dialled in the network namespace of `source`."""
    endpoint = {"endpoint": {"address": socket_address("127.0.0.1", port)}}
    found: dict[str, Any] = {
        "name": name,
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    if source is not None:
        found["upstream_bind_config"] = {"source_address": source["socket_address"]}
    return found


def capture_listener(name: str, port: int, network: str, target: str, access: Path) -> dict[str, Any]:
    """A listener for redirected connections of both families; its access log tells where they were going."""
    log = {
        "name": "file",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": str(access),
            "log_format": {"text_format_source": {"inline_string": name + " %DOWNSTREAM_LOCAL_ADDRESS%\n"}},
        },
    }
    proxy = {
        "@type": f"{_FILTER}.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": name,
        "cluster": target,
        "access_log": [log],
    }
    original = {"@type": f"{_FILTER}.listener.original_dst.v3.OriginalDst"}
    return {
        "name": name,
        "address": socket_address("0.0.0.0", port, network),
        "additional_addresses": [{"address": socket_address("::", port, network)}],
        "listener_filters": [{"name": "original_dst", "typed_config": original}],
        "filter_chains": [{"filters": [{"name": "tcp", "typed_config": proxy}]}],
    }


def dns_listener(network: str, names: dict[str, str]) -> dict[str, Any]:
    """A DNS listener that knows some names."""
    domains = [{"name": name, "endpoint": {"address_list": {"address": [address]}}} for name, address in names.items()]
    config = {
        "@type": f"{_FILTER}.udp.dns_filter.v3.DnsFilterConfig",
        "stat_prefix": "dns",
        "server_config": {"inline_dns_table": {"virtual_domains": domains}},
    }
    address = socket_address("0.0.0.0", 15053, network)
    address["socket_address"]["protocol"] = "UDP"
    return {
        "name": "dns",
        "address": address,
        "listener_filters": [{"name": "envoy.filters.udp.dns_filter", "typed_config": config}],
    }


def plain_listener(port: int, target: str) -> dict[str, Any]:
    """A listener on the host's loopback."""
    proxy = {"@type": f"{_FILTER}.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "plain", "cluster": target}
    return {
        "name": f"plain_{port}",
        "address": socket_address("127.0.0.1", port),
        "filter_chains": [{"filters": [{"name": "tcp", "typed_config": proxy}]}],
    }


@asynccontextmanager
async def answering(text: str) -> AsyncIterator[int]:
    """A server on the host's loopback that answers any HTTP request with `text`; yields its port."""
    import asyncio

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n{text}".encode())
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port: int = server.sockets[0].getsockname()[1]
        yield port


def free_port() -> int:
    import socket

    with socket.socket() as attempt:
        attempt.bind(("127.0.0.1", 0))
        port: int = attempt.getsockname()[1]
        return port
