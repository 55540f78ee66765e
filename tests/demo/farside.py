"""The other end of a call, for what the real services never do: be late, fail, or tell what they were sent."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """An answer, given after `delay` seconds."""

    body: bytes = b"{}"
    status: int = 200
    delay: float = 0.0
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class FarSide:
    """A real HTTP server that keeps every request line and its headers."""

    port: int = 0
    seen: list[tuple[str, Message]] = field(default_factory=list)

    @property
    def paths(self) -> list[str]:
        """The targets that were asked for, in order."""
        return [path for path, _ in self.seen]


@contextmanager
def far_side(answer: Callable[[str], Said]) -> Iterator[FarSide]:
    """Serve on loopback what `answer` says to each request target."""
    side = FarSide()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            side.seen.append((self.path, self.headers))
            said = answer(self.path)
            time.sleep(said.delay)
            try:
                self.send_response(said.status)
                for name, value in said.headers:
                    self.send_header(name, value)
                self.send_header("content-length", str(len(said.body)))
                self.end_headers()
                self.wfile.write(said.body)
            except (BrokenPipeError, ConnectionResetError):  # the caller had a deadline
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            """Keep quiet."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as server:
        side.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield side
        finally:
            server.shutdown()
            thread.join()
