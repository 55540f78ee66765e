"""Requests as no HTTP library would make them: bytes are sent as they are, and read until the far side is silent."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass

from tests.e2e.meshes import Reply

SILENT_S = 0.4
"""Nobody who still wants to say something waits so long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """All that came back; `closed` tells whether the far side ended the connection."""

    data: bytes
    closed: bool

    @property
    def statuses(self) -> list[int]:
        """Of the answers in it, in order."""
        return [
            int(line.split()[1])
            for line in self.data.split(b"\r\n")
            if line.startswith(b"HTTP/1.1 ") and line[9:12].isdigit()
        ]


def converse(
    port: int, data: bytes, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None, silent_s: float = SILENT_S
) -> Said:
    """Send bytes, and read until nothing comes any more. OSError if there is no connection."""
    with socket.create_connection((host, port), timeout=5) as plain:
        stream = tls.wrap_socket(plain, server_hostname="web.test") if tls else plain
        try:
            stream.sendall(data)
            return _read(stream, silent_s)
        finally:
            stream.close()


def _read(stream: socket.socket, silent_s: float) -> Said:
    found = b""
    stream.settimeout(5)
    while True:
        try:
            part = stream.recv(65536)
        except TimeoutError:
            return Said(data=found, closed=False)
        except OSError:
            return Said(data=found, closed=True)
        if not part:
            return Said(data=found, closed=True)
        found += part
        stream.settimeout(silent_s)


def post(port: int, host: str, path: str, body: bytes, *, timeout_s: float) -> Reply:
    """`POST path`, with a body."""
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request("POST", path, body, {"host": host})
        response = connection.getresponse()
        return Reply(status=response.status, body=response.read().decode("utf-8", "replace"))
    except (OSError, http.client.HTTPException) as error:
        return Reply(status=0, body=str(error) or type(error).__name__)
    finally:
        connection.close()
