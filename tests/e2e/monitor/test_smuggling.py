"""Requests in which another one hides, and bytes that become something else on the way from HTTP/2 to HTTP/1: at the
gateway and straight at a sidecar. What reaches the application is what was decided about, or nothing."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Final

from hpack import Encoder

from gossamer.ca.folder import open_authority
from tests.e2e.monitor.identities import HTTP_ALPN, client, issue
from tests.e2e.monitor.raw import Said, converse
from tests.e2e.monitor.world import WEB, World

Send = Callable[[bytes], Said]
HOST: Final = "host: web.test\r\n"
POST: Final = "POST /ok HTTP/1.1\r\n" + HOST
HIDDEN: Final = "GET /admin/HIDDEN HTTP/1.1\r\nhost: web.test\r\n\r\n"
"""Denied wherever a proxy sees that it is a request."""
CHUNKED: Final = "transfer-encoding: chunked\r\n"
LAST: Final = "0\r\n\r\n"


def _length(value: object, name: str = "content-length") -> str:
    return f"{name}: {value}\r\n"


# Name and bytes; where HIDDEN stands is where a server that reads otherwise than Envoy would find a second request.
SHAPES: Final[dict[str, str]] = {
    "a length and chunks": POST + _length(5) + CHUNKED + "\r\n" + LAST + HIDDEN,
    "chunks and a length": POST + CHUNKED + _length(4) + "\r\n5c\r\n" + HIDDEN + "\r\n" + LAST,
    "two lengths": POST + _length(0) + _length(len(HIDDEN)) + "\r\n" + HIDDEN,
    "two lengths, the other way": POST + _length(len(HIDDEN)) + _length(0) + "\r\n" + HIDDEN,
    "a list of lengths": POST + _length(f"0, {len(HIDDEN)}") + "\r\n" + HIDDEN,
    "a length with a sign": POST + _length("+0") + "\r\n" + HIDDEN,
    "a negative length": POST + _length("-1") + "\r\n" + HIDDEN,
    "a length in hexadecimal": POST + _length("0x0") + "\r\n" + HIDDEN,
    "a length with words": POST + _length("0 and more") + "\r\n" + HIDDEN,
    "a length beyond all": POST + _length("18446744073709551616") + "\r\n" + HIDDEN,
    "a length before a space": POST + _length(0, "content-length ") + "\r\n" + HIDDEN,
    "an underscore": POST + _length(len(HIDDEN), "content_length") + "\r\n" + HIDDEN,
    "chunks before a space": POST + "transfer-encoding : chunked\r\n" + _length(0) + "\r\n" + LAST + HIDDEN,
    "chunks after a tab": POST + "transfer-encoding:\tchunked\r\n" + _length(3) + "\r\n" + LAST + HIDDEN,
    "chunks after another byte": POST + "transfer-encoding: \x0bchunked\r\n" + _length(3) + "\r\n" + LAST + HIDDEN,
    "chunks that are none": POST + "transfer-encoding: xchunked\r\n" + _length(3) + "\r\n" + LAST + HIDDEN,
    "chunks and something": POST + "transfer-encoding: chunked, identity\r\n" + _length(3) + "\r\n" + LAST + HIDDEN,
    "chunks twice": POST + CHUNKED + "transfer-encoding: x\r\n\r\n" + LAST + HIDDEN,
    "chunks on a folded line": POST + "transfer-encoding:\r\n chunked\r\n" + _length(3) + "\r\n" + LAST + HIDDEN,
    "chunks in HTTP/1.0": POST.replace("1.1", "1.0") + CHUNKED + "\r\n" + LAST + HIDDEN,
    "a folded header": f"GET /ok HTTP/1.1\r\n{HOST}x: a\r\n {HIDDEN}",
    "a header after a bare carriage return": f"GET /ok HTTP/1.1\r\n{HOST}x: a\rx-hidden: 1\r\n\r\n",
    "a header after a bare line feed": f"GET /ok HTTP/1.1\r\n{HOST}x: a\nx-open: Envoy takes it for one\r\n\r\n",
    "bare line feeds": HIDDEN.replace("\r", "").replace(
        "GET /HIDDEN", f"GET /ok HTTP/1.1\n{HOST.strip()}\n\nGET /HIDDEN"
    ),
    "a zero byte": f"GET /ok HTTP/1.1\r\n{HOST}x: a\0\r\nx-hidden: 1\r\n\r\n",
    "a header without a name": f"GET /ok HTTP/1.1\r\n{HOST}: a\r\n\r\n{HIDDEN}".replace(HIDDEN, ""),
    "a header with a space in its name": f"GET /ok HTTP/1.1\r\n{HOST}x hidden: 1\r\n\r\n",
    "a chunk's size with a sign": POST + CHUNKED + "\r\n+0\r\n\r\n" + HIDDEN,
    "a chunk's size in another way": POST + CHUNKED + "\r\n0x0\r\n\r\n" + HIDDEN,
    "a chunk's size beyond all": POST + CHUNKED + "\r\n10000000000000000\r\n" + HIDDEN,
    "a chunk's extension with a line feed": POST + CHUNKED + "\r\n2;\nxx\r\n5c\r\n0\r\n\r\n" + HIDDEN,
    "a chunk that ends elsewhere": POST + CHUNKED + "\r\n2\r\nabXX0\r\n\r\n" + HIDDEN,
    "two hosts": f"GET /ok HTTP/1.1\r\n{HOST}host: mallory.test\r\n\r\n",
    "a host with a path": "GET /ok HTTP/1.1\r\nhost: web.test/HIDDEN\r\n\r\n",
    "two targets": f"GET /ok /HIDDEN HTTP/1.1\r\n{HOST}\r\n",
    "a target with a tab": f"GET /ok\t/HIDDEN HTTP/1.1\r\n{HOST}\r\n",
    "a method that is none": f"GE\x00T /HIDDEN HTTP/1.1\r\n{HOST}\r\n",
    "no version": f"GET /HIDDEN\r\n{HOST}\r\n",
    "another version": f"GET /HIDDEN HTTP/1.9\r\n{HOST}\r\n",
    "a denied path behind an address": "GET http://web.test/admin HTTP/1.1\r\nhost: web.test\r\nx-hidden: 1\r\n\r\n",
    "a tunnel": "CONNECT web.test:80 HTTP/1.1\r\nhost: web.test:80\r\n\r\n" + HIDDEN,
    "an upgrade that nobody answers": f"GET /ok HTTP/1.1\r\n{HOST}connection: upgrade\r\nupgrade: websocket\r\n"
    f"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n{HIDDEN}",
    "an upgrade to HTTP/2": f"GET /ok HTTP/1.1\r\n{HOST}connection: upgrade, http2-settings\r\nupgrade: h2c\r\n"
    "http2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
}


def test_no_request_hides_in_another(world: World) -> None:
    for where, send in _ways(world).items():
        _none_hides(world, where, send)


def _ways(world: World) -> dict[str, Send]:
    return {"the gateway": lambda data: converse(world.ports[80], data), "a sidecar": _to_sidecar(world, HTTP_ALPN)}


def _to_sidecar(world: World, alpn: tuple[str, ...]) -> Send:
    tls, row = _mallory(world, alpn), world.place.row(WEB)
    host, port = row["mesh_address"], row["mesh_ports"]["8080"]
    return lambda data: converse(port, data, host=host, tls=tls)


def _mallory(world: World, alpn: tuple[str, ...]) -> ssl.SSLContext:
    authority = open_authority(world.place.root / "plane" / "ca", "cluster.local", datetime.now(UTC))
    return client(issue(authority, "evil", "mallory"), alpn)


def _none_hides(world: World, where: str, send: Send) -> None:
    known = len(world.seen())
    good = send((POST + _length(2) + "\r\nab").encode())
    assert good.statuses == [200], (where, good)
    with ThreadPoolExecutor(16) as pool:
        [*pool.map(lambda shape: _sent(send, shape), SHAPES.values())]
    _nothing_hidden(where, world.seen()[known:])


def _sent(send: Send, text: str) -> Said:
    try:
        return send(text.encode("latin-1"))
    except OSError:
        return Said(data=b"", closed=True)


def _nothing_hidden(where: str, seen: Iterable[str]) -> None:
    for head in seen:
        lines = head.split("\r\n")
        assert "HIDDEN" not in lines[0], (where, head)
        assert not [line for line in lines if line.lower().startswith(("x-hidden", "x hidden"))], (where, head)
        assert not [line for line in lines[1:] if "\r" in line or "\n" in line or "\0" in line], (where, head)
        assert sum(line.lower().startswith(("content-length:", "transfer-encoding:")) for line in lines) <= 1, (
            where,
            head,
        )


# ---- HTTP/2


CRLF: Final = "\r\nx-hidden: 1"
INJECTED: Final[dict[str, tuple[list[tuple[str, str]], bytes]]] = {
    "a value of two lines": ([("x-a", f"b{CRLF}")], b""),
    "a value with a line feed": ([("x-a", "b\nx-hidden: 1")], b""),
    "a value with a zero byte": ([("x-a", "b\0c")], b""),
    "a name of two lines": ([("x-a: b\r\nx-hidden", "1")], b""),
    "a name with a colon": ([("x-hidden: 1", "2")], b""),
    "a name in capitals": ([("X-HIDDEN", "1")], b""),
    "a path of two lines": ([(":path", f"/ok HTTP/1.1{CRLF}")], b""),
    "a path with a request in it": ([(":path", f"/ok HTTP/1.1\r\nhost: x\r\n\r\n{HIDDEN}")], b""),
    "a path with a space": ([(":path", "/ok HTTP/1.1 /HIDDEN")], b""),
    "a path that is none": ([(":path", "HIDDEN")], b""),
    "a method with a request in it": ([(":method", "GET /HIDDEN HTTP/1.1\r\nx: ")], b""),
    "an authority of two lines": ([(":authority", f"web.test{CRLF}")], b""),
    "an authority with a path": ([(":authority", "web.test/HIDDEN?")], b""),
    "a scheme with a request in it": ([(":scheme", "http://web.test/HIDDEN?")], b""),
    "two paths": ([(":path", "/ok"), (":path", "/HIDDEN")], b""),
    "a path at the end": ([("x-a", "b"), (":path", "/HIDDEN")], b""),
    "chunks": ([(":method", "POST"), ("transfer-encoding", "chunked")], LAST.encode() + HIDDEN.encode()),
    "an upgrade": ([("connection", "upgrade"), ("upgrade", "h2c"), ("x-hidden", "1")], b""),
    "connection": ([("connection", "keep-alive, host"), ("x-hidden", "1")], b""),
    "too short a length": ([(":method", "POST"), ("content-length", "0")], HIDDEN.encode()),
    "two lengths": ([(":method", "POST"), ("content-length", "0"), ("content-length", "92")], HIDDEN.encode()),
    "too long a length": ([(":method", "POST"), ("content-length", "9999")], HIDDEN.encode()),
    "a denied path": ([(":path", "/admin"), ("x-hidden", "1")], b""),
}


def test_nothing_is_injected_on_the_way_from_http2_to_http1(world: World) -> None:
    outside = client(None, ("h2",))
    ways: dict[str, Send] = {
        "the gateway": lambda data: converse(world.ports[443], data, tls=outside),
        "a sidecar": _to_sidecar(world, ("istio-h2",)),
    }
    for where, send in ways.items():
        known = len(world.seen())
        _sent_frames(send, [(":path", "/good"), ("x-a", "b")], b"")
        with ThreadPoolExecutor(16) as pool:
            [*pool.map(lambda one: _sent_frames(send, *one), INJECTED.values())]  # noqa: B023 - it ends in this turn
        seen = world.seen()[known:]
        assert [head for head in seen if head.startswith("GET /good HTTP/1.1\r\n")], (where, "the counterpart")
        _nothing_hidden(where, seen)


def _sent_frames(send: Send, headers: list[tuple[str, str]], body: bytes) -> None:
    """One request in HTTP/2, as it is: nothing is checked on this side."""
    names = {name for name, _ in headers}
    usual = [(":method", "GET"), (":scheme", "https"), (":authority", "web.test"), (":path", "/ok")]
    block = Encoder().encode([*(pair for pair in usual if pair[0] not in names), *headers], huffman=False)
    frames = _frame(4, 0, 0, b"") + _frame(1, 4 | (0 if body else 1), 1, block)
    frames += _frame(0, 1, 1, body) if body else b""
    try:
        send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frames)
    except OSError:
        return


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def test_the_application_reads_what_was_sent_in_the_open(world: World) -> None:
    """The counterpart: it would have told."""
    seen = json.loads(world.get("/HIDDEN", {"x-hidden": "1"}).body)["head"]
    assert seen.startswith("GET /HIDDEN")
    assert "x-hidden: 1" in seen
