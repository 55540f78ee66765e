"""A real Envoy that serves configuration written by hand, and requests to it byte by byte."""

from __future__ import annotations

import json
import re
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.simulate.build import Json

START_S = 20.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; status 0 and no body for a connection that was closed without a word."""

    status: int
    body: str = ""
    headers: tuple[tuple[str, str], ...] = ()

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key == name), "")


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on right now."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@contextmanager
def serving(envoy: Path, folder: Path, listeners: list[Json], clusters: list[Json] | None = None) -> Iterator[None]:
    """An Envoy with these listeners and clusters, ready."""
    config = folder / "envoy.json"
    config.write_text(json.dumps({"static_resources": {"listeners": listeners, "clusters": clusters or []}}))
    argv = [str(envoy), "-c", str(config), "--concurrency", "1", "--use-dynamic-base-id", "--log-level", "error"]
    argv += ["--file-flush-interval-msec", "100"]
    with (folder / "envoy.log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log)
    try:
        _await_ports(process, listeners, folder / "envoy.log")
        yield
    finally:
        process.terminate()
        process.wait(timeout=20)


def _await_ports(process: subprocess.Popen[bytes], listeners: list[Json], log: Path) -> None:
    deadline = time.monotonic() + START_S
    for one in listeners:
        port = one["address"]["socket_address"]["port_value"]
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.02)


def send(port: int, content: bytes, tls: ssl.SSLContext | None = None, server_name: str = "") -> Answer:
    """Send bytes and read the answer to its end."""
    plain = socket.create_connection(("127.0.0.1", port), 10)
    received = b""
    try:
        with tls.wrap_socket(plain, server_hostname=server_name or None) if tls else plain as one:
            one.sendall(content)
            while not _complete(received) and (part := one.recv(65536)):
                received += part
    except (ConnectionError, ssl.SSLError):
        return Answer(0)
    finally:
        plain.close()
    return _parse(received)


def _complete(received: bytes) -> bool:
    """Whether the answer is all there: Envoy closes its end only a second later."""
    head, blank, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    return bool(blank and length) and len(body) >= int(length[1] if length else 0)


def get(
    port: int,
    path: str = "/",
    authority: str | None = "a.example",
    *,
    headers: list[tuple[str, str]] | None = None,
    method: str = "GET",
    tls: ssl.SSLContext | None = None,
    server_name: str = "",
) -> Answer:
    """One HTTP/1.1 request on a connection of its own."""
    lines = [f"{method} {path} HTTP/1.1"]
    lines += [f"Host: {authority}"] if authority is not None else []
    lines += [f"{name}: {value}" for name, value in headers or []]
    return send(port, "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1"), tls, server_name)


def _parse(received: bytes) -> Answer:
    head, _, body = received.decode("latin-1").partition("\r\n\r\n")
    lines = head.split("\r\n")
    if not lines[0].startswith("HTTP/"):
        return Answer(0, received.decode("latin-1"))
    pairs = (line.partition(": ") for line in lines[1:])
    return Answer(int(lines[0].split()[1]), body, tuple((name.lower(), value) for name, _, value in pairs))
