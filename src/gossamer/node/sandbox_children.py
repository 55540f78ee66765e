"""The warden's children by name: started, signalled, and told of when they end.

Invariant: an exit is told once, and never before the start was.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gossamer.node.sandbox_isolation import WardenSettings
from gossamer.node.sandbox_networks import Networks
from gossamer.node.sandbox_sockets import start_brokered
from gossamer.node.sandbox_spawn import Confinement, Program, fork, start_confined, start_plain


class RefusedError(Exception):
    """A request that cannot be granted; its text is the answer."""


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

    def view(self) -> dict[str, Any]:
        """What an agent is shown."""
        return {"name": self.name, "pid": self.shown_pid, "started": self.started, "note": self.note}


class Children:
    """`tell` hears of every child that was started and has ended."""

    def __init__(self, settings: WardenSettings, networks: Networks, tell: Callable[[Entry], None]) -> None:
        self._settings = settings
        self._networks = networks
        self._tell = tell
        self._entries: dict[str, Entry] = {}
        self._strays: dict[int, int] = {}
        """Statuses of processes that nobody waits for yet: an init may end before its start is known."""

    def __bool__(self) -> bool:
        return bool(self._entries)

    def views(self) -> list[dict[str, Any]]:
        return [entry.view() for entry in self._entries.values() if entry.running]

    def begin(self, name: str, command: dict[str, Any]) -> tuple[Entry, int]:
        """Fork a child. Returns its entry and a descriptor to read until it ends: its report, for `settle`."""
        if name in self._entries:
            raise RefusedError(f"{name} runs already")
        body = self._body(command)
        entry = self._entries[name] = Entry(name=name, note=command["note"])
        reader, writer = os.pipe2(os.O_CLOEXEC)
        first = fork(lambda: body(writer))
        if not command["network"]:  # a confined program's first process only makes room for its init
            entry.waited = first
        os.close(writer)
        return entry, reader

    def read_report(self, entry: Entry, text: str) -> None:
        """Take in how the start went. RefusedError if it failed."""
        for line in text.splitlines():
            word, _, rest = line.partition(" ")
            if word == "error":
                entry.error = rest
            elif word == "init":  # a confined program: its init is the one to signal and to wait for
                entry.shown_pid = int(rest)
            elif word == "pid":
                pid, shown = rest.split()
                entry.pid = int(pid)
                entry.shown_pid = int(shown) or entry.shown_pid
        if entry.error or not entry.pid:
            if self._entries.get(entry.name) is entry:
                del self._entries[entry.name]
            raise RefusedError(entry.error or f"{entry.name} did not start")

    def settle(self, entry: Entry) -> None:
        """From here on its end is told; it may have come already."""
        entry.running = True
        if not entry.waited:
            entry.waited = entry.pid
            if entry.pid in self._strays:
                self._end(entry, self._strays.pop(entry.pid))
        elif entry.returncode is not None:
            self._forget(entry)

    def signal(self, name: str, number: int) -> None:
        """Send a signal; nothing if there is no such child any more."""
        entry = self._entries.get(name)
        if entry is not None and entry.running and entry.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(entry.pid, number)

    def signal_all(self, number: int) -> None:
        for name in self._entries:
            self.signal(name, number)

    def reap(self) -> None:
        """Take in every process that has ended."""
        if all(entry.running for entry in self._entries.values()):
            self._strays.clear()
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                pid, status = ended
                entry = next((entry for entry in self._entries.values() if entry.waited == pid), None)
                if entry is None:
                    self._strays[pid] = status
                else:
                    self._end(entry, status)

    def _end(self, entry: Entry, status: int) -> None:
        entry.returncode = os.waitstatus_to_exitcode(status)
        if entry.running:
            self._forget(entry)

    def _forget(self, entry: Entry) -> None:
        self._entries.pop(entry.name, None)
        self._tell(entry)

    def _body(self, command: dict[str, Any]) -> Callable[[int], None]:
        settings = self._settings
        program = Program(
            argv=tuple(command["argv"]),
            env=command["env"],
            cwd=command["cwd"],
            log=command["log"],
            user=command["user"],
            terminal=not command["log"],
            memory=settings.memory if settings.isolated and command["enters"] else None,
            hosts=command.get("hosts", ""),
        )
        if command["network"]:
            if command["network"] not in self._networks.names:
                raise RefusedError(f"no network {command['network']}")
            confinement = Confinement(
                network=self._networks.path(command["network"]),
                resolver=self._networks.resolver(command["network"]),
                hidden=(settings.runtime, *settings.hidden),
                shown=Path(shown) if (shown := command.get("shown")) else None,
                user_namespace=settings.isolation == "user",
                outer_uid=settings.outer_uid,
                outer_gid=settings.outer_gid,
            )
            return lambda report: start_confined(program, confinement, report)
        if command["enters"] and settings.isolation == "user":
            return lambda report: start_brokered(program, report)
        return lambda report: start_plain(program, report, dies_with_parent=not settings.isolated)


def end_descendants(seconds: float) -> None:
    """Without a pid namespace: kill children, then the orphans that come to us, until there are none."""
    deadline = time.monotonic() + seconds
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
