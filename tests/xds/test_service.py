"""The adapter over real gRPC: who is let in, what arrives, what a slow or rude client costs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from gossamer.core.errors import IdentityError, UnavailableError
from gossamer.core.latest import Latest
from gossamer.core.resources import CLUSTER, ENDPOINT, LISTENER, Resources
from gossamer.xds.budget import Budget
from gossamer.xds.client import Update
from gossamer.xds.codec import METHOD, Node, encode_request, load_update
from gossamer.xds.messages import Request
from gossamer.xds.service import SERVER_OPTIONS, Peer, Service
from gossamer.xds.status import SyncState
from tests.xds.model import cluster, endpoints, listener, resource, resources

A, EA = cluster("a"), endpoints("a")
Call = grpc.aio.StreamStreamCall[bytes, bytes]


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 20))


class Sub:
    def __init__(self, latest: Latest[Resources | None]) -> None:
        self.latest = latest
        self.name = "proxy"
        self.closed = False

    def close(self) -> None:
        self.closed = True


class Mesh:
    """A server on a free port and what it gives to everybody."""

    def __init__(self, goal: Resources | None, refuse: Exception | None = None) -> None:
        self.latest: Latest[Resources | None] = Latest(goal)
        self.refuse = refuse
        self.seen: list[tuple[Peer, Node]] = []
        self.subs: list[Sub] = []
        self.service = Service(self._authorize, drain_s=1)
        self.port = 0

    async def _authorize(self, peer: Peer, node: Node) -> Sub:
        self.seen.append((peer, node))
        if self.refuse is not None:
            raise self.refuse
        self.subs.append(Sub(self.latest))
        return self.subs[-1]

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[Mesh]:
        server = grpc.aio.server(options=SERVER_OPTIONS)
        server.add_generic_rpc_handlers([self.service.handler()])
        self.port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            yield self
        finally:
            await server.stop(0)

    @asynccontextmanager
    async def call(self, **options: int) -> AsyncIterator[Call]:
        arguments = [("grpc.max_receive_message_length", -1), *((f"grpc.{k}", v) for k, v in options.items())]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.port}", arguments) as channel:
            yield channel.stream_stream(METHOD)()


async def get(call: Call) -> Update:
    data = await asyncio.wait_for(call.read(), 5)
    assert isinstance(data, bytes), data
    return load_update(data)


async def eventually(condition: Callable[[], bool]) -> None:
    async def wait() -> None:
        while not condition():  # noqa: ASYNC110 - what is waited for is in the code under test
            await asyncio.sleep(0.005)

    await asyncio.wait_for(wait(), 5)


def test_a_proxy_gets_what_it_asks_for_and_then_each_change() -> None:
    async def test() -> None:
        async with Mesh(resources(A, EA)).serve() as mesh, mesh.call() as call:
            await call.write(encode_request(Request(type_url=CLUSTER)))
            assert [r.name for r in (await get(call)).changed] == ["a"]
            await call.write(encode_request(Request(type_url=ENDPOINT, subscribe=("a",))))
            assert (await get(call)).changed[0].body == EA.body
            mesh.latest.publish(resources(A, endpoints("a", "new")))
            assert (await get(call)).changed[0].version == endpoints("a", "new").version

    run(test)


def test_a_proxy_that_comes_too_early_waits() -> None:
    async def test() -> None:
        async with Mesh(None).serve() as mesh, mesh.call() as call:
            await call.write(encode_request(Request(type_url=CLUSTER)))
            await eventually(lambda: bool(mesh.subs))
            mesh.latest.publish(resources(A, EA))
            assert [r.name for r in (await get(call)).changed] == ["a"]

    run(test)


@pytest.mark.parametrize(
    ("refusal", "code"),
    [
        (IdentityError("not you"), grpc.StatusCode.PERMISSION_DENIED),
        (UnavailableError("not yet"), grpc.StatusCode.UNAVAILABLE),
    ],
)
def test_who_may_not_is_told_why(refusal: Exception, code: grpc.StatusCode) -> None:
    async def test() -> None:
        async with Mesh(resources(A), refusal).serve() as mesh, mesh.call() as call:
            await call.write(encode_request(Request(type_url=CLUSTER)))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.read()
            assert caught.value.code() is code
            assert caught.value.details() == str(refusal)

    run(test)


def test_what_is_no_request_is_refused() -> None:
    async def test() -> None:
        async with Mesh(resources(A)).serve() as mesh:
            for first in ([], [encode_request(Request(type_url=CLUSTER))]):
                async with mesh.call() as call:
                    for data in first:
                        await call.write(data)
                        await get(call)
                    await call.write(b"\xff\xff\xff")
                    with pytest.raises(grpc.aio.AioRpcError) as caught:
                        await call.read()
                    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    run(test)


def test_a_proxy_that_goes_is_forgotten() -> None:
    async def test() -> None:
        async with Mesh(resources(A)).serve() as mesh:
            async with mesh.call() as call:
                await call.write(encode_request(Request(type_url=CLUSTER)))
                await get(call)
                assert [status.name for status in mesh.service.status()] == ["proxy"]
            await eventually(lambda: mesh.subs[0].closed)
            assert mesh.service.status() == []

    run(test)


def test_a_proxy_that_says_good_bye_is_forgotten() -> None:
    async def test() -> None:
        async with Mesh(resources(A)).serve() as mesh, mesh.call() as call:
            await call.write(encode_request(Request(type_url=CLUSTER)))
            await get(call)
            await call.done_writing()
            assert await call.read() is grpc.aio.EOF
            assert mesh.subs[0].closed

    run(test)


def test_status_tells_how_far_a_proxy_is() -> None:
    async def test() -> None:
        async with Mesh(resources(A, EA, listener("l"))).serve() as mesh, mesh.call() as call:
            await call.write(encode_request(Request(type_url=CLUSTER)))
            update = await get(call)
            (status,) = mesh.service.status()
            assert status.state is SyncState.STALE
            await call.write(encode_request(Request(type_url=CLUSTER, nonce=update.nonce)))
            await call.write(encode_request(Request(type_url=LISTENER)))
            update = await get(call)
            await call.write(encode_request(Request(type_url=LISTENER, nonce=update.nonce, error="port in use")))
            await eventually(lambda: mesh.service.status()[0].state is SyncState.REJECTED)
            types = {item.type_url: item for item in mesh.service.status()[0].types}
            assert types[CLUSTER].state is SyncState.SYNCED
            assert types[LISTENER].rejections[0].message == "port in use"
            assert types[ENDPOINT].state is SyncState.NOT_SENT

    run(test)


def test_a_slow_proxy_is_sent_the_newest_state_and_not_every_one_before() -> None:
    async def test() -> None:
        big = "x" * 400_000
        async with Mesh(resources(resource(CLUSTER, "a", big, ()))).serve() as mesh, mesh.call() as call:
            await call.write(encode_request(Request(type_url=CLUSTER)))
            await eventually(lambda: bool(mesh.subs))
            for number in range(100):  # nobody reads meanwhile
                mesh.latest.publish(resources(resource(CLUSTER, "a", f"{number} {big}", ())))
                await asyncio.sleep(0.002)
            versions = [(await get(call)).changed[0].version]
            wanted = resource(CLUSTER, "a", f"99 {big}", ()).version
            while versions[-1] != wanted:
                versions.append((await get(call)).changed[0].version)
            assert len(versions) < 20

    run(test)


def test_a_server_that_stops_ends_its_streams() -> None:
    async def test() -> None:
        mesh = Mesh(resources(A))
        async with mesh.serve():
            context = mesh.call()
            call = await context.__aenter__()
            await call.write(encode_request(Request(type_url=CLUSTER)))
            await get(call)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
        await context.__aexit__(None, None, None)
        await eventually(lambda: mesh.subs[0].closed)

    run(test)


class TestBudget:
    def test_large_writes_take_turns_in_order(self) -> None:
        async def test() -> None:
            budget, order = Budget(100, free=10), list[int]()

            async def write(number: int) -> None:
                async with budget.lend(60):
                    order.append(number)
                    await asyncio.sleep(0.01)
                    order.append(-number)

            await asyncio.gather(*(write(number) for number in (1, 2, 3)))
            assert order == [1, -1, 2, -2, 3, -3]

        run(test)

    def test_small_ones_and_ones_larger_than_all_pass(self) -> None:
        async def test() -> None:
            budget = Budget(100, free=10)
            async with budget.lend(1000), budget.lend(5):
                pass
            async with budget.lend(100):
                pass

        run(test)

    def test_who_is_too_slow_holds_up_nobody(self) -> None:
        async def test() -> None:
            budget = Budget(100, free=10, patience_s=0.02)

            async def wait_turn() -> None:
                async with budget.lend(100):
                    pass

            async with budget.lend(100):
                await asyncio.wait_for(wait_turn(), 1)
            await wait_turn()

        run(test)

    def test_who_gives_up_waiting_holds_up_nobody(self) -> None:
        async def test() -> None:
            budget = Budget(100, free=10)

            async def wait_turn() -> None:
                async with budget.lend(100):
                    pass

            async with budget.lend(100):
                waiting = [asyncio.create_task(wait_turn()) for _ in range(3)]
                await asyncio.sleep(0)
                waiting[0].cancel()
                waiting[2].cancel()
            await waiting[1]
            await wait_turn()

        run(test)
