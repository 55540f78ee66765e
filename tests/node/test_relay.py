"""The relay over real sockets: a control plane on TCP, an Envoy's side on a UNIX socket, the store on disk."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from gossamer.core.latest import Latest
from gossamer.core.resources import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, Resource, Resources
from gossamer.node.backoff import Backoff
from gossamer.node.relay import UPSTREAM_OPTIONS, Relay, RelaySettings
from gossamer.node.store import Store
from gossamer.node.unix_server import serve_private
from gossamer.xds.client import Update
from gossamer.xds.codec import METHOD, Node, encode_request, load_update
from gossamer.xds.messages import Batch, Response
from gossamer.xds.service import SERVER_OPTIONS, Peer, Service
from gossamer.xds.status import SyncState
from tests.xds.model import ModelEnvoy, cluster, endpoints, listener, resource, resources, route

A, EA, L, R = cluster("a"), endpoints("a"), listener("l", routes=["r"]), route("r", ["a"])
BASE = (A, EA, L, R)


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 30))


async def eventually(condition: Callable[[], bool], what: str = "") -> None:
    async def wait() -> None:
        while not condition():  # noqa: ASYNC110 - what is waited for is in the code under test
            await asyncio.sleep(0.005)

    try:
        await asyncio.wait_for(wait(), 8)
    except TimeoutError:
        raise AssertionError(f"it never came: {what}") from None


class Plane:
    """A control plane with one offer for everybody, that can go away and come back on its port."""

    def __init__(self, *items: Resource) -> None:
        self.latest: Latest[Resources | None] = Latest(resources(*items))
        self.service = Service(self._authorize, drain_s=0.2)
        self.port = 0
        self.bytes_sent = 0
        self._server: grpc.aio.Server | None = None

    async def _authorize(self, _: Peer, __: Node) -> Plane:
        return self

    name = "proxy"

    def close(self) -> None:
        pass

    def offer(self, *items: Resource) -> None:
        self.latest.publish(resources(*items))

    async def start(self) -> None:
        server = self._server = grpc.aio.server(options=SERVER_OPTIONS)
        server.add_generic_rpc_handlers([self.service.handler()])
        self.port = server.add_insecure_port(f"127.0.0.1:{self.port}")
        await server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(0)
            self._server = None

    def state(self) -> SyncState:
        rows = self.service.status()
        return rows[0].state if rows else SyncState.NOT_SENT

    def refused(self) -> list[tuple[str, str]]:
        return [(item.name, item.message) for row in self.service.status() for t in row.types for item in t.rejections]


class Host:
    """One host: its store and its relay for the sidecar `web`."""

    def __init__(self, plane: Plane, folder: Path) -> None:
        self.plane = plane
        self.folder = folder
        self.socket = folder / "s" / "xds.sock"
        self.secrets: list[str] = []
        self.relay: Relay | None = None

    def _channel(self) -> grpc.aio.Channel:
        options = [*UPSTREAM_OPTIONS, ("grpc.use_local_subchannel_pool", 1)]
        return grpc.aio.insecure_channel(f"127.0.0.1:{self.plane.port}", options)

    def _take_secrets(self, secrets: Iterable[Resource]) -> None:
        self.secrets = [secret.name for secret in secrets]

    @asynccontextmanager
    async def agent(self) -> AsyncIterator[Relay]:
        fast = Backoff(first=0.02, limit=0.1, steady=60.0)
        relay = self.relay = Relay(
            RelaySettings(name="web", drain_s=0.2, reconnect=fast, save_every_s=0.1),
            Store(self.folder / "store"),
            self._channel,
            random.random,
            self._take_secrets,
        )
        task = asyncio.create_task(relay.run())
        try:
            async with serve_private(self.socket, [relay.handler()]):
                yield relay
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


class Envoy:
    """A model Envoy at the end of a real socket."""

    def __init__(self, socket: Path, *known: Resource) -> None:
        self.model = ModelEnvoy()
        self.known = {(r.type_url, r.name, r.version): r for r in known}
        self.got: list[Update] = []
        self._socket = socket

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Envoy]:
        task = asyncio.create_task(self._talk())
        try:
            yield self
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _talk(self) -> None:
        while True:
            with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                async with grpc.aio.insecure_channel(f"unix:{self._socket}") as channel:
                    call: grpc.aio.StreamStreamCall[bytes, bytes] = channel.stream_stream(METHOD)()
                    for request in self.model.connect():
                        await call.write(encode_request(request))
                    while isinstance(data := await call.read(), bytes):
                        for request in self.model.receive(self._load(data)):
                            await call.write(encode_request(request))
            await asyncio.sleep(0.05)

    def _load(self, data: bytes) -> Response:
        update = load_update(data)
        self.got.append(update)
        items = tuple(self.known.get((r.type_url, r.name, r.version), r) for r in update.changed)
        return Response(batch=Batch(update.type_url, items, update.removed), nonce=update.nonce)

    def has(self, *items: Resource) -> bool:
        return all(self.model.held.get(item.type_url, {}).get(item.name) == item for item in items)


def test_envoy_gets_everything_and_each_change(tmp_path: Path) -> None:
    async def test() -> None:
        plane, fresh = Plane(*BASE), endpoints("a", "new")
        await plane.start()
        async with Host(plane, tmp_path).agent(), Envoy(tmp_path / "s" / "xds.sock", *BASE).connected() as envoy:
            await eventually(lambda: envoy.has(*BASE))
            await eventually(lambda: plane.state() is SyncState.SYNCED)
            plane.offer(A, fresh, L, R)
            await eventually(lambda: envoy.has(fresh))
            assert [r.name for r in envoy.got[-1].changed] == ["a"]
        await plane.stop()

    run(test)


def test_envoy_may_come_before_the_control_plane(tmp_path: Path) -> None:
    async def test() -> None:
        plane = Plane(*BASE)
        await plane.start()
        await plane.stop()  # its port is known and closed
        host = Host(plane, tmp_path)
        async with host.agent() as relay, Envoy(host.socket, *BASE).connected() as envoy:
            await eventually(lambda: "UNAVAILABLE" in relay.status.problem)
            assert envoy.got == []
            await plane.start()
            await eventually(lambda: envoy.has(*BASE))
            assert relay.status.connected
        await plane.stop()

    run(test)


def test_a_refusal_travels_up_and_the_store_keeps_the_good_one(tmp_path: Path) -> None:
    async def test() -> None:
        plane, bad = Plane(*BASE), route("r", ["a"], "bad")
        await plane.start()
        host = Host(plane, tmp_path)
        async with host.agent() as relay, Envoy(host.socket, *BASE).connected() as envoy:
            envoy.model.refuses.add((ROUTE, "r", bad.version))
            await eventually(lambda: envoy.has(*BASE))
            plane.offer(A, EA, L, bad)
            await eventually(lambda: plane.refused() == [("r", "r: cannot use r")])
            assert [item.name for item in relay.status.refused] == ["r"]
            assert envoy.has(R)
        stored = Store(tmp_path / "store").load("web")
        assert {(s.resource.name, s.resource.version) for s in stored if s.resource.type_url == ROUTE} == {
            ("r", R.version)
        }
        await plane.stop()

    run(test)


def test_the_control_plane_may_restart(tmp_path: Path) -> None:
    async def test() -> None:
        plane, fresh = Plane(*BASE), endpoints("a", "new")
        await plane.start()
        host = Host(plane, tmp_path)
        async with host.agent() as relay, Envoy(host.socket, *BASE).connected() as envoy:
            await eventually(lambda: envoy.has(*BASE) and plane.state() is SyncState.SYNCED)
            count = len(envoy.got)
            await plane.stop()
            await eventually(lambda: not relay.status.connected)
            await plane.start()
            await eventually(lambda: plane.state() is SyncState.SYNCED)
            assert len(envoy.got) == count  # nothing was sent twice
            plane.offer(A, fresh, L, R)
            await eventually(lambda: envoy.has(fresh))
        await plane.stop()

    run(test)


def test_agent_and_envoy_start_from_the_store_while_the_control_plane_is_away(tmp_path: Path) -> None:
    async def test() -> None:
        plane = Plane(*BASE)
        await plane.start()
        host = Host(plane, tmp_path)
        async with host.agent(), Envoy(host.socket, *BASE).connected() as envoy:
            await eventually(lambda: envoy.has(*BASE) and plane.state() is SyncState.SYNCED)
        await plane.stop()
        async with host.agent() as relay, Envoy(host.socket, *BASE).connected() as envoy:
            await eventually(lambda: envoy.has(*BASE))
            count = len(envoy.got)
            await plane.start()
            await eventually(lambda: relay.status.connected and plane.state() is SyncState.SYNCED)
            assert len(envoy.got) == count
        await plane.stop()

    run(test)


def test_a_killed_agent_loses_at_most_what_was_not_stored_yet(tmp_path: Path) -> None:
    async def test() -> None:
        plane = Plane(*BASE)
        await plane.start()
        host = Host(plane, tmp_path)
        async with host.agent(), Envoy(host.socket, *BASE).connected() as envoy:
            await eventually(lambda: envoy.has(*BASE) and plane.state() is SyncState.SYNCED)
            await eventually(
                lambda: {s.resource.name for s in Store(tmp_path / "store").load("web")} == {"a", "l", "r"}
            )
        await plane.stop()

    run(test)


def test_two_envoys_at_once_as_in_a_hot_restart(tmp_path: Path) -> None:
    async def test() -> None:
        plane, fresh = Plane(*BASE), endpoints("a", "new")
        await plane.start()
        host = Host(plane, tmp_path)
        async with host.agent(), Envoy(host.socket, *BASE).connected() as old:
            await eventually(lambda: old.has(*BASE))
            async with Envoy(host.socket, *BASE).connected() as new:
                await eventually(lambda: new.has(*BASE))
                plane.offer(A, fresh, L, R)
                await eventually(lambda: new.has(fresh) and old.has(fresh))
            await eventually(lambda: plane.state() is SyncState.SYNCED)
        await plane.stop()

    run(test)


def test_a_renewed_certificate_is_used_without_a_word_to_envoy(tmp_path: Path) -> None:
    async def test() -> None:
        plane = Plane(*BASE)
        await plane.start()
        host = Host(plane, tmp_path)
        async with host.agent() as relay, Envoy(host.socket, *BASE).connected() as envoy:
            await eventually(lambda: envoy.has(*BASE) and plane.state() is SyncState.SYNCED)
            count, before = len(envoy.got), plane.service.status()[0].address
            relay.refresh()
            await eventually(lambda: bool(plane.service.status()) and plane.service.status()[0].address != before)
            await eventually(lambda: plane.state() is SyncState.SYNCED)
            assert len(envoy.got) == count
        await plane.stop()

    run(test)


def test_secrets_go_to_whom_they_are_for_and_not_to_envoy_by_this_way(tmp_path: Path) -> None:
    async def test() -> None:
        secret = resource(SECRET, "kubernetes://x", "", ())
        plane = Plane()
        tables = resources(*BASE).tables
        from gossamer.core.frozen import FrozenMap
        from gossamer.core.resources import Table

        plane.latest.publish(Resources(tables=FrozenMap({**tables, SECRET: (Table(SECRET, [secret]),)})))
        await plane.start()
        host = Host(plane, tmp_path)
        async with host.agent(), Envoy(host.socket, *BASE).connected() as envoy:
            await eventually(lambda: host.secrets == ["kubernetes://x"] and envoy.has(*BASE))
            assert {update.type_url for update in envoy.got} == {CLUSTER, ENDPOINT, LISTENER, ROUTE}
            plane.offer(*BASE)
            await eventually(lambda: host.secrets == [])
        await plane.stop()

    run(test)


def test_an_unknown_name_is_answered_when_the_control_plane_answers(tmp_path: Path) -> None:
    async def test() -> None:
        plane = Plane(A, L, R)  # nobody knows endpoints of a
        await plane.start()
        host = Host(plane, tmp_path)
        async with host.agent(), Envoy(host.socket, A, L, R).connected() as envoy:
            await eventually(lambda: envoy.has(A, L, R), "an empty assignment that lets the cluster warm")
        await plane.stop()

    run(test)
