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
from pathlib import Path
from typing import Any, Final

from gossamer.node import sandbox_linux as linux
from gossamer.node.sandbox_check import run_check
from gossamer.node.sandbox_networks import Networks
from gossamer.node.sandbox_protocol import NETWORKS, PROTOCOL, SOCKET
from gossamer.node.sandbox_sockets import start_brokered
from gossamer.node.sandbox_spawn import Confinement, Program, fork, host_pid, start_confined, start_plain

GRACE: Final = 2.0
"""Seconds that children get between SIGTERM and the end when the agent is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    runtime: Path
    isolation: str
    lifeline: str
    hidden: tuple[Path, ...]
    control: int
    outer_uid: int
    outer_gid: int

    @property
    def isolated(self) -> bool:
        return self.isolation != "none"


@dataclass(slots=True)
class Entry:
    """A child. `pid` takes signals; `waited` is the process whose status is its own (a broker's, for an Envoy)."""

    name: str
    note: str
    pid: int = 0
    shown_pid: int = 0
    waited: int = 0
    started: float = field(default_factory=time.time)
    error: str = ""
    running: bool = False
    returncode: int | None = None


@dataclass(slots=True)
class Peer:
    """A connected agent."""

    socket: socket.socket
    buffer: bytearray = field(default_factory=bytearray)

    def send(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            self.socket.sendall(json.dumps(message).encode() + b"\n")


class RefusedError(Exception):
    """A request that cannot be granted; its text is the answer."""


class Warden:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._selector = selectors.DefaultSelector()
        self._entries: dict[str, Entry] = {}
        self._peer: Peer | None = None
        self._networks = Networks(settings.runtime / NETWORKS)
        self._closing = False
        self._grace = 0.0
        self._strays: dict[int, int] = {}
        """Statuses of processes that nobody waits for yet: an init may end before its start is known."""

    # ---- the loop

    def serve(self) -> None:
        """Serve until told to close, or until the lifeline says so."""
        self._listen()
        self._watch_children()
        self._take_peer(socket.socket(fileno=self._settings.control))
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
        self._selector.register(listener, selectors.EVENT_READ, lambda: self._take_peer(listener.accept()[0]))

    def _watch_children(self) -> None:
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writer)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self._begin_close())

        def reap() -> None:
            with contextlib.suppress(BlockingIOError):
                while os.read(reader, 64):
                    pass
            self._reap()

        self._selector.register(reader, selectors.EVENT_READ, reap)

    def _begin_close(self, grace: float = GRACE) -> None:
        self._closing = True
        self._grace = grace

    # ---- agents

    def _take_peer(self, connection: socket.socket) -> None:
        if self._peer is not None:  # a new agent takes over: the old one is stuck or gone
            self._drop_peer(self._peer)
        connection.setblocking(True)
        peer = self._peer = Peer(connection)
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._read(peer))

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
            self._drop_peer(peer)
            if self._settings.lifeline == "die":
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
                    answer(self._hello())
                    if self._settings.isolated:
                        self._networks.preload()
                case "network_add":
                    self._add_network(request["network"], answer, refuse)
                case "network_remove":
                    self._networks.remove(request["name"])
                    answer({})
                case "spawn":
                    self._spawn(request["name"], request["command"], answer, refuse)
                case "signal":
                    self._signal(request["name"], request["signal"])
                    answer({})
                case "check":
                    self._check(request["network"], request["check"], answer, refuse)
                case "close":  # who says so has ended gracefully what it wanted to
                    self._begin_close(grace=0.0)
                case other:
                    refuse(f"the warden knows no {other}")
        except (RefusedError, OSError) as error:
            refuse(str(error))

    def _hello(self) -> dict[str, Any]:
        return {
            "protocol": PROTOCOL,
            "pid": host_pid(),
            "isolation": self._settings.isolation,
            "networks": sorted(self._networks.names),
            "children": [_view(entry) for entry in self._entries.values() if entry.running],
        }

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

    def _spawn(
        self,
        name: str,
        command: dict[str, Any],
        answer: Callable[[dict[str, Any]], None],
        refuse: Callable[[str], None],
    ) -> None:
        if name in self._entries:
            raise RefusedError(f"{name} runs already")
        body = self._body(command)
        entry = self._entries[name] = Entry(name=name, note=command["note"])
        reader, writer = os.pipe2(os.O_CLOEXEC)
        first = fork(lambda: body(writer))
        if not command["network"]:  # a confined program's first process only makes room for its init
            entry.waited = first
        os.close(writer)

        def finish(text: str) -> None:
            _read_report(entry, text)
            if entry.error or not entry.pid:
                if self._entries.get(name) is entry:
                    del self._entries[name]
                refuse(entry.error or f"cannot start {command['argv'][0]}")
                return
            entry.running = True
            answer({"child": _view(entry)})
            if not entry.waited:
                entry.waited = entry.pid
                self._note_exit(entry.pid, self._strays.pop(entry.pid, None))
            elif entry.returncode is not None:
                self._tell_exit(entry)

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

    def _body(self, command: dict[str, Any]) -> Callable[[int], None]:
        settings = self._settings
        program = Program(
            argv=tuple(command["argv"]),
            env=command["env"],
            cwd=command["cwd"],
            log=command["log"],
            user=command["user"],
            terminal=not command["log"],
        )
        if command["network"]:
            if command["network"] not in self._networks.names:
                raise RefusedError(f"no network {command['network']}")
            confinement = Confinement(
                network=self._networks.path(command["network"]),
                resolver=self._networks.resolver(command["network"]),
                hidden=(settings.runtime, *settings.hidden),
                user_namespace=settings.isolation == "user",
                outer_uid=settings.outer_uid,
                outer_gid=settings.outer_gid,
            )
            return lambda report: start_confined(program, confinement, report)
        if command["enters"] and settings.isolation == "user":
            return lambda report: start_brokered(program, report)
        return lambda report: start_plain(program, report, dies_with_parent=not settings.isolated)

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

    def _signal(self, name: str, number: int) -> None:
        entry = self._entries.get(name)
        if entry is not None and entry.running and entry.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(entry.pid, number)

    # ---- children

    def _reap(self) -> None:
        if all(entry.running for entry in self._entries.values()):
            self._strays.clear()
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                self._note_exit(*ended)

    def _note_exit(self, pid: int, status: int | None) -> None:
        if status is None:
            return
        entry = next((entry for entry in self._entries.values() if entry.waited == pid), None)
        if entry is None:
            self._strays[pid] = status
            return
        entry.returncode = os.waitstatus_to_exitcode(status)
        if entry.running:
            self._tell_exit(entry)

    def _tell_exit(self, entry: Entry) -> None:
        self._entries.pop(entry.name, None)
        if self._peer is not None:
            self._peer.send({"event": "exited", "name": entry.name, "returncode": entry.returncode})

    def _end_children(self) -> None:
        for entry in self._entries.values():
            if entry.running and self._grace:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(entry.pid, signal.SIGTERM)
        deadline = time.monotonic() + self._grace
        while self._entries and time.monotonic() < deadline:
            self._turn(0.05)
        if not self._settings.isolated:
            _end_descendants()
        (self._settings.runtime / SOCKET).unlink(missing_ok=True)


def _view(entry: Entry) -> dict[str, Any]:
    return {"name": entry.name, "pid": entry.shown_pid, "started": entry.started, "note": entry.note}


def _read_report(entry: Entry, text: str) -> None:
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        if word == "error":
            entry.error = rest
        elif word == "init":  # a confined program: its init is the one to signal and to wait for
            entry.shown_pid = int(rest)
        elif word == "pid":
            pid, shown = rest.split()
            entry.pid = int(pid)
            if int(shown):
                entry.shown_pid = int(shown)


def _end_descendants() -> None:
    """Without a pid namespace: kill children, then the orphans that come to us, until there are none."""
    deadline = time.monotonic() + GRACE
    me = os.getpid()
    while time.monotonic() < deadline:
        children = Path(f"/proc/{me}/task/{me}/children").read_text().split()
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        time.sleep(0.005)


def load_settings(text: str) -> Settings:
    """Settings as `sandbox.open_sandbox` writes them, in JSON."""
    document = json.loads(text)
    return Settings(
        runtime=Path(document["runtime"]).resolve(),
        isolation=document["isolation"],
        lifeline=document["lifeline"],
        hidden=tuple(Path(path).resolve() for path in document["hidden"]),
        control=document["control"],
        outer_uid=os.geteuid(),
        outer_gid=os.getegid(),
    )


def isolate(settings: Settings) -> None:
    """Enter the warden's own namespaces. OSError where this host does not allow it."""
    flags = linux.CLONE_NEWNS | linux.CLONE_NEWPID
    if settings.isolation == "user":
        linux.unshare(flags | linux.CLONE_NEWUSER)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {settings.outer_uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {settings.outer_gid} 1")
    else:
        linux.unshare(flags)
    linux.mount("none", "/", None, linux.MS_SLAVE | linux.MS_REC)
    Networks(settings.runtime / NETWORKS).prepare()


def _detach(settings: Settings) -> None:
    """Stand apart from the agent's terminal, for a warden that outlives it."""
    os.setsid()
    null = os.open("/dev/null", os.O_RDWR)
    log = os.open(settings.runtime / "warden.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.dup2(log, 2)


def _serve(settings: Settings) -> None:
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
        _detach(settings)
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
