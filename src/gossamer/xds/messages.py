"""What crosses the wire of delta xDS, as values; and what a stream reports about it.

A `Request` is what a client sends and a `Response` what a server sends, whichever side this process is on. A `Batch` is
the part of a response that many streams share: their clients get the same resources, serialised once.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gossamer.core.frozen import FrozenMap
from gossamer.core.ids import Origin
from gossamer.core.resources import Resource
from gossamer.xds.wire import encode_batch, encode_tail

WILDCARD = "*"
_WILDCARDS = frozenset({WILDCARD})
_NO_NAMES: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A DeltaDiscoveryRequest without its node. `error` is None on an acknowledgement and set on a rejection."""

    type_url: str
    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    initial_versions: FrozenMap[str, str] = field(default_factory=FrozenMap)
    nonce: str = ""
    error: str | None = None
    names: frozenset[str] = field(init=False, repr=False, compare=False)
    """What `subscribe` names, the wildcard aside."""

    def __post_init__(self) -> None:
        names = frozenset(self.subscribe) - _WILDCARDS if self.subscribe else _NO_NAMES
        object.__setattr__(self, "names", names)

    @property
    def wildcard(self) -> bool:
        """Whether everything is asked for, by its name."""
        return len(self.names) < len(self.subscribe) and WILDCARD in self.subscribe


class Batch:
    """Resources (and names of removed ones) of one type that travel in one response; shared, immutable.

    `nonce` is what all streams call the response that carries it, so that they share it to the last byte.
    """

    __slots__ = ("_encoded", "by_name", "nonce", "removed", "resources", "type_url")

    def __init__(
        self,
        type_url: str,
        resources: tuple[Resource, ...] = (),
        removed: tuple[str, ...] = (),
        nonce: str = "",
    ) -> None:
        self.type_url = type_url
        self.resources = resources
        self.removed = removed
        self.nonce = nonce
        self.by_name = {resource.name: resource for resource in resources}
        self._encoded: bytes | None = None

    @property
    def encoded(self) -> bytes:
        """The wire form of a DeltaDiscoveryResponse with the batch's nonce; computed once."""
        if self._encoded is None:
            self._encoded = encode_batch(self.type_url, self.resources, self.removed, self.nonce)
        return self._encoded

    def forget_encoded(self) -> None:
        """Free the wire form; it is computed anew if somebody asks."""
        self._encoded = None

    def __repr__(self) -> str:
        kind = self.type_url.rpartition(".")[2]
        return f"Batch({kind}, {[r.name for r in self.resources]}, removed={list(self.removed)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A DeltaDiscoveryResponse: a batch, and what is this stream's own."""

    batch: Batch
    nonce: str

    @property
    def type_url(self) -> str:
        return self.batch.type_url

    @property
    def resources(self) -> tuple[Resource, ...]:
        return self.batch.resources

    @property
    def removed(self) -> tuple[str, ...]:
        return self.batch.removed

    def encode(self) -> bytes:
        """The wire form of the whole message."""
        if self.nonce == self.batch.nonce:
            return self.batch.encoded
        return self.batch.encoded + encode_tail(self.nonce)  # of a field that stands twice the last one counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """A resource that the client refused, and why, in the client's words.

    It is kept from that client until its version changes; `origins` are the user resources to blame.
    """

    type_url: str
    name: str
    version: str
    message: str
    origins: tuple[Origin, ...] = ()
    at: float = 0.0
    tries: int = 1
    due: bool = False
    """Whether it is to be tried once more."""
