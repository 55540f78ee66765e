"""A link that somebody adds to a workload's namespace: what comes in goes to Envoy, and nothing goes out."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from gossamer.node import sandbox_linux as linux
from gossamer.node.sandbox import Command, Isolation
from tests.conftest import need
from tests.node.capture_parts import (
    ENVIRONMENT,
    add_network,
    answering,
    capture_listener,
    cluster,
    envoy_settings,
    run_program,
    running,
    sandboxed,
)

NO_DETECTION = 0x02
SAY = """
import socket
for address, port in (("10.213.0.1", 9), ("fd13::1", 9)):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        socket.socket(family, socket.SOCK_DGRAM).sendto(b"x", (address, port))
        print("sent")
    except PermissionError:
        print("dropped")
"""


def _in_thread(body: Callable[[], list[str]]) -> list[str]:
    """Run `body` in a thread of its own, which may change its network namespace."""
    found: list[str] = []

    def run() -> None:
        found.extend(body())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)
    return found


def _furnish(name: str, addresses: tuple[str, str]) -> None:
    from pyroute2 import IPRoute

    with IPRoute() as ip:
        (index,) = ip.link_lookup(ifname=name)
        for address, length in zip(addresses, (30, 64), strict=True):
            ip.addr("add", index=index, address=address, prefixlen=length, flags=NO_DETECTION if ":" in address else 0)
        ip.link("set", index=index, state="up")


def _call_from_outside(pid: int) -> list[str]:
    """From a new namespace, joined by a link to that of process `pid`: call the workload on both families."""
    from pyroute2 import IPRoute

    linux.unshare(linux.CLONE_NEWNET)
    with IPRoute() as ip:
        ip.link("add", ifname="outside", kind="veth", peer={"ifname": "inside", "net_ns_pid": pid})

    def inside() -> list[str]:
        with Path(f"/proc/{pid}/ns/net").open() as namespace:
            linux.setns(namespace.fileno(), linux.CLONE_NEWNET)
        _furnish("inside", ("10.213.0.2", "fd13::2"))
        return []

    _in_thread(inside)
    _furnish("outside", ("10.213.0.1", "fd13::1"))
    answers = []
    for address in ("10.213.0.2", "fd13::2"):
        with socket.create_connection((address, 8080), timeout=10) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            answers.append(connection.makefile().read().splitlines()[-1])
    return answers


@pytest.mark.envoy
def test_what_comes_in_by_a_link_goes_to_envoy(tmp_path: Path, envoy: Path) -> None:
    need(os.geteuid() == 0, "this needs root: it adds a link from outside")

    async def scenario() -> None:
        async with sandboxed(tmp_path / "run", Isolation.ROOT) as sandbox, answering("from the host") as port:
            network = str(await add_network(sandbox))
            access = tmp_path / "access.log"
            bootstrap = {
                "static_resources": {
                    "listeners": [capture_listener("inbound", 15006, network, "host", access)],
                    "clusters": [cluster("host", port)],
                }
            }
            sleeper = Command(argv=("sleep", "60"), env=ENVIRONMENT, log=tmp_path / "log", network="one")
            held = await sandbox.spawn("sleeper", sleeper)
            async with running(sandbox, envoy_settings(tmp_path / "envoy", envoy, bootstrap)):
                answers = await asyncio.to_thread(_in_thread, lambda: _call_from_outside(held.pid))
            assert answers == ["from the host"] * 2
            assert access.read_text().splitlines() == ["inbound 10.213.0.2:8080", "inbound [fd13::2]:8080"]
            assert (await run_program(sandbox, SAY, tmp_path / "said"))[1].splitlines() == ["dropped"] * 2

    asyncio.run(scenario())
