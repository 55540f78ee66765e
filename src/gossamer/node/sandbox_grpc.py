"""One question to a gRPC health service (grpc.health.v1), in the short-lived child that asks it.

Written by hand, since a client library takes longer to load than the question may take. Only what the question needs
is understood of HTTP/2 (RFC 9113): headers are sent without compression, and those that come are not read; the status
of the answer is in its data. Invariant: nothing is read beyond the deadline.
"""

from __future__ import annotations

import socket
import struct
import time
from typing import Final

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7
_ACK: Final = 1
_END_STREAM: Final = 1
_END_HEADERS: Final = 4
_STATUSES: Final = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
_LIMIT: Final = 1 << 20


def ask_grpc(connection: socket.socket, service: str, authority: str, deadline: float) -> str:
    """Ask whether `service` (empty: the server) is serving; empty when it is, else what is wrong. OSError as sockets
    raise; `deadline` is one of `time.monotonic`."""
    name = service.encode()
    request = b"\x0a" + _number(len(name)) + name if name else b""
    headers = b"".join(
        _field(key, value)
        for key, value in (
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", b"/grpc.health.v1.Health/Check"),
            (b":authority", authority.encode()),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
            (b"user-agent", b"gossamer"),
        )
    )
    message = struct.pack(">BI", 0, len(request)) + request
    connection.sendall(
        _PREFACE
        + _frame(_SETTINGS, 0, 0, b"")
        + _frame(_HEADERS, _END_HEADERS, 1, headers)
        + _frame(_DATA, _END_STREAM, 1, message)
    )
    return _read_answer(_Frames(connection, deadline), connection)


def _read_answer(frames: _Frames, connection: socket.socket) -> str:
    body = b""
    while True:
        kind, flags, stream, payload = frames.read()
        if kind == _SETTINGS and not flags & _ACK:
            connection.sendall(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            connection.sendall(_frame(_PING, _ACK, 0, payload))
        elif kind == _GOAWAY or (kind == _RESET and stream == 1):
            return "closed the gRPC call without an answer"
        elif kind == _DATA and stream == 1:
            body += payload
        if stream == 1 and kind in (_DATA, _HEADERS) and flags & _END_STREAM:
            return _verdict(body)


def _verdict(body: bytes) -> str:
    """What a HealthCheckResponse says; a status of 0 is left out of it."""
    if len(body) < 5:
        return "answered no gRPC health status: it has no such service, or no grpc.health.v1"
    status = body[6] if len(body) > 6 and body[5] == 0x08 else 0
    word = _STATUSES[status] if status < len(_STATUSES) else str(status)
    return "" if word == "SERVING" else f"gRPC health is {word}"


class _Frames:
    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection = connection
        self._deadline = deadline
        self._buffer = b""
        self._seen = 0

    def read(self) -> tuple[int, int, int, bytes]:
        """Type, flags, stream and payload of the next frame."""
        head = self._take(9)
        length, kind, flags = int.from_bytes(head[:3]), head[3], head[4]
        stream = int.from_bytes(head[5:]) & 0x7FFFFFFF
        return kind, flags, stream, self._take(length)

    def _take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._connection.settimeout(max(0.001, self._deadline - time.monotonic()))
            data = self._connection.recv(65536)
            self._seen += len(data)
            if not data or self._seen > _LIMIT:
                raise OSError("closed the connection without an answer" if not data else "answered too much")
            self._buffer += data
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + payload


def _field(name: bytes, value: bytes) -> bytes:
    """A header as a literal that no table keeps (RFC 7541, 6.2.2)."""
    return b"\x00" + _length(name) + name + _length(value) + value


def _length(text: bytes) -> bytes:
    """A length with a prefix of seven bits (RFC 7541, 5.1)."""
    size = len(text)
    return bytes((size,)) if size < 127 else b"\x7f" + _number(size - 127)


def _number(value: int) -> bytes:
    """Seven bits a byte, the lowest first, as both HPACK and protobuf write numbers."""
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes((*found, value))
