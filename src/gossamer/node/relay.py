"""Between one Envoy and the control plane: the agent's I/O around `LastCopy`.

The invariant: Envoy is served from what is held, whether the control plane is there or not; a push waits for no disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import grpc
import grpc.aio
from envoy.config.core.v3.base_pb2 import Node as NodeMessage

from gossamer.core.errors import StateError
from gossamer.core.latest import Latest
from gossamer.core.resources import LISTENER, SECRET, Resource, Resources
from gossamer.node.backoff import Backoff
from gossamer.node.last_copy import LastCopy
from gossamer.node.store import Store
from gossamer.xds.batches import Batches
from gossamer.xds.codec import METHOD, Node, encode_request, load_update
from gossamer.xds.messages import Rejection, Request
from gossamer.xds.service import Peer, Service, Subscription
from gossamer.xds.stream import Stream

_LOG = logging.getLogger(__name__)
UPSTREAM_OPTIONS: Final[list[tuple[str, int]]] = [
    ("grpc.max_receive_message_length", -1),  # one resource may be larger than gRPC's 4 MB
    ("grpc.keepalive_time_ms", 10_000),  # a control plane whose machine has vanished says nothing
    ("grpc.keepalive_timeout_ms", 5_000),
]
"""What a channel to the control plane should be made with."""
RECONNECT: Final = Backoff(first=0.1, limit=4.0, steady=5.0)
_SPREAD_S: Final = 0.3
"""Sidecars that lose one control plane at the same moment do not come back at the same moment."""
_PRUNE_S: Final = 60.0
"""How long a new Envoy has to ask for what the one before it asked for."""
_BETWEEN: Final = 10
"""Between two storings pass this many times what one took."""
_SAVE_SOON_S: Final = 0.2
"""How long a change waits for those that come with it before it is stored."""

Secrets = Callable[[Iterable[Resource]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayStatus:
    """Whether the control plane is connected, why not, and what Envoy refused."""

    connected: bool
    problem: str = ""
    refused: tuple[Rejection, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RelaySettings:
    """Who a relay is for. `name` is the sidecar's in the store; `drain_s` is its Envoy's `--drain-time-s`.

    What changes while the copy is stored is stored after ten times as long, `save_every_s` at most.
    """

    name: str
    drain_s: float
    node_id: str = ""
    reconnect: Backoff = RECONNECT
    save_every_s: float = 5.0


class _Downstream:
    """One stream of an Envoy."""

    def __init__(self, name: str, latest: Latest[Resources | None], left: Callable[[Stream], None]) -> None:
        self.name = name
        self.latest = latest
        self.stream: Stream | None = None
        self._left = left

    def close(self) -> None:
        if self.stream is not None:
            self._left(self.stream)


class Relay:
    """One sidecar's. Serve `handler()` on its socket, and `run` it beside; both may begin first.

    `connect` opens a channel to the control plane as the workload that this sidecar is; it is called for each attempt,
    so a renewed certificate is used from the next one on (`refresh` makes it now). `secrets` is given the secrets that
    the control plane names (a gateway's); None asks for none.
    """

    def __init__(
        self,
        settings: RelaySettings,
        store: Store,
        connect: Callable[[], grpc.aio.Channel],
        chance: Callable[[], float],
        secrets: Secrets | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._connect = connect
        self._chance = chance
        self._secrets = secrets
        self.listeners: Latest[tuple[str, ...]] = Latest(())
        """The names of the listeners that its Envoy is told of."""
        self._copy: LastCopy | None = None
        self._loaded = asyncio.Event()
        self._dirty = asyncio.Event()
        self._refresh = asyncio.Event()
        self._out: asyncio.Queue[Request] | None = None
        self._problem = "starting"
        self._service = Service(
            self._authorize,
            drain_s=settings.drain_s,
            partial=lambda: bool(self._problem),  # a copy may be older than what Envoy has, while who knows is away
            heard=self._heard,
            batches=Batches(kept_bytes=0),  # there is one Envoy: nobody to share with
        )

    def handler(self) -> grpc.GenericRpcHandler:
        """Envoy's aggregated discovery service, for a server on this sidecar's own socket."""
        return self._service.handler()

    @property
    def status(self) -> RelayStatus:
        refused = self._copy.refused if self._copy else ()
        return RelayStatus(connected=not self._problem, problem=self._problem, refused=refused)

    def refresh(self) -> None:
        """Connect anew, with the certificate of now. Envoy notices nothing, and nothing is sent twice."""
        self._refresh.set()

    async def run(self) -> None:
        """Until cancelled. StateError if a newer Gossamer wrote the last copy."""
        stored = await asyncio.to_thread(self._store.load, self._settings.name)
        copy = self._copy = LastCopy(stored, self._store.share, secrets=self._secrets is not None)
        for tell in (self._tell_secrets, self._tell_listeners):
            copy.goal.subscribe(tell)
            tell(copy.goal.value)
        self._loaded.set()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keep(copy))
                group.create_task(self._follow(copy))
        finally:
            if copy.changed:
                self._save(copy)

    async def _authorize(self, _: Peer, __: Node) -> _Downstream:
        await self._loaded.wait()  # whoever can reach the socket is this sidecar's Envoy
        assert self._copy is not None
        asyncio.get_running_loop().call_later(_PRUNE_S, self._prune)
        return _Downstream(self._settings.name, self._copy.goal, self._left)

    def _heard(self, subscription: Subscription, stream: Stream, request: Request | None) -> None:
        assert isinstance(subscription, _Downstream)
        assert self._copy is not None
        subscription.stream = stream
        self._say(self._copy.heard(stream, request.type_url if request is not None else None))

    def _left(self, stream: Stream) -> None:
        assert self._copy is not None
        self._say(self._copy.left(stream))

    def _prune(self) -> None:
        if self._copy is not None:
            self._say(self._copy.prune())

    def _say(self, requests: Iterable[Request]) -> None:
        if self._out is not None:  # otherwise the next connection begins with all that matters of it
            for request in requests:
                self._out.put_nowait(request)
        if self._copy is not None and self._copy.changed:
            self._dirty.set()

    def _tell_listeners(self, goal: Resources | None) -> None:
        if goal is not None:
            self.listeners.publish(tuple(sorted(one.name for one in goal.all_of(LISTENER))))

    def _tell_secrets(self, goal: Resources | None) -> None:
        if goal is not None and self._secrets is not None:
            self._secrets(tuple(goal.all_of(SECRET)))

    async def _follow(self, copy: LastCopy) -> None:
        """Stay connected to the control plane."""
        clock, backoff = asyncio.get_running_loop().time, self._settings.reconnect
        while True:
            began = clock()
            refreshing = await self._session(copy)
            self._out = None
            if refreshing:
                continue
            wait, backoff = backoff.after(clock() - began, self._chance())
            await asyncio.sleep(max(wait, _SPREAD_S * self._chance()))

    async def _session(self, copy: LastCopy) -> bool:
        """One connection; returns whether it ended because another one is wanted."""
        self._refresh.clear()
        async with self._connect() as channel:
            call: grpc.aio.StreamStreamCall[bytes, bytes] = channel.stream_stream(METHOD)()
            out = self._out = asyncio.Queue()
            for request in copy.client.connect():
                out.put_nowait(request)
            tasks = [
                asyncio.create_task(self._write(call, out)),
                asyncio.create_task(self._read(call, copy)),
                asyncio.create_task(self._refresh.wait()),
            ]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                ended = await asyncio.gather(*tasks, return_exceptions=True)
            if self._refresh.is_set():
                return True
            self._explain(ended)
            return False

    async def _write(self, call: grpc.aio.StreamStreamCall[bytes, bytes], out: asyncio.Queue[Request]) -> None:
        node: NodeMessage | None = NodeMessage(id=self._settings.node_id)
        while True:
            request = await out.get()
            await call.write(encode_request(request, node))
            node = None

    async def _read(self, call: grpc.aio.StreamStreamCall[bytes, bytes], copy: LastCopy) -> None:
        clock = asyncio.get_running_loop().time
        await call.wait_for_connection()
        if self._problem:
            _LOG.info("control-plane-connected", extra={"proxy": self._settings.name})
            self._problem = ""
        while isinstance(data := await call.read(), bytes):
            self._say(copy.receive(load_update(data), clock()))

    def _explain(self, ended: Iterable[object]) -> None:
        errors = [item for item in ended if isinstance(item, Exception)]
        for error in errors:
            if not isinstance(error, grpc.aio.AioRpcError | asyncio.InvalidStateError):
                raise error
        reasons = [f"{e.code().name}: {e.details()}" for e in errors if isinstance(e, grpc.aio.AioRpcError)]
        problem = next(iter(reasons), "the control plane ended the stream")
        if problem != self._problem:
            _LOG.warning("control-plane-away", extra={"proxy": self._settings.name, "reason": problem})
        self._problem = problem

    async def _keep(self, copy: LastCopy) -> None:
        """Store what has changed, off the path of a push: soon, and for a tenth of the time at most."""
        clock = asyncio.get_running_loop().time
        while True:
            await self._dirty.wait()
            await asyncio.sleep(_SAVE_SOON_S)
            self._dirty.clear()
            copy.changed = False
            rows, began = list(copy.rows()), clock()
            try:
                await asyncio.to_thread(self._store.save, self._settings.name, rows)
            except StateError as error:
                _LOG.warning("copy-not-stored", extra={"proxy": self._settings.name, "reason": str(error)})
            await asyncio.sleep(min(self._settings.save_every_s, _BETWEEN * (clock() - began)))

    def _save(self, copy: LastCopy) -> None:
        with contextlib.suppress(StateError):
            self._store.save(self._settings.name, list(copy.rows()))
