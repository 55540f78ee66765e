"""A real Envoy behind the relay: with the control plane, without it, and after a restart of everything."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import grpc.aio
import pytest

from gossamer.core.resources import Resource
from gossamer.node.backoff import Backoff
from gossamer.node.relay import UPSTREAM_OPTIONS, Relay, RelaySettings
from gossamer.node.store import Store
from gossamer.node.unix_server import serve_private
from tests.xds.real_envoy import (
    DRAIN_S,
    HttpConnection,
    Load,
    Plane,
    assignment,
    backend,
    eds_cluster,
    eventually,
    free_port,
    http_listener,
    policy,
    route_table,
    run,
    running_envoy,
)

pytestmark = pytest.mark.envoy


@asynccontextmanager
async def agent(plane: Plane, folder: Path) -> AsyncIterator[Path]:
    """A relay; yields the socket for Envoy."""
    socket = folder / "agent" / "xds.sock"
    relay = Relay(
        RelaySettings(
            name="web", drain_s=DRAIN_S, reconnect=Backoff(first=0.05, limit=0.2, steady=60), save_every_s=0.1
        ),
        Store(folder / "store"),
        lambda: grpc.aio.insecure_channel(f"unix:{plane.socket}", UPSTREAM_OPTIONS),
        random.random,
    )
    task = asyncio.create_task(relay.run())
    try:
        async with serve_private(socket, [relay.handler()]):
            yield socket
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def serves(port: int, status: int = 200) -> None:
    async with asyncio.timeout(10):
        while await HttpConnection(port).only() != status:  # noqa: ASYNC110 - it changes in another process
            await asyncio.sleep(0.02)


def base(port: int, upstream: int, route: str = "a") -> tuple[Resource, ...]:
    from envoy.extensions.filters.http.rbac.v3.rbac_pb2 import RBAC

    listener = http_listener("l", port, rds="r", slots=["deny"])
    return eds_cluster("a"), assignment("a", upstream), listener, route_table("r", route), policy("deny", RBAC())


def test_envoy_serves_whether_the_control_plane_is_there_or_not(envoy: Path, tmp_path: Path) -> None:
    async def test() -> None:
        plane, port = Plane(tmp_path), free_port()
        async with backend() as upstream:
            plane.offer(*base(port, upstream))
            async with agent(plane, tmp_path) as socket:
                async with plane.serving(), running_envoy(envoy, tmp_path, socket):
                    await serves(port)
                    await plane.synced()
                async with running_envoy(envoy, tmp_path, socket):  # Envoy is new, the control plane away
                    await serves(port)
            async with agent(plane, tmp_path) as socket, running_envoy(envoy, tmp_path, socket):  # the agent is new too
                await serves(port)
                async with Load(port).running() as load, plane.serving():
                    await plane.synced()
                    plane.offer(*base(port, upstream), eds_cluster("b"))
                    await plane.synced()
                    await eventually(lambda: load.statuses[200] > 100)
                load.assert_all_served()

    run(test, 60)


def test_changes_make_before_break_through_the_relay(envoy: Path, tmp_path: Path) -> None:
    async def test() -> None:
        plane, port = Plane(tmp_path), free_port()
        async with backend() as upstream, plane.serving(), agent(plane, tmp_path) as socket:
            plane.offer(*base(port, upstream))
            async with running_envoy(envoy, tmp_path, socket):
                await serves(port)
                async with Load(port).running() as load:
                    for number in range(15):
                        name = f"new-{number}"
                        fresh = (eds_cluster(name), assignment(name, upstream))
                        plane.offer(*base(port, upstream, name), *fresh)
                        await plane.synced()
                load.assert_all_served()

    run(test, 60)


def test_what_envoy_says_of_a_bad_resource_reaches_the_control_plane(envoy: Path, tmp_path: Path) -> None:
    async def test() -> None:
        plane, port = Plane(tmp_path), free_port()
        async with backend() as upstream, plane.serving(), agent(plane, tmp_path) as socket:
            plane.offer(*base(port, upstream))
            async with running_envoy(envoy, tmp_path, socket):
                await serves(port)
                bad = eds_cluster("bad", lb_policy="CLUSTER_PROVIDED")
                plane.offer(*base(port, upstream), eds_cluster("b"), bad, eds_cluster("c"))
                await eventually(lambda: list(plane.refused()) == ["bad"])
                assert "cluster provided LB specified" in plane.refused()["bad"]
                plane.offer(*base(port, upstream), eds_cluster("b"), eds_cluster("bad"), eds_cluster("c"))
                await plane.synced()

    run(test, 60)
