"""Machines with a network between them: network namespaces, joined by a veth pair.

Invariant: nothing has a name outside; the namespaces, and the link with them, end with the processes that hold them.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pyroute2 import IPRoute

from gossamer.node import sandbox_linux as linux
from tests.conftest import need

T = TypeVar("T")
LINK = "between"

_HOLD = f"""
import ctypes, os, sys
if ctypes.CDLL(None, use_errno=True).unshare({linux.CLONE_NEWNET}): sys.exit(os.strerror(ctypes.get_errno()))
print("held", flush=True)
sys.stdin.read()
"""
_ENTER = f"""
import ctypes, os, sys
descriptor = os.open(f"/proc/{{sys.argv[1]}}/ns/net", os.O_RDONLY)
if ctypes.CDLL(None, use_errno=True).setns(descriptor, {linux.CLONE_NEWNET}): sys.exit(os.strerror(ctypes.get_errno()))
os.close(descriptor)
os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A network of its own, with one address on the link."""

    address: str
    holder: int

    @property
    def before(self) -> tuple[str, ...]:
        """Words before a command that make it run on this machine's network."""
        return (sys.executable, "-I", "-c", _ENTER, str(self.holder))

    def enter(self) -> None:
        """Move this thread to the machine's network, for good."""
        with Path(f"/proc/{self.holder}/ns/net").open() as namespace:
            linux.setns(namespace.fileno(), linux.CLONE_NEWNET)

    def inside(self, body: Callable[[], T]) -> T:
        """What `body` returns on this machine's network."""
        found: list[T] = []

        def run() -> None:
            self.enter()
            found.append(body())

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        assert found, "failed on another thread; its traceback is above"
        return found[0]

    def link(self, state: str) -> None:
        """Make its end of the link `up` or `down`."""

        def change() -> bool:
            with IPRoute() as ip:
                (index,) = ip.link_lookup(ifname=LINK)
                ip.link("set", index=index, state=state)
            return True

        self.inside(change)

    def furnish(self) -> None:
        """Give it loopback and its address."""

        def change() -> bool:
            with IPRoute() as ip:
                (index,) = ip.link_lookup(ifname=LINK)
                ip.addr("add", index=index, address=self.address, prefixlen=24)
                ip.link("set", index=index, state="up")
                ip.link("set", index=1, state="up")
            return True

        self.inside(change)


@contextmanager
def two_machines() -> Iterator[tuple[Machine, Machine]]:
    """10.77.0.1 and 10.77.0.2, a link between them and nothing else. The test is skipped without root."""
    need(os.geteuid() == 0, "this needs root: it makes network namespaces for two hosts")
    with _holder() as first, _holder() as second:
        one, two = Machine(address="10.77.0.1", holder=first), Machine(address="10.77.0.2", holder=second)

        def connect() -> bool:
            with IPRoute() as ip:
                ip.link("add", ifname=LINK, kind="veth", peer={"ifname": LINK, "net_ns_pid": two.holder})
            return True

        one.inside(connect)
        one.furnish()
        two.furnish()
        yield one, two


@contextmanager
def _holder() -> Iterator[int]:
    child = subprocess.Popen([sys.executable, "-I", "-c", _HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        need(child.stdout.readline() == b"held\n", "this machine allows no network namespaces")
        yield child.pid
    finally:
        with contextlib.suppress(OSError):
            child.stdin.close()
        child.stdout.close()
        child.kill()
        child.wait(5)
