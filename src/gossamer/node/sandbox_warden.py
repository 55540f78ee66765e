"""The warden: holds the namespaces of one mesh on one host, and is the parent of everything that runs in them.

`python -m gossamer.node.sandbox_warden SETTINGS`, started by `sandbox.open_sandbox` and told what to do over a socket,
one JSON object a line. Single-threaded, so that it may fork. With namespaces it is process 1 of a pid namespace:
whatever ends it, kill -9 too, ends all that it started. Invariant: it owns no policy; it never restarts or decides.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from gossamer.node import sandbox_linux as linux
from gossamer.node.sandbox_check import run_check
from gossamer.node.sandbox_children import Children, Entry, RefusedError, end_descendants
from gossamer.node.sandbox_host import HostRules
from gossamer.node.sandbox_isolation import WardenSettings, detach, isolate, load_settings
from gossamer.node.sandbox_networks import Networks
from gossamer.node.sandbox_protocol import NETWORKS, PROTOCOL, SOCKET
from gossamer.node.sandbox_spawn import fork, host_pid

GRACE: Final = 2.0
"""Seconds that children get between SIGTERM and the end when the agent is gone."""


@dataclass(slots=True)
class Peer:
    """A connected agent."""

    socket: socket.socket
    buffer: bytearray = field(default_factory=bytearray)

    def send(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            self.socket.sendall(json.dumps(message).encode() + b"\n")


class Warden:
    def __init__(self, settings: WardenSettings) -> None:
        self._settings = settings
        self._selector = selectors.DefaultSelector()
        self._peer: Peer | None = None
        self._networks = Networks(settings.runtime / NETWORKS)
        self._host_rules = HostRules(settings.runtime)
        self._children = Children(settings, self._networks, self._tell_exit)
        self._closing = False
        self._grace = 0.0

    # ---- the loop

    def serve(self) -> None:
        """Serve until told to close, or until the lifeline says so."""
        self._listen()
        self._watch_children()
        self._peer = self._take_peer(socket.socket(fileno=self._settings.control))
        while not self._closing:
            self._turn(None)
        self._end_children()

    def _turn(self, timeout: float | None) -> None:
        for key, _ in self._selector.select(timeout):
            callback: Callable[[], None] = key.data
            callback()

    def _listen(self) -> None:
        path = self._settings.runtime / SOCKET
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(4)

        def accept() -> None:
            self._take_peer(listener.accept()[0])

        self._selector.register(listener, selectors.EVENT_READ, accept)

    def _watch_children(self) -> None:
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writer)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self._begin_close())

        def reap() -> None:
            with contextlib.suppress(BlockingIOError):
                while os.read(reader, 64):
                    pass
            self._children.reap()

        self._selector.register(reader, selectors.EVENT_READ, reap)

    def _begin_close(self, grace: float = GRACE) -> None:
        self._closing = True
        self._grace = grace

    # ---- agents

    def _take_peer(self, connection: socket.socket) -> Peer:
        connection.setblocking(True)
        peer = Peer(connection)
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._read(peer))
        return peer

    def _greet(self, peer: Peer) -> dict[str, Any]:
        """Make a peer the agent: one that was is stuck or gone."""
        if self._peer is not None and self._peer is not peer:
            self._drop_peer(self._peer)
        self._peer = peer
        return {
            "protocol": PROTOCOL,
            "pid": host_pid(),
            "isolation": self._settings.isolation,
            "networks": sorted(self._networks.names),
            "captures": self._host_rules.names,
            "children": self._children.views(),
        }

    def _drop_peer(self, peer: Peer) -> None:
        self._selector.unregister(peer.socket)
        peer.socket.close()
        if self._peer is peer:
            self._peer = None

    def _read(self, peer: Peer) -> None:
        try:
            data = peer.socket.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            lost = peer is self._peer
            self._drop_peer(peer)
            if lost and self._settings.lifeline == "die":
                self._begin_close()
            return
        peer.buffer += data
        while (end := peer.buffer.find(b"\n")) >= 0:
            line = bytes(peer.buffer[:end])
            del peer.buffer[: end + 1]
            self._take(peer, json.loads(line))

    def _take(self, peer: Peer, request: dict[str, Any]) -> None:
        def answer(result: dict[str, Any]) -> None:
            peer.send({"id": request["id"], "ok": result})

        def refuse(reason: str) -> None:
            peer.send({"id": request["id"], "error": reason})

        try:
            match request["op"]:
                case "hello":
                    answer(self._greet(peer))
                    if self._settings.isolated:
                        self._networks.preload()
                case "network_add":
                    self._add_network(request["network"], answer, refuse)
                case "network_remove":
                    self._networks.remove(request["name"])
                    answer({})
                case "host_capture":
                    self._capture_host(request["capture"])
                    answer({})
                case "host_release":
                    self._host_rules.release(request["name"])
                    answer({})
                case "spawn":
                    self._spawn(request["name"], request["command"], answer, refuse)
                case "signal":
                    self._children.signal(request["name"], request["signal"])
                    answer({})
                case "check":
                    self._check(request["network"], request["check"], answer, refuse)
                case "close":  # who says so has ended gracefully what it wanted to
                    self._begin_close(grace=0.0)
                case other:
                    refuse(f"the warden knows no {other}")
        except (RefusedError, OSError, KeyError, TypeError, ValueError) as error:
            refuse(str(error) or repr(error))

    # ---- requests

    def _add_network(
        self, document: dict[str, Any], answer: Callable[[dict[str, Any]], None], refuse: Callable[[str], None]
    ) -> None:
        if not self._settings.isolated:
            raise RefusedError("network namespaces need isolation")
        name = document["name"]
        if name in self._networks.names:
            answer({})
            return
        reader = self._networks.begin(document)

        def finish(text: str) -> None:
            if text:
                self._networks.remove(name)
                refuse(text)
            else:
                self._networks.names.add(name)
                answer({})

        self._collect(reader, finish)

    def _capture_host(self, document: dict[str, Any]) -> None:
        if self._settings.isolation != "root":
            raise RefusedError("processes of the host are captured by root alone")
        self._host_rules.hold(document)

    def _spawn(
        self,
        name: str,
        command: dict[str, Any],
        answer: Callable[[dict[str, Any]], None],
        refuse: Callable[[str], None],
    ) -> None:
        entry, reader = self._children.begin(name, command)

        def finish(text: str) -> None:
            try:
                self._children.read_report(entry, text)
            except RefusedError as error:
                refuse(str(error))
                return
            answer({"child": entry.view()})
            self._children.settle(entry)

        self._collect(reader, finish)

    def _check(
        self,
        network: str,
        check: dict[str, Any],
        answer: Callable[[dict[str, Any]], None],
        refuse: Callable[[str], None],
    ) -> None:
        if network and network not in self._networks.names:
            raise RefusedError(f"no network {network}")
        path = self._networks.path(network) if network else None
        reader, writer = os.pipe2(os.O_CLOEXEC)
        fork(lambda: run_check(check, path, writer))
        os.close(writer)
        self._collect(reader, lambda text: refuse(text) if text else answer({}))

    def _collect(self, reader: int, finish: Callable[[str], None]) -> None:
        """Call `finish` with all that comes out of a pipe, once its last writer has closed it."""
        parts: list[bytes] = []

        def read() -> None:
            data = os.read(reader, 4096)
            parts.append(data)
            if not data:
                self._selector.unregister(reader)
                os.close(reader)
                finish(b"".join(parts).decode(errors="replace"))

        self._selector.register(reader, selectors.EVENT_READ, read)

    def _tell_exit(self, entry: Entry) -> None:
        if self._peer is not None:
            self._peer.send({"event": "exited", "name": entry.name, "returncode": entry.returncode})

    def _end_children(self) -> None:
        if self._grace:
            self._children.signal_all(signal.SIGTERM)
        deadline = time.monotonic() + self._grace
        while self._children and time.monotonic() < deadline:
            self._turn(0.05)
        if not self._settings.isolated:
            end_descendants(GRACE)
        (self._settings.runtime / SOCKET).unlink(missing_ok=True)


def _serve(settings: WardenSettings) -> None:
    if not settings.isolated:
        linux.adopt_orphans()
    os.chdir("/")
    Warden(settings).serve()
    os._exit(0)


def main(arguments: list[str]) -> int:
    settings = load_settings(arguments[0])
    # a terminal's keys are for the agent, which decides what ends
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTSTP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    if settings.lifeline == "outlive":
        detach(settings)
    try:
        if settings.isolated:
            isolate(settings)
    except OSError as error:
        message = json.dumps({"event": "failed", "reason": str(error)}) + "\n"
        os.write(settings.control, message.encode())
        return 1
    fork(lambda: _serve(settings))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
