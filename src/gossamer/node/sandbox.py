"""Where sidecars and applications live: one warden per mesh and host, which holds their namespaces and processes.

The agent never forks. It asks the warden, a small single-threaded process beside it, to make network namespaces and to
start, signal and watch children; with namespaces, everything that the warden started ends with it, by the kernel's
hand. What happens to the warden when its agent is gone is its `Lifeline`. Invariant: a child that this module names is
running or has an exit status; process ids are never guessed from files.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from gossamer.ca.files import private_folder
from gossamer.core.errors import CaptureError, StateError, UnavailableError
from gossamer.node.sandbox_protocol import NETWORKS, PROTOCOL, SOCKET
from gossamer.node.sandbox_values import Check, Command, HostCapture, Isolation, Lifeline, Network, SandboxSettings

__all__ = [
    "Check",
    "Child",
    "Command",
    "HostCapture",
    "Isolation",
    "Lifeline",
    "Network",
    "Sandbox",
    "SandboxSettings",
    "end_child",
    "open_sandbox",
]

_LINE_LIMIT: Final = 1 << 24


@dataclass(slots=True)
class Child:
    """A running or ended child. `pid` is its process id on the host; `returncode` as in subprocess: -9 is SIGKILL."""

    name: str
    pid: int
    started: float
    note: str
    _sandbox: Sandbox
    returncode: int | None = None
    _ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait(self) -> int:
        """Its return code, once it has ended. UnavailableError if the warden has gone."""
        await self._ended.wait()
        if self.returncode is None:
            raise UnavailableError(f"lost sight of {self.name}: the warden has gone")
        return self.returncode

    async def signal(self, number: int) -> None:
        """Send a signal; nothing if it has ended already."""
        if self.returncode is None:
            await self._sandbox.call("signal", name=self.name, signal=int(number))


class Sandbox:
    """The agent's side of its warden. Made by `open_sandbox`."""

    def __init__(self, settings: SandboxSettings, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.settings = settings
        self.adopted = False
        """Whether the warden was there already, kept by an earlier agent."""
        self.isolation = settings.isolation
        """Of the warden that runs, which an earlier agent may have chosen."""
        self.pid = 0
        """Process id of the warden on the host."""
        self.children: dict[str, Child] = {}
        self.networks: frozenset[str] = frozenset()
        self.captures: frozenset[str] = frozenset()
        """Names of the `HostCapture`s in force."""
        self.gone = asyncio.Event()
        """Set when the warden has ended, and with it everything it started."""
        self._reader = reader
        self._writer = writer
        self._calls: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._next = 0
        self._failure = "the warden has gone; start the mesh again"
        self._listener = asyncio.create_task(self._listen())

    async def add_network(self, network: Network) -> Path:
        """Make a workload's network namespace; returns the path by which Envoy (and only it) enters it.

        One that exists already, left by an earlier agent, is kept. CaptureError if this host does not allow it.
        """
        if network.name not in self.networks:
            document = {
                "name": network.name,
                "addresses": network.addresses,
                "search": network.search,
                "outbound_port": network.outbound_port,
                "inbound_port": network.inbound_port,
                "dns_port": network.dns_port,
            }
            await self.call("network_add", network=document)
            self.networks |= {network.name}
        return self.network_path(network.name)

    async def capture_host(self, capture: HostCapture) -> None:
        """Redirect what processes of this host send and serve. CaptureError without root, or if rules are refused."""
        document = {
            "name": capture.name,
            "uids": capture.uids,
            "ports": capture.ports,
            "outbound_port": capture.outbound_port,
            "inbound_port": capture.inbound_port,
            "dns_port": capture.dns_port,
        }
        await self.call("host_capture", capture=document)
        self.captures |= {capture.name}

    async def release_host(self, name: str) -> None:
        """Drop the rules of a `HostCapture`; nothing if there are none."""
        await self.call("host_release", name=name)
        self.captures -= {name}

    def network_path(self, name: str) -> Path:
        return self.settings.runtime / NETWORKS / name

    async def remove_network(self, name: str) -> None:
        """Let go of a network namespace; the kernel ends it with the last process in it."""
        await self.call("network_remove", name=name)
        self.networks -= {name}

    async def spawn(self, name: str, command: Command) -> Child:
        """Start a child under a name that no running child has. CaptureError, with the reason, if it cannot start."""
        document = {
            "argv": command.argv,
            "env": dict(command.env),
            "cwd": command.cwd,
            "log": str(command.log) if command.log else "",
            "network": command.network,
            "hosts": str(command.hosts) if command.hosts else "",
            "enters": command.enters,
            "user": command.user,
            "note": command.note,
            "shown": str(command.shown) if command.shown else "",
        }
        answer = await self.call("spawn", name=name, command=document)
        child: Child = answer["child"]
        return child

    async def check(self, check: Check, network: str = "") -> str:
        """Ask a workload in `network` (the host's if empty): empty when all is well, else what is wrong."""
        document = {
            "port": check.port,
            "address": check.address or "127.0.0.1",
            "path": check.path,
            "headers": check.headers,
            "tls": check.tls,
            "service": check.service,
            "seconds": check.seconds,
        }
        try:
            await self.call("check", network=network, check=document)
        except CaptureError as error:
            return str(error)
        return ""

    async def call(self, op: str, **fields: object) -> dict[str, Any]:
        """One request to the warden and its answer. CaptureError if refused, UnavailableError if it has gone."""
        if self.gone.is_set():
            raise UnavailableError(self._failure)
        self._next += 1
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._calls[self._next] = future
        self._writer.write(json.dumps({"id": self._next, "op": op, **fields}).encode() + b"\n")
        return await future

    async def close(self) -> None:
        """End the warden and all that it started, at once; end children gracefully before."""
        with contextlib.suppress(UnavailableError):
            await self.call("close")
        await self.gone.wait()
        await self.detach()

    async def detach(self) -> None:
        """Let go of the warden: what happens to it is its lifeline."""
        self._writer.close()
        await asyncio.wait([self._listener])

    async def _listen(self) -> None:
        try:
            while line := await self._reader.readline():
                message = json.loads(line)
                if "event" in message:
                    self._take_event(message)
                else:
                    self._take_answer(message)
        except (ConnectionError, ValueError):
            pass
        finally:
            self._lose()

    def _take_event(self, message: dict[str, Any]) -> None:
        if message["event"] == "failed":
            self._failure = message["reason"]
        elif message["event"] == "exited" and message["name"] in self.children:
            child = self.children.pop(message["name"])
            child.returncode = message["returncode"]
            child._ended.set()

    def _take_answer(self, message: dict[str, Any]) -> None:
        future = self._calls.pop(message["id"], None)
        if future is None or future.done():
            return
        if "error" in message:
            future.set_exception(CaptureError(message["error"]))
            return
        answer = message["ok"]
        if "child" in answer:  # learnt here, before its end can be read from the next line
            answer["child"] = self._learn(answer["child"])
        future.set_result(answer)

    def _learn(self, answer: Mapping[str, Any]) -> Child:
        child = Child(
            name=answer["name"], pid=answer["pid"], started=answer["started"], note=answer["note"], _sandbox=self
        )
        self.children[child.name] = child
        return child

    def _lose(self) -> None:
        self.gone.set()
        for child in self.children.values():
            child._ended.set()
        for future in self._calls.values():
            if not future.done():
                future.set_exception(UnavailableError(self._failure))
        self._calls.clear()

    async def greet(self) -> None:
        """Learn what runs already. CaptureError if the warden speaks another protocol."""
        answer = await self.call("hello")
        if answer["protocol"] != PROTOCOL:
            raise CaptureError("the warden that runs is of another version; stop the mesh, then start it again")
        self.pid = answer["pid"]
        self.isolation = Isolation(answer["isolation"])
        self.networks = frozenset(answer["networks"])
        self.captures = frozenset(answer.get("captures", ()))
        for child in answer["children"]:
            self._learn(child)


async def open_sandbox(settings: SandboxSettings) -> Sandbox:
    """The warden of this runtime folder: the one that runs, adopted, else a new one.

    CaptureError if this host does not allow the isolation asked for (try the next), StateError if the folder is not
    ours alone.
    """
    private_folder(settings.runtime)
    path = settings.runtime / SOCKET
    if len(os.fsencode(path)) > 100:
        raise StateError(f"{path} is too long for a socket's name (100 bytes); choose a shorter runtime folder")
    sandbox = await _adopt(settings, path)
    if sandbox is None:
        sandbox = await _start(settings)
    try:
        await sandbox.greet()
    except UnavailableError as error:
        await sandbox.detach()
        raise CaptureError(str(error)) from error
    return sandbox


async def end_child(child: Child, patience: float) -> int:
    """SIGTERM, and SIGKILL after `patience` seconds; returns its return code."""
    await child.signal(signal.SIGTERM)
    try:
        return await asyncio.wait_for(child.wait(), patience)
    except TimeoutError:
        await child.signal(signal.SIGKILL)
        return await child.wait()


async def _adopt(settings: SandboxSettings, path: Path) -> Sandbox | None:
    try:
        reader, writer = await asyncio.open_unix_connection(path, limit=_LINE_LIMIT)
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    sandbox = Sandbox(settings, reader, writer)
    sandbox.adopted = True
    return sandbox


async def _start(settings: SandboxSettings) -> Sandbox:
    ours, theirs = socket.socketpair()
    with theirs:
        document = {
            "runtime": str(settings.runtime),
            "isolation": settings.isolation.value,
            "lifeline": settings.lifeline.value,
            "hidden": [str(path) for path in settings.hidden],
            "control": theirs.fileno(),
        }
        starter = await asyncio.create_subprocess_exec(
            # -P: never import from the current folder, which may be anybody's
            sys.executable,
            "-P",
            "-m",
            "gossamer.node.sandbox_warden",
            json.dumps(document),
            pass_fds=[theirs.fileno()],
        )
    reader, writer = await asyncio.open_unix_connection(sock=ours, limit=_LINE_LIMIT)
    sandbox = Sandbox(settings, reader, writer)
    await starter.wait()
    return sandbox
