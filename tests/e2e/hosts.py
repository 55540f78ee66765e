"""A mesh as it runs on machines of their own: a control plane and agents, each started by itself; and a load on it."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from gossamer.cli.tour.load import Record, Requests, constant_load
from tests.e2e.meshes import Part, Place, free_port


@dataclass(slots=True, kw_only=True)
class Plane:
    """A control plane in a place, at ports that it keeps; `host` is the address at which it listens."""

    place: Place
    host: str = "127.0.0.1"
    xds: int = field(default_factory=free_port)
    join: int = field(default_factory=free_port)
    options: tuple[str, ...] = ()
    part: Part | None = None

    def start(self) -> Part:
        """Start it, as often as need be."""
        self.part = self.place.start(
            "control-plane",
            f"--config={self.place.mesh / 'config'}",
            f"--state={self._state}",
            f"--listen={self.host}:{self.xds}",
            f"--join-listen={self.host}:{self.join}",
            *self.options,
        )
        return self.part

    def token(self, host: str, *grants: str, lifetime: str = "1h") -> str:
        """A join token for a host, as an operator makes it."""
        words = [f"--lifetime={lifetime}", *(f"--grant={grant}" for grant in grants)]
        made = self.place.run("ca", "token", f"--host={host}", *words, f"--state={self._state}")
        assert made.child.returncode == 0, made.said
        return made.said.split()[-1]

    def ca(self, *words: str) -> Part:
        """What `gossamer ca` says of it."""
        return self.place.run("ca", *words, f"--state={self._state}")

    @property
    def _state(self) -> str:
        return str(self.place.folder("plane"))


@dataclass(slots=True, kw_only=True)
class AgentHost:
    """The agent of one host, with the workloads of its place's mesh file."""

    place: Place
    plane: Plane
    options: tuple[str, ...] = ()
    token: str = ""
    part: Part | None = None

    def start(self) -> Part:
        """Start it, as often as need be."""
        self.part = self.place.start(
            "agent",
            f"--file={self.place.mesh / 'gossamer.yaml'}",
            f"--state={self.place.folder('state')}",
            f"--control-plane={self.plane.host}:{self.plane.xds}",
            f"--join={self.plane.host}:{self.plane.join}",
            *self.options,
            env={"GOSSAMER_TOKEN": self.token} if self.token else {},
        )
        return self.part

    def rows(self) -> dict[str, dict[str, object]]:
        """What it says of each of its workloads; empty while it is away."""
        return {row["name"]: row for row in self.place.status("agent").get("workloads", ())}


@contextmanager
def load(requests: Requests, before: Callable[[], None] = lambda: None) -> Iterator[Record]:
    """A constant load beside the test, on a thread that begins with `before`; its record is whole when the context has
    ended."""
    started: queue.Queue[tuple[Record, Callable[[], object]]] = queue.Queue()

    async def run() -> None:
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        async with constant_load(requests) as record:
            started.put((record, lambda: loop.call_soon_threadsafe(ended.set)))
            await ended.wait()

    def begin() -> None:
        before()
        asyncio.run(run())

    thread = threading.Thread(target=begin)
    thread.start()
    record, end = started.get(timeout=10)
    try:
        yield record
    finally:
        end()
        thread.join()
