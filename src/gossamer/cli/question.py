"""A request as people ask for it, a URL and some flags, as the proxies get it.

Invariant: what is asked and not understood is a UsageError; what has to be assumed (the address of a host that nobody
declared) is said in `assumptions`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, urlsplit

from gossamer.cli.cast import ELSEWHERE, STRANGER, Cast
from gossamer.compile.tls import mesh_alpn
from gossamer.core.errors import UsageError
from gossamer.model.names import exported
from gossamer.model.service import Protocol, Service
from gossamer.simulate.call import Peer
from gossamer.simulate.request import Address, Arrival, CheckToken, HttpRequest, Request, Tls

_PORTS: Final = {"http": 80, "https": 443, "tcp": 0, "tls": 443}
_PORT: Final = 43210


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What was asked. `url` is `http://`, `https://`, `tls://` or `tcp://`; `address`: where its host is."""

    url: SplitResult
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    http2: bool = False
    http3: bool = False
    address: str = ""
    chance: float = 0.5
    check: CheckToken | None = None

    @property
    def host(self) -> str:
        return self.url.hostname or ""

    @property
    def port(self) -> int:
        return self.url.port or _PORTS[self.url.scheme]

    @property
    def text(self) -> str:
        return f"{self.method} {self.url.geturl()}" if self.url.scheme.startswith("http") else self.url.geturl()

    def http(self) -> HttpRequest | None:
        """The HTTP request in it; None for `tcp://` and `tls://`."""
        if not self.url.scheme.startswith("http"):
            return None
        path = self.url.path or "/"
        named = next((value for name, value in self.headers if name.lower() == "host"), "")
        return HttpRequest(
            authority=named or self.url.netloc.rpartition("@")[2],
            path=f"{path}?{self.url.query}" if self.url.query else path,
            method=self.method,
            headers=self.headers,
            http2=self.http2 or self.http3,
            http3=self.http3,
        )

    def tls(self) -> Tls | None:
        """The client's own TLS; None for plaintext."""
        if self.url.scheme not in ("https", "tls"):
            return None
        alpn = ("h3",) if self.http3 else ("h2",) if self.http2 else ("http/1.1",)
        return Tls(server_name=self.host, alpn=alpn if self.url.scheme == "https" else ())


def parse_url(text: str) -> SplitResult:
    """A URL, `http://` unless it says otherwise. UsageError when it is none."""
    given = text if "://" in text else f"http://{text}"
    try:
        url = urlsplit(given)
        port = url.port
    except ValueError as error:
        raise UsageError(f"{text} is no URL: {error}") from error
    if url.scheme not in _PORTS:
        raise UsageError(f"{text}: only {', '.join(f'{scheme}://' for scheme in _PORTS)} can be simulated")
    if not url.hostname:
        raise UsageError(f"{text} names no host; write http://reviews:9080/path")
    if not port and not _PORTS[url.scheme]:
        raise UsageError(f"{text} names no port; write tcp://{url.hostname}:9000")
    return url


def parse_headers(given: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """`name: value` each."""
    found = []
    for text in given:
        name, colon, value = text.partition(":")
        if not colon or not name.strip():
            raise UsageError(f"--header {text!r}: write it as 'name: value'")
        found.append((name.strip(), value.strip()))
    return tuple(found)


def outbound_request(cast: Cast, question: Question, namespace: str) -> tuple[Request, tuple[str, ...]]:
    """The connection as the workload's sidecar captures it, with what had to be assumed."""
    service = cast.service(question.host, namespace)
    address, assumptions = _destination(cast, question, service, namespace)
    request = Request(
        arrival=Arrival.OUTBOUND,
        destination=Address(ip=address, port=question.port),
        tls=question.tls(),
        http=question.http(),
        chance=question.chance,
        check=question.check,
    )
    return request, assumptions


def _destination(
    cast: Cast, question: Question, service: Service | None, namespace: str
) -> tuple[str, tuple[str, ...]]:
    if question.address:
        return question.address, ()
    if service is not None and not service.addresses and not exported(service.export_to, namespace):
        hidden = f"{service.hostname} is not exported from {service.namespace} to {namespace}"
        return ELSEWHERE, (f"{hidden}: its address is taken to be {ELSEWHERE} (--address says otherwise)",)
    if service is not None:
        return cast.address_of(service), _port_problem(question, service)
    if question.host.replace(".", "").isdigit() or ":" in question.host:
        return question.host, ()
    known = f"no service {question.host} is declared: its address is taken to be {ELSEWHERE} (--address says otherwise)"
    return ELSEWHERE, (known,)


def _port_problem(question: Question, service: Service) -> tuple[str, ...]:
    if service.port(question.port) is not None:
        return ()
    ports = ", ".join(str(port.number) for port in service.ports)
    return (f"{service.hostname} has no port {question.port}; it has {ports}",)


def gateway_request(cast: Cast, question: Question, gateway: Peer, port: int, client: str) -> Request:
    """The connection of a client outside the mesh to a gateway."""
    return Request(
        arrival=Arrival.DIRECT,
        destination=Address(ip=gateway.address, port=port),
        source=Address(ip=client or STRANGER, port=_PORT),
        tls=question.tls(),
        http=question.http(),
        chance=question.chance,
        check=question.check,
    )


def inbound_request(question: Question, target: Peer, caller: Peer | None, client: str) -> Request:
    """A connection straight to a workload: of another sidecar (mutual TLS), or of anyone (as the URL says)."""
    http = question.http()
    tls = question.tls()
    if caller is not None:
        protocol = Protocol.TCP if http is None or tls is not None else Protocol.HTTP2 if http.http2 else Protocol.HTTP
        tls = Tls(server_name=question.host, alpn=mesh_alpn(protocol), certificate=caller.identity)
    return Request(
        arrival=Arrival.INBOUND,
        destination=Address(ip=question.address or target.address, port=question.port),
        source=Address(ip=client or (caller.address if caller is not None else STRANGER), port=_PORT),
        tls=tls,
        http=http,
        chance=question.chance,
        check=question.check,
    )
