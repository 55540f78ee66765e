"""A client of HTTP/3."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass, field
from typing import Any, cast

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, QuicEvent


@dataclass
class Answer:
    """What came back."""

    headers: dict[str, str] = field(default_factory=dict)
    content: bytes = b""

    @property
    def status(self) -> int:
        return int(self.headers[":status"])

    @property
    def body(self) -> str:
        return self.content.decode()


def _looked_at(done: asyncio.Future[Answer]) -> None:
    """Nobody may wait for it any more."""
    if not done.cancelled():
        done.exception()


class _Client(QuicConnectionProtocol):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._http = H3Connection(self._quic)
        self._answer = Answer()
        self._done: asyncio.Future[Answer] = self._loop.create_future()
        self._done.add_done_callback(_looked_at)

    async def get(self, authority: str, path: str) -> Answer:
        stream = self._quic.get_next_available_stream_id()
        pseudo = {":method": "GET", ":scheme": "https", ":authority": authority, ":path": path}
        self._http.send_headers(stream, [(name.encode(), value.encode()) for name, value in pseudo.items()], True)
        self.transmit()
        return await self._done

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, ConnectionTerminated) and not self._done.done():
            self._done.set_exception(ConnectionError(event.reason_phrase))
        for one in self._http.handle_event(event):
            if isinstance(one, HeadersReceived):
                self._answer.headers |= {name.decode(): value.decode() for name, value in one.headers}
            elif isinstance(one, DataReceived):
                self._answer.content += one.data
            if isinstance(one, HeadersReceived | DataReceived) and one.stream_ended and not self._done.done():
                self._done.set_result(self._answer)


def get_http3(
    port: int, server_name: str, roots: str, *, authority: str = "", path: str = "/", seconds: float = 10
) -> Answer:
    """The answer to one GET. ConnectionError or TimeoutError if there is none."""
    configuration = QuicConfiguration(
        alpn_protocols=H3_ALPN, is_client=True, server_name=server_name, verify_mode=ssl.CERT_REQUIRED
    )
    configuration.load_verify_locations(cadata=roots.encode())

    async def ask() -> Answer:
        async with (
            asyncio.timeout(seconds),
            connect("127.0.0.1", port, configuration=configuration, create_protocol=_Client) as client,
        ):
            return await cast(_Client, client).get(authority or server_name, path)

    return asyncio.run(ask())
