"""What reaches a proxy: one connection and, if it carries HTTP, one request on it.

Invariant: a `Request` says everything that Envoy's decision depends on beside its configuration, so the same request on
the same resources always has the same outcome. Where Envoy draws a random number, `chance` is that number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from gossamer.core.frozen import FrozenMap


class Arrival(StrEnum):
    """How a connection gets to the proxy."""

    OUTBOUND = "outbound"
    """Its workload opened it; the kernel redirects it to `virtualOutbound`."""
    INBOUND = "inbound"
    """It was opened to its workload; the kernel redirects it to `virtualInbound`."""
    DIRECT = "direct"
    """It was opened to an address on which the proxy itself listens: a gateway's port, a loopback listener."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Address:
    """An IP address and a TCP port."""

    ip: str
    port: int = 0

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What a client presents when asked: its URI and DNS names and its subject.

    `trusted` says whether it leads to a root that the server trusts for this.
    """

    uris: tuple[str, ...] = ()
    dns_names: tuple[str, ...] = ()
    subject: str = ""
    trusted: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """A client's side of the TLS handshake; `certificate` is None when it has none to show."""

    server_name: str = ""
    alpn: tuple[str, ...] = ()
    certificate: Certificate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """One HTTP request. `path` includes the query; header names are in lower case, in the order sent.

    `authority` is the Host header or `:authority`; `http2` says which of the two protocols is spoken.
    """

    authority: str
    path: str = "/"
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    http2: bool = False
    http3: bool = False
    """Spoken over QUIC: then the connection is one of UDP, and its TLS is QUIC's."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "headers", tuple((name.lower(), value) for name, value in self.headers))


CheckToken = Callable[[str, str], str]
"""Why a token (first) is not one that a JSON Web Key Set (second) vouches for now: its signature or its dates; empty if
it is. For its dates it is one of the two below. A pure function, or the same request has two outcomes."""
EXPIRED: Final = "a token has expired"
EARLY: Final = "a token is not valid yet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A connection from `source` to `destination`, as its client meant it (before any redirection).

    `tls` is None for plaintext, `http` None when what it carries is not HTTP. `metadata` is dynamic metadata by filter
    name, as a filter that is not simulated would have left it (a validated token's claims). `chance`, from 0 up to
    but without 1, stands for every random number that Envoy draws: a fraction of 30 % happens below 0.3, and it picks
    the weighted cluster at that point of the sum of weights. `check` tells good tokens from bad ones; without it only
    `metadata` says that one was good.
    """

    arrival: Arrival
    destination: Address
    source: Address = Address(ip="127.0.0.1", port=40000)
    tls: Tls | None = None
    http: HttpRequest | None = None
    metadata: Mapping[str, Any] = field(default_factory=FrozenMap)
    chance: float = 0.5
    check: CheckToken | None = None
