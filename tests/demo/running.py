"""Bookinfo's services as real processes on loopback, each on a port that the system chose."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Spawned:
    """A process and the file that it logs to."""

    child: subprocess.Popen[bytes]
    log: Path

    def events(self) -> list[Mapping[str, object]]:
        """All that it has logged so far, but for a line that is not whole yet."""
        return [json.loads(line) for line in self.log.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def stop(self) -> int:
        """Ask the process to end, and return its exit code."""
        self.child.terminate()
        try:
            return self.child.wait(10)
        finally:
            self.child.kill()
            self.child.wait(5)
            self.log.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Running(Spawned):
    """A service that listens, and where."""

    url: str
    port: int


def upstream_env(**ports: int) -> dict[str, str]:
    """The variables by which a service finds the others on loopback."""
    env = {}
    for service, port in ports.items():
        env[f"{service.upper()}_HOSTNAME"] = "127.0.0.1"
        env[f"{service.upper()}_SERVICE_PORT"] = str(port)
    return env


def spawn(arguments: list[str], env: Mapping[str, str] | None = None) -> Spawned:
    """A process of Bookinfo that may not listen yet; its environment is `env` and a path."""
    command = [sys.executable, "-m", "gossamer.demo.bookinfo", *arguments]
    clean = {"PATH": os.environ.get("PATH", "")}
    descriptor, log = tempfile.mkstemp(prefix="bookinfo-", suffix=".log")
    try:
        child = subprocess.Popen(command, env=clean | dict(env or {}), stderr=descriptor)
    finally:
        os.close(descriptor)
    return Spawned(child=child, log=Path(log))


def await_listening(spawned: Spawned) -> Running:
    """The service once it says that it listens."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and spawned.child.poll() is None:
        for said in spawned.events():
            if said["event"] == "listening":
                url = str(said["address"])
                return Running(child=spawned.child, log=spawned.log, url=url, port=int(url.rpartition(":")[2]))
        time.sleep(0.02)
    raise AssertionError(f"did not listen: {spawned.log.read_text()}")


@contextmanager
def started(service: str, *flags: str, env: Mapping[str, str] | None = None) -> Iterator[Running]:
    """One service on 127.0.0.1, stopped at the end."""
    spawned = spawn([service, "--host", "127.0.0.1", "--port", "0", *flags], env)
    try:
        yield await_listening(spawned)
    finally:
        spawned.stop()


@contextmanager
def bookshop() -> Iterator[dict[str, Running]]:
    """All six: details, ratings, reviews-v1 to v3, and a productpage for each of those, `productpage-v1` to `v3`."""
    with ExitStack() as stack:
        shop = {name: stack.enter_context(started(name, "--podname", f"{name}-v1")) for name in ("details", "ratings")}
        backends = {"details": shop["details"].port, "ratings": shop["ratings"].port}
        for version in ("v1", "v2", "v3"):
            pod = f"reviews-{version}"
            flags = ("--version", version, "--podname", pod)
            shop[pod] = stack.enter_context(started("reviews", *flags, env=upstream_env(**backends)))
            env = upstream_env(**backends, reviews=shop[pod].port)
            shop[f"productpage-{version}"] = stack.enter_context(started("productpage", env=env))
        yield shop
