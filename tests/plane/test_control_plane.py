"""The whole process, but for its command line: files change, proxies hear of it, and a restart loses nothing."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import grpc.aio
import pytest

from gossamer.core.errors import UsageError
from gossamer.core.resources import CLUSTER, LISTENER
from gossamer.plane.kept import LAST_GOOD_FILE, REGISTRY_FILE
from gossamer.xds.codec import METHOD
from tests.plane.running import Mesh, Proxy, eventually, refused, run, service
from tests.plane.test_keys import JWKS, Server, server

__all__ = ["server"]
RATINGS = "outbound|80||ratings.example.com"
BROKEN = "kind: [\n"


@pytest.fixture
def mesh(tmp_path: Path) -> Mesh:
    made = Mesh(tmp_path)
    made.write(ratings=service("ratings"))
    return made


def test_a_change_on_disk_reaches_a_proxy_in_no_more_than_what_changed(mesh: Mesh) -> None:
    async def test() -> None:
        async with mesh.run() as running, running.proxy() as web:
            assert b"10.0.0.1" in (await web.follow(RATINGS)).changed[0].body
            mesh.write(ratings=service("ratings", "10.0.0.2"))
            update = await web.next()
            assert [item.name for item in update.changed] == [RATINGS]
            assert b"10.0.0.2" in update.changed[0].body
            mesh.write(details=service("details"))
            assert [item.name for item in (await web.next()).changed] == ["outbound|80||details.example.com"]

    run(test)


def test_a_rewrite_without_a_difference_sends_nothing(mesh: Mesh) -> None:
    async def test() -> None:
        async with mesh.run() as running, running.proxy() as web:
            await web.follow(RATINGS)
            before = running.plane.pipeline.generation
            mesh.write(ratings=service("ratings"))
            mesh.write(ratings=service("ratings") + "# a comment\n")
            await eventually(lambda: running.plane.pipeline.generation > before)
            with pytest.raises(TimeoutError):
                await web.next(0.3)

    run(test)


TOKENS = """
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: tokens, namespace: default}
spec: {jwtRules: [{issuer: a, jwksUri: "%s/keys"}]}
"""


def test_keys_of_issuers_are_fetched_and_shown(mesh: Mesh, server: Server) -> None:
    server.answers["/keys"] = JWKS
    mesh.write(tokens=TOKENS % server.url)

    async def test() -> None:
        async with mesh.run() as running:
            await eventually(lambda: list(running.plane.pipeline.keys.values()) == [JWKS])
            (row,) = running.plane.keys.status()
            assert (row["url"], row["error"]) == (f"{server.url}/keys", "")
            assert row["age_s"] is not None

    run(test)
    server.answers.clear()

    async def after() -> None:
        async with mesh.run() as running:
            assert list(running.plane.pipeline.keys.values()) == [JWKS], "kept, though the issuer is down"

    run(after)


def test_a_mistake_takes_nothing_away_not_even_by_a_restart(mesh: Mesh) -> None:
    async def test() -> None:
        async with mesh.run() as running, running.proxy() as web:
            version = (await web.follow(RATINGS)).changed[0].version
            mesh.write(ratings=BROKEN)
            await eventually(lambda: bool(running.plane.pipeline.diagnostics))
        async with mesh.run() as running, running.proxy() as web:
            assert running.plane.pipeline.diagnostics
            assert (await web.follow(RATINGS)).changed[0].version == version

    run(test)


def test_with_nothing_held_a_proxy_waits_for_what_can_be_read(mesh: Mesh) -> None:
    async def test() -> None:
        mesh.write(ratings=BROKEN)
        async with mesh.run() as running:
            async with running.proxy() as early:
                with refused(grpc.StatusCode.UNAVAILABLE, "no configuration to give"):
                    await early.ask(CLUSTER)
                    await early.next()
            mesh.write(ratings=service("ratings"))
            await eventually(lambda: running.plane.pipeline.ready)
            async with running.proxy() as web:
                assert await web.follow(RATINGS)

    run(test)


def test_a_proxy_without_a_certificate_is_not_even_heard(mesh: Mesh) -> None:
    async def test() -> None:
        async with mesh.run() as running:
            root = running.plane.authority.value.roots_pem
            async with grpc.aio.secure_channel(running.bound.xds, grpc.ssl_channel_credentials(root)) as channel:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(channel.channel_ready(), 0.5)
            assert running.plane.xds.status() == []

    run(test)


def test_a_host_is_no_proxy(mesh: Mesh) -> None:
    async def test() -> None:
        async with mesh.run() as running, running.host("host-a", "default/*") as channel:
            impostor = Proxy(channel, channel.stream_stream(METHOD)())
            with refused(grpc.StatusCode.PERMISSION_DENIED, "needs a workload's certificate"):
                await impostor.ask(CLUSTER)
                await impostor.next()

    run(test)


def test_a_push_says_how_long_it_took(mesh: Mesh, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with mesh.run() as running, running.proxy() as web:
            await web.follow(RATINGS)
            mesh.write(ratings=service("ratings", "10.0.0.2"))
            await web.next()
            await eventually(lambda: any(record.getMessage() == "config-pushed" for record in caplog.records))

    with caplog.at_level(logging.INFO, "gossamer"):
        run(test)
    (fields,) = (vars(record) for record in caplog.records if record.getMessage() == "config-pushed")
    assert (fields["proxies"], fields["unsent"]) == (1, 0)
    assert min(fields["build_ms"], fields["compile_ms"], fields["send_ms"]) >= 0


def test_a_stop_ends_many_streams_at_once_and_says_so(mesh: Mesh) -> None:
    async def test() -> None:
        async with AsyncExitStack() as clients:
            async with mesh.run() as running:
                proxies = [await clients.enter_async_context(running.proxy(f"web-{n}")) for n in range(40)]
                for proxy in proxies:
                    await proxy.ask(LISTENER)
                    await proxy.next()
                began = time.monotonic()
            assert time.monotonic() - began < 3
            for proxy in proxies:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await proxy.next()
                assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
            assert running.plane.xds.status() == []
            assert len(running.plane.xds.unsent) == 0

    run(test)


def test_two_do_not_share_a_port(mesh: Mesh) -> None:
    async def test() -> None:
        async with mesh.run() as running:
            with pytest.raises(UsageError, match="is another control plane running there"):
                async with mesh.run(listen=running.bound.xds):
                    pass

    run(test)


@pytest.mark.parametrize("address", ["15012", "localhost", "localhost:xds"])
def test_an_address_is_a_host_and_a_port(mesh: Mesh, address: str) -> None:
    async def test() -> None:
        with pytest.raises(UsageError, match="is not HOST:PORT"):
            async with mesh.run(listen=address):
                pass

    run(test)


def test_a_disk_that_takes_nothing_does_not_stop_it(mesh: Mesh, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        (mesh.folder / "state").mkdir()
        async with mesh.run() as running, running.proxy() as web:
            (mesh.folder / "state" / LAST_GOOD_FILE).unlink(missing_ok=True)
            (mesh.folder / "state" / LAST_GOOD_FILE).mkdir()  # a file cannot take its place
            await web.follow(RATINGS)
            mesh.write(ratings=service("ratings", "10.0.0.2"))
            assert b"10.0.0.2" in (await web.next()).changed[0].body
            await eventually(lambda: any(record.getMessage() == "state-not-kept" for record in caplog.records))
            mesh.write(ratings=service("ratings", "10.0.0.3"))
            assert b"10.0.0.3" in (await web.next()).changed[0].body
        assert (mesh.folder / "state" / REGISTRY_FILE).exists()

    run(test)
