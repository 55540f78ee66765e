"""Transparent capture with a real Envoy: what an application says goes to its sidecar, and nowhere else."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import httpx
import pytest

from gossamer.node.sandbox import Command, Isolation
from tests.node.capture_parts import (
    ENVIRONMENT,
    NAMESPACES,
    add_network,
    answering,
    capture_listener,
    cluster,
    dns_listener,
    envoy_settings,
    free_port,
    plain_listener,
    run_program,
    running,
    sandboxed,
    socket_address,
)

GET = """
import sys, urllib.request
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
for url in sys.argv[1:]:
    print(opener.open(url, timeout=5).read().decode())
"""

TALK_TO_ONESELF = """
import socket, threading
for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"), (socket.AF_INET, OWN)):
    server = socket.create_server((address, 80), family=family)
    client = socket.create_connection((address, 80), timeout=5)
    peer, _ = server.accept()
    peer.sendall(b"hi")
    print(client.recv(2).decode())
    server.close()
"""

SEND_DATAGRAMS = """
import socket
SIX = socket.AF_INET6
for family, address in ((socket.AF_INET, "8.8.8.8"), (SIX, "2001:db8::1"), (SIX, "ff02::1%eth0")):
    with socket.socket(family, socket.SOCK_DGRAM) as datagrams:
        try:
            datagrams.sendto(b"x", socket.getaddrinfo(address, 9, family, socket.SOCK_DGRAM)[0][4])
            print("sent")
        except PermissionError:
            print("dropped")
"""

SERVE = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"from {self.client_address[0]}".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.HTTPServer(("127.0.0.1", 80), Handler).serve_forever()
"""


@pytest.mark.envoy
@pytest.mark.parametrize("isolation", NAMESPACES)
def test_outbound_is_redirected_with_its_destination(isolation: Isolation, tmp_path: Path, envoy: Path) -> None:
    async def scenario() -> None:
        async with sandboxed(tmp_path / "run", isolation) as sandbox, answering("from the host") as port:
            network = str(await add_network(sandbox))
            access = tmp_path / "access.log"
            bootstrap = {
                "static_resources": {
                    "listeners": [
                        capture_listener("outbound", 15001, network, "host", access),
                        dns_listener(network, {"reviews": "240.240.0.9"}),
                    ],
                    "clusters": [cluster("host", port)],
                }
            }
            urls = ("http://240.240.0.7:9080/", "http://[2001:db8::7]/", "http://reviews:9080/")
            async with running(sandbox, envoy_settings(tmp_path / "envoy", envoy, bootstrap)):
                code, said = await run_program(sandbox, GET, tmp_path / "said", *urls)
            assert (code, said.splitlines()) == (0, ["from the host"] * 3), said
            destinations = ["outbound 240.240.0.7:9080", "outbound [2001:db8::7]:80", "outbound 240.240.0.9:9080"]
            assert access.read_text().splitlines() == destinations

    asyncio.run(scenario())


@pytest.mark.parametrize("isolation", NAMESPACES)
def test_nothing_leaves_without_envoy(isolation: Isolation, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with sandboxed(tmp_path / "run", isolation) as sandbox, answering("from the host") as port:
            await add_network(sandbox)
            code, said = await run_program(sandbox, GET, tmp_path / "said", "http://240.240.0.7:9080/")
            assert code == 1
            assert "Connection refused" in said
            _, said = await run_program(sandbox, GET, tmp_path / "said", f"http://127.0.0.1:{port}/")
            assert "Connection refused" in said, "the host's loopback is another one"
            _, said = await run_program(sandbox, SEND_DATAGRAMS, tmp_path / "said")
            assert said.splitlines() == ["dropped"] * 3

    asyncio.run(scenario())


@pytest.mark.parametrize("isolation", NAMESPACES)
def test_an_application_talks_to_itself(isolation: Isolation, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with sandboxed(tmp_path / "run", isolation) as sandbox:
            await add_network(sandbox)
            code = TALK_TO_ONESELF.replace("OWN", repr("100.64.0.2"))
            assert await run_program(sandbox, code, tmp_path / "said") == (0, "hi\nhi\nhi\n")

    asyncio.run(scenario())


@pytest.mark.envoy
@pytest.mark.parametrize("isolation", NAMESPACES)
def test_envoy_on_the_host_reaches_the_application(isolation: Isolation, tmp_path: Path, envoy: Path) -> None:
    async def scenario() -> None:
        async with sandboxed(tmp_path / "run", isolation) as sandbox:
            network = str(await add_network(sandbox))
            port = free_port()
            source = socket_address("127.0.0.6", 0, network)
            bootstrap = {
                "static_resources": {
                    "listeners": [plain_listener(port, "app")],
                    "clusters": [cluster("app", 80, source)],
                }
            }
            serve = Command(argv=(sys.executable, "-c", SERVE), env=ENVIRONMENT, log=tmp_path / "app", network="one")
            await sandbox.spawn("app", serve)
            async with running(sandbox, envoy_settings(tmp_path / "envoy", envoy, bootstrap)):
                assert await _get(f"http://127.0.0.1:{port}/") == "from 127.0.0.6"

    asyncio.run(scenario())


async def _get(url: str) -> str:
    async with httpx.AsyncClient(trust_env=False) as client:
        for _ in range(100):
            try:
                return (await client.get(url)).text
            except httpx.TransportError:
                await asyncio.sleep(0.05)
    raise AssertionError(f"{url} does not answer")
