"""The gRPC adapter of delta xDS: one coroutine that reads and one that writes for every connected proxy.

The invariant: whoever reads slowly is sent the newest state later, never a queue of old ones; memory does not grow with
the speed of change. A proxy is who `authorize` says it is; what it says of itself is only shown.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from gossamer.core.errors import IdentityError, UnavailableError
from gossamer.core.latest import Latest
from gossamer.core.resources import Resources
from gossamer.xds.batches import Batches
from gossamer.xds.budget import Budget
from gossamer.xds.codec import METHOD, Node, load_request
from gossamer.xds.messages import Request, Response
from gossamer.xds.status import ProxyStatus, view_types
from gossamer.xds.stream import Stream
from gossamer.xds.unsent import Unsent

log = logging.getLogger(__name__)

SERVER_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.so_reuseport", 0),  # a second server on the port must fail, not share it
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),  # versions of 100,000 names
    ("grpc.max_concurrent_streams", 64),
    ("grpc.http2.bdp_probe", 0),  # requests are small: a ping at each, to size their window, costs a seventh of a push
    ("grpc.http2.lookahead_bytes", 256 * 1024),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
)
"""What a server that carries this service should be made with."""
_OUTBOX = 64
"""Responses that may wait to be written before no more requests are read."""

Context = grpc.aio.ServicerContext[bytes, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Who is at the other end, by its certificate; both tuples are empty without one."""

    address: str
    uris: tuple[str, ...] = ()
    dns_names: tuple[str, ...] = ()
    certificate: bytes = b""
    """As PEM."""


class Subscription(Protocol):
    """What a proxy gets: its name in status, and the newest resources, None as long as there are none to give."""

    @property
    def name(self) -> str: ...

    @property
    def latest(self) -> Latest[Resources | None]: ...

    def close(self) -> None:
        """The proxy has gone."""


Authorize = Callable[[Peer, Node], Awaitable[Subscription]]
"""Returns what this peer may have. Raises IdentityError if nothing, UnavailableError if it should try again later."""
Lasts = Callable[[Peer], float | None]
"""For how many seconds a peer's certificate is still valid; its stream ends with it. None: without end."""
Heard = Callable[[Subscription, Stream, Request | None], None]
"""Called after a stream has taken in a request, or (None) an offer."""


class Connection:
    """One stream of one proxy: what has been read leads to what is written."""

    def __init__(
        self, subscription: Subscription, stream: Stream, budget: Budget, unsent: Unsent, heard: Heard | None
    ) -> None:
        self.subscription = subscription
        self.stream = stream
        self._budget = budget
        self._unsent = unsent
        self._heard = heard
        self._outbox: deque[Response] = deque()
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._closed = False
        self.expired = ""
        """Why it is ended from here."""
        self._clock = asyncio.get_running_loop().time
        self.began = self._clock()

    async def read(self, context: Context) -> None:
        """Take requests until the client ends the stream."""
        while isinstance(data := await context.read(), bytes):  # it is EOF at the end
            request, _ = load_request(data)
            self.take(request)
            if len(self._outbox) >= _OUTBOX:
                self._room.clear()
                await self._room.wait()

    def take(self, request: Request) -> None:
        """Let the stream see a request; its answers are written in turn."""
        self._put(self.stream.receive(request, self._clock()))
        if self._heard is not None:
            self._heard(self.subscription, self.stream, request)
        for item in self.stream.rejections:
            detail = {
                "resource": item.name,
                "reason": item.message,
                "origins": [str(origin) for origin in item.origins],
            }
            log.warning("xds-rejected", extra={"proxy": self.subscription.name, "type": item.type_url, **detail})
        self.stream.rejections.clear()

    async def write(self, context: Context) -> None:
        """Send what is due until `close`."""
        unsubscribe = self.subscription.latest.subscribe(self._told)
        try:
            while not self._closed:
                self._catch_up()
                while self._outbox:
                    data = self._outbox.popleft().encode()  # shared with other streams: gRPC copies it
                    async with self._budget.lend(len(data)):
                        await context.write(data)
                    self._room.set()
                if not self._news.is_set():
                    self._unsent.discard(self)
                    await self._pause()
                self._news.clear()
        finally:
            unsubscribe()
            self._unsent.discard(self)

    def expire(self, why: str) -> None:
        """End `write`, since the peer may not be here any longer."""
        self.expired = why
        self.close()

    def close(self) -> None:
        """End `write`."""
        self._closed = True
        self._news.set()

    def _told(self, _: Resources | None) -> None:
        self._unsent.add(self)
        self._news.set()

    def _catch_up(self) -> None:
        latest, now = self.subscription.latest.value, self._clock()
        if latest is not None and latest is not self.stream.goal:
            self._put(self.stream.offer(latest, now))
            if self._heard is not None:
                self._heard(self.subscription, self.stream, None)
        deadline = self.stream.deadline()
        if deadline is not None and deadline <= now:
            self._put(self.stream.tick(now))

    def _put(self, responses: Iterable[Response]) -> None:
        before = len(self._outbox)
        self._outbox.extend(responses)
        if len(self._outbox) > before or self.stream.deadline() is not None:
            self._news.set()

    async def _pause(self) -> None:
        deadline = self.stream.deadline()
        if deadline is None:
            await self._news.wait()
            return
        timer = asyncio.get_running_loop().call_at(deadline, self._news.set)
        try:
            await self._news.wait()
        finally:
            timer.cancel()


class Service:
    """Serves AggregatedDiscoveryService.DeltaAggregatedResources. Add `handler()` to a server of grpc.aio.

    `drain_s` and `partial` are `Stream`'s.
    """

    def __init__(
        self,
        authorize: Authorize,
        *,
        drain_s: float,
        partial: Callable[[], bool] | None = None,
        heard: Heard | None = None,
        batches: Batches | None = None,
        lasts: Lasts = lambda _: None,
    ) -> None:
        self._authorize = authorize
        self._lasts = lasts
        self._drain_s = drain_s
        self._partial = partial
        self._heard = heard
        self._budget = Budget()
        self._batches = batches or Batches()
        self._connections: dict[Connection, tuple[Peer, Node]] = {}
        self.unsent = Unsent()

    def handler(self) -> grpc.GenericRpcHandler:
        """The handler of the one method; requests and responses pass as bytes."""
        service, _, method = METHOD.lstrip("/").partition("/")
        behavior: Any = self._serve
        return grpc.method_handlers_generic_handler(service, {method: grpc.stream_stream_rpc_method_handler(behavior)})

    def status(self) -> list[ProxyStatus]:
        """One entry for each connected proxy, by name."""
        now = asyncio.get_running_loop().time()
        rows = [
            ProxyStatus(
                name=connection.subscription.name,
                node=node.id,
                version=node.version,
                address=peer.address,
                connected_s=now - connection.began,
                types=view_types(connection.stream, now),
            )
            for connection, (peer, node) in self._connections.items()
        ]
        return sorted(rows, key=lambda row: row.name)

    def end(self, which: Callable[[Peer], str]) -> None:
        """End the streams of all peers for whom this gives a reason."""
        for connection, (peer, _) in tuple(self._connections.items()):
            if why := which(peer):
                connection.expire(why)

    async def _serve(self, _: object, context: Context) -> None:
        try:
            first = await context.read()
            if not isinstance(first, bytes):
                return
            request, node = load_request(first)
            peer = load_peer(context.peer(), context.auth_context())
            subscription = await self._authorize(peer, node or Node())
        except DecodeError:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not a DeltaDiscoveryRequest")
        except IdentityError as error:
            log.warning("xds-refused", extra={"peer": context.peer(), "reason": str(error)})
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
        except UnavailableError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        try:
            await self._run(subscription, request, context, (peer, node or Node()))
        finally:
            subscription.close()

    async def _run(
        self, subscription: Subscription, request: Request, context: Context, who: tuple[Peer, Node]
    ) -> None:
        stream = Stream(self._batches, drain_s=self._drain_s, partial=self._partial)
        connection = Connection(subscription, stream, self._budget, self.unsent, self._heard)
        self._connections[connection] = who
        connection.take(request)
        lasts = self._lasts(who[0])
        why = "the certificate has ended: connect with a new one"
        timer = asyncio.get_running_loop().call_later(lasts, connection.expire, why) if lasts is not None else None
        reader = asyncio.create_task(connection.read(context))
        reader.add_done_callback(lambda _: connection.close())
        try:
            await connection.write(context)
        finally:
            del self._connections[connection]
            reader.cancel()
            if timer is not None:
                timer.cancel()
        if connection.expired:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, connection.expired)
        try:
            await reader
        except asyncio.CancelledError:
            pass
        except DecodeError:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not a DeltaDiscoveryRequest")


def load_peer(address: str, auth: Mapping[str, Iterable[bytes]]) -> Peer:
    """Who a gRPC auth context says the peer is."""
    return Peer(
        address=address,
        uris=tuple(item.decode() for item in auth.get("peer_uri") or auth.get("peer_spiffe_id") or ()),
        dns_names=tuple(item.decode() for item in auth.get("peer_dns") or ()),
        certificate=next(iter(auth.get("x509_pem_cert") or ()), b""),
    )
