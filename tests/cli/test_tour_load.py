"""The load against a real server of our own that misbehaves in each way that a mesh can."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from gossamer.cli.tour.load import Reply, Requests, Sample, constant_load, open_client, send_requests

Answer = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[str]:
    """A server that calls `answer` for every request head; yields its base URL."""
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        tasks.add(task)
        try:
            while not writer.is_closing():
                await answer(await reader.readuntil(b"\r\n\r\n"), writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def write(writer: asyncio.StreamWriter, status: int = 200, body: bytes = b"ok", extra: str = "") -> None:
    writer.write(f"HTTP/1.1 {status} Said\r\ncontent-length: {len(body)}\r\n{extra}\r\n".encode() + body)
    await writer.drain()


async def fine(_: bytes, writer: asyncio.StreamWriter) -> None:
    await write(writer, extra="X-Kind: plain\r\n")


def test_one_connection_carries_many_requests() -> None:
    async def scenario() -> None:
        heads: list[bytes] = []

        async def remember(head: bytes, writer: asyncio.StreamWriter) -> None:
            heads.append(head)
            await fine(head, writer)

        async with serving(remember) as base, open_client(base) as client:
            for _ in range(3):
                reply = await client.get("/a", {"end-user": "jason"})
                assert (reply.status, reply.body, reply.headers["x-kind"]) == (200, b"ok", "plain")
            assert client.opened == 1
        assert len(heads) == 3
        assert b"GET /a HTTP/1.1" in heads[0]
        assert b"end-user: jason" in heads[0]

    asyncio.run(scenario())


def test_a_connection_that_the_far_side_closed_is_replaced_without_a_failure() -> None:
    async def closing(head: bytes, writer: asyncio.StreamWriter) -> None:
        await write(writer)
        writer.close()

    async def scenario() -> None:
        async with serving(closing) as base, open_client(base) as client:
            for _ in range(3):
                assert (await client.get("/")).status == 200
                await asyncio.sleep(0.02)
            assert client.opened == 3

    asyncio.run(scenario())


def test_what_is_no_answer_is_told_and_the_next_request_starts_anew() -> None:
    turns = 0

    async def moody(head: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal turns
        turns += 1
        if turns == 1:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
            writer.close()
        elif turns == 2:
            await asyncio.sleep(30)
        else:
            await write(writer)

    async def scenario() -> None:
        async with serving(moody) as base, open_client(base, timeout_s=0.2) as client:
            broken, silent, good = [await client.get("/") for _ in range(3)]
            assert (broken.status, broken.problem) == (0, "connection broken")
            assert (silent.status, silent.problem) == (0, "no answer within 0.2 s")
            assert 0.2 <= silent.elapsed < 1
            assert (good.status, good.problem) == (200, "")
        async with open_client(base) as client:
            refused = await client.get("/")
            assert (refused.status, refused.problem) == (0, "connection refused")

    asyncio.run(scenario())


def test_every_request_of_a_number_is_counted_once() -> None:
    count = 0

    async def sometimes(head: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        await write(writer, 503 if count % 5 == 0 else 200, b"v2" if count % 2 else b"v1")

    async def scenario() -> None:
        told: list[int] = []
        async with serving(sometimes) as base:
            requests = Requests(base=base, path="/", label=lambda reply: reply.body.decode())
            record = await send_requests(requests, 50, told=told.append)
        assert len(record) == count == 50
        assert told == list(range(1, 51))
        assert record.statuses() == Counter({"200": 40, "503": 10})
        assert record.problems() == Counter({"503": 10})
        assert record.labels() == Counter({"v1": 20, "v2": 20})
        assert len(record.failed) == 10

    asyncio.run(scenario())


def test_a_constant_load_keeps_its_rate_and_counts_what_is_under_way_at_its_end() -> None:
    served = 0

    async def slow(head: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        served += 1
        await asyncio.sleep(0.05)
        await write(writer)

    async def scenario() -> None:
        async with serving(slow) as base:
            began = time.monotonic()
            async with constant_load(Requests(base=base, path="/", rate=50, connections=5)) as record:
                await asyncio.sleep(1.0)
            elapsed = time.monotonic() - began
        assert len(record) == served
        assert 25 <= len(record) <= 56
        assert elapsed < 1.5
        assert not record.failed
        assert record.quantile_s(0.0) >= 0.05
        early = record.between(began, began + 0.5)
        assert 0 < len(early) < len(record)

    asyncio.run(scenario())


def test_a_constant_load_does_not_hide_what_broke_off_its_context() -> None:
    async def scenario() -> None:
        async with serving(fine) as base, constant_load(Requests(base=base, path="/", rate=20)):
            raise LookupError("the step broke")

    with pytest.raises(LookupError, match="the step broke"):
        asyncio.run(scenario())


def test_nobody_listening_does_not_keep_a_load_busy_without_end() -> None:
    async def scenario() -> None:
        async with serving(fine) as base:
            pass
        requests = Requests(base=base, path="/", rate=100)
        async with constant_load(requests) as record:
            await asyncio.sleep(0.3)
        assert 5 <= len(record) <= 40
        assert record.statuses().keys() == {"connection refused"}
        assert len(await send_requests(replace(requests, rate=0.0), 20)) == 20

    asyncio.run(scenario())


@pytest.mark.parametrize(("status", "failed"), [(200, False), (302, False), (0, True), (403, True), (503, True)])
def test_what_counts_as_failed(status: int, failed: bool) -> None:
    assert Sample(at=0.0, elapsed=0.1, status=status).failed is failed


def test_labels_see_the_answer_but_not_its_absence() -> None:
    async def scenario() -> None:
        def label(reply: Reply) -> str:
            assert reply.status
            return "seen"

        async with serving(fine) as base:
            assert (await send_requests(Requests(base=base, path="/", label=label), 2)).labels() == {"seen": 2}
        assert not (await send_requests(Requests(base=base, path="/", label=label), 2)).labels()

    asyncio.run(scenario())
