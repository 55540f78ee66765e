"""The ten rules of delta xDS on a real Envoy: each test fails when its rule is broken."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from envoy.extensions.filters.http.lua.v3.lua_pb2 import Lua
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_rbac
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import HttpFilter

from gossamer.core.resources import CLUSTER, ENDPOINT, Resource
from gossamer.xds.batches import Batches
from gossamer.xds.codec import METHOD, load_request
from gossamer.xds.messages import Request
from gossamer.xds.stream import Stream
from tests.xds.real_envoy import (
    ADS,
    DRAIN_S,
    EnvoyUnderTest,
    HttpConnection,
    Load,
    Plane,
    assignment,
    backend,
    bootstrap,
    deny_all,
    eds_cluster,
    eventually,
    free_port,
    http_listener,
    made,
    packed,
    policy,
    route_table,
    run,
    running_envoy,
)

pytestmark = pytest.mark.envoy
EXTENSIONS = "type.googleapis.com/envoy.extensions.filters"


@dataclass(frozen=True, slots=True)
class Bench:
    """An Envoy with one listener `l` on `port`, routes `r`, cluster `a` with one endpoint, and the server above it."""

    plane: Plane
    envoy: EnvoyUnderTest
    port: int
    backend: int

    def base(self, route: Resource | None = None, listener: Resource | None = None) -> tuple[Resource, ...]:
        return (
            eds_cluster("a"),
            assignment("a", self.backend),
            listener or http_listener("l", self.port, rds="r"),
            route or route_table("r", "a"),
        )

    async def serves(self, status: int = 200, within: float = 10.0) -> None:
        async def wait() -> None:
            while (got := await HttpConnection(self.port).only()) != status:
                last.append(got)
                await asyncio.sleep(0.02)

        last: list[int] = []
        try:
            await asyncio.wait_for(wait(), within)
        except TimeoutError:
            raise AssertionError(f"no {status} within {within} s, but {last[-1:]}") from None


@asynccontextmanager
async def bench(binary: Path, folder: Path, *more: Resource, **changed: Resource) -> AsyncIterator[Bench]:
    """Everything up, in sync and serving."""
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(backend())
        plane = Plane(folder)
        await stack.enter_async_context(plane.serving())
        envoy = await stack.enter_async_context(running_envoy(binary, folder, plane.socket))
        result = Bench(plane, envoy, free_port(), port)
        plane.offer(*result.base(**changed), *more)
        await result.serves()
        await plane.synced()
        yield result


def test_rule_1_a_changed_cluster_is_warm_at_once(envoy: Path, tmp_path: Path) -> None:
    async def test() -> None:
        async with bench(envoy, tmp_path) as b:
            for number in range(3):
                changed = eds_cluster("a", connect_timeout=f"{number + 2}s")
                b.plane.offer(changed, *b.base()[1:])
                await b.plane.synced(within=8)  # Envoy acknowledges clusters when they are warm; alone, after 15 s
            assert await b.envoy.stat("cluster_manager.warming_clusters") == 0
            assert await b.envoy.stat("cluster_manager.cluster_modified") == 3

    run(test)


def test_rule_2_an_unknown_endpoint_name_is_answered(envoy: Path, tmp_path: Path) -> None:
    async def test() -> None:
        async with bench(envoy, tmp_path) as b:
            b.plane.offer(*b.base(), eds_cluster("nobody"))
            await b.plane.synced(within=8)
            assert await b.envoy.stat("cluster_manager.warming_clusters") == 0

    run(test)


def test_rule_2_endpoints_that_go_are_gone(envoy: Path, tmp_path: Path) -> None:
    async def test() -> None:
        async with bench(envoy, tmp_path) as b:
            cluster, _, *rest = b.base()
            b.plane.offer(cluster, *rest)
            await b.serves(503)  # Envoy ignores the removal of an endpoint resource, and would go on serving

    run(test)


def test_rule_3_moving_routes_to_new_clusters_fails_no_request(envoy: Path, tmp_path: Path) -> None:
    async def test() -> None:
        async with bench(envoy, tmp_path) as b, Load(b.port).running() as load:
            clusters: list[Resource] = []
            for number in range(25):
                name = f"new-{number}"
                clusters += [eds_cluster(name), assignment(name, b.backend)]
                b.plane.offer(*b.base(route=route_table("r", name)), *clusters)
                await b.plane.synced()
            load.assert_all_served()

    run(test)


def test_rule_4_a_listener_with_a_filter_comes_before_the_route_that_needs_it(envoy: Path, tmp_path: Path) -> None:
    script = Lua()
    script.default_source_code.inline_string = 'function envoy_on_request(r) r:headers():add("x-seen", "yes") end'
    header = {"name": "x-seen", "string_match": {"exact": "yes"}}
    seen = [
        {"match": {"prefix": "/", "headers": [header]}, "route": {"cluster": "a"}},
        {"match": {"prefix": "/"}, "direct_response": {"status": 500}},
    ]

    async def test() -> None:
        async with bench(envoy, tmp_path) as b, silent() as silence, Load(b.port, fresh=True).running(1) as load:
            # The listener waits for a cluster that takes half a second to warm, and the route for the listener.
            check = {"timeout": "0.5s", "interval": "60s", "unhealthy_threshold": 1, "healthy_threshold": 1}
            slow = eds_cluster("slow", health_checks=[{**check, "http_health_check": {"path": "/"}}])
            lua = HttpFilter(name="lua", typed_config=packed(script))
            listener = http_listener("l", b.port, rds="r", filters=[lua], clusters=["slow"])
            changed = b.base(listener=listener, route=route_table("r", "a", routes=seen))
            b.plane.offer(*changed, slow, assignment("slow", silence))
            await b.plane.synced()
            assert await b.envoy.stat("cluster_manager.cluster_added") == 3
            await eventually(lambda: load.statuses[200] > 100)
            # One may have connected just before the listener changed and asked just after the route did.
            assert load.statuses.total() - load.statuses[200] <= 1, dict(load.statuses)

    run(test)


@asynccontextmanager
async def silent() -> AsyncIterator[int]:
    """A server that takes connections and never says a word; yields its port."""
    taken: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: taken.append(writer), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in taken:
            writer.close()


def test_rule_5_a_cluster_goes_after_the_route_that_named_it(envoy: Path, tmp_path: Path) -> None:
    async def test() -> None:
        async with bench(envoy, tmp_path) as b, Load(b.port).running() as load:
            for number in range(25):
                name = f"old-{number}"
                old = (eds_cluster(name), assignment(name, b.backend))
                b.plane.offer(*b.base(route=route_table("r", name)), *old)
                await b.plane.synced()
                b.plane.offer(*b.base())
                await b.plane.synced()
            load.assert_all_served()
            assert await b.envoy.stat("cluster_manager.cluster_removed") == 25

    run(test)


def test_rule_5_a_cluster_that_a_listener_named_outlives_its_connections(envoy: Path, tmp_path: Path) -> None:
    async def test() -> None:
        async with bench(envoy, tmp_path) as b:
            old = (eds_cluster("old"), assignment("old", b.backend))
            b.plane.offer(*b.base(listener=http_listener("l", b.port, inline="old")), *old)
            await b.plane.synced()
            await asyncio.sleep(DRAIN_S + 0.5)  # the first listener's connections are gone
            async with Load(b.port).running(8) as load:
                await eventually(lambda: load.statuses[200] > 100)
                b.plane.offer(*b.base(listener=http_listener("l", b.port, inline="a")))
                await asyncio.sleep(DRAIN_S / 2)
                assert await b.envoy.stat("cluster_manager.cluster_removed") == 0
                await b.plane.synced(within=3 * DRAIN_S)
                assert await b.envoy.stat("cluster_manager.cluster_removed") == 1
                await asyncio.sleep(0.2)
            load.assert_all_served()

    run(test)


class Cutting:
    """An xDS server that breaks the stream once, after a cluster and before its endpoints."""

    def __init__(self) -> None:
        self.goal: Any = None
        self.cut_next = False
        self.first_types: list[list[str]] = []
        self.stream: Stream | None = None
        self.changed = asyncio.Event()

    def handler(self) -> grpc.GenericRpcHandler:
        service, _, method = METHOD.lstrip("/").partition("/")
        behavior: Any = self._serve
        return grpc.method_handlers_generic_handler(service, {method: grpc.stream_stream_rpc_method_handler(behavior)})

    async def _serve(self, _: object, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        stream = self.stream = Stream(Batches(), drain_s=DRAIN_S)
        asked: list[str] = []
        self.first_types.append(asked)
        reader = asyncio.create_task(self._read(context))
        responses = stream.offer(self.goal, 0)
        while True:
            for response in responses:
                if self.cut_next and response.type_url == ENDPOINT:
                    self.cut_next = False
                    reader.cancel()
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "cut")
                await context.write(response.encode())
            news = asyncio.create_task(self.changed.wait())
            await asyncio.wait([reader, news], return_when=asyncio.FIRST_COMPLETED)
            news.cancel()
            if self.changed.is_set():
                self.changed.clear()
                responses = stream.offer(self.goal, 0)
                continue
            request = reader.result()
            if request is None:
                return
            asked.append(request.type_url)
            responses = stream.receive(request, 0)
            reader = asyncio.create_task(self._read(context))

    async def _read(self, context: grpc.aio.ServicerContext[bytes, bytes]) -> Request | None:
        data = await context.read()
        return load_request(data)[0] if isinstance(data, bytes) else None

    def is_settled(self) -> bool:
        return self.stream is not None and CLUSTER in self.stream.channels and not any(
            channel.flights or channel.behind for channel in self.stream.channels.values()
        )  # fmt: skip


def test_rule_6_an_envoy_that_was_cut_off_while_warming_gets_its_endpoints(envoy: Path, tmp_path: Path) -> None:
    async def test() -> None:
        from tests.xds.real_envoy import offer

        plane, server = Plane(tmp_path), Cutting()
        async with backend() as port:
            base = (assignment("a", port), http_listener("l", free_port(), inline="a"))
            server.goal = offer(eds_cluster("a"), *base)
            async with plane.serving(server.handler()), running_envoy(envoy, tmp_path, plane.socket) as proxy:
                await eventually(server.is_settled)
                server.cut_next = True
                server.goal = offer(eds_cluster("a", connect_timeout="7s"), *base)
                server.changed.set()
                await eventually(lambda: len(server.first_types) == 2 and len(server.first_types[1]) > 0)
                assert server.first_types[1][0] == ENDPOINT  # it does not ask for clusters: one of them is warming
                await eventually(server.is_settled, within=8, what="without its endpoints it warms for 15 s")
                assert await proxy.stat("cluster_manager.warming_clusters") == 0

    run(test)


def test_rule_7_one_bad_cluster_among_good_ones(envoy: Path, tmp_path: Path) -> None:
    async def test() -> None:
        async with bench(envoy, tmp_path) as b:
            fresh = [eds_cluster(name) for name in ("b", "c", "d")]
            bad = made(CLUSTER, "bad", packed_cluster("bad", lb_policy="CLUSTER_PROVIDED"), (ENDPOINT, "bad"))
            b.plane.offer(*b.base(), *fresh, bad)
            await eventually(lambda: list(b.plane.refused()) == ["bad"], what=f"{b.plane.refused()}")
            assert "cluster provided LB specified" in b.plane.refused()["bad"]
            assert await b.envoy.stat("cluster_manager.active_clusters") == 5  # xds, a, b, c, d
            b.plane.offer(*b.base(), *fresh, eds_cluster("bad"))
            await b.plane.synced()
            assert await b.envoy.stat("cluster_manager.active_clusters") == 6

    run(test)


def packed_cluster(name: str, **more: Any) -> Any:
    from envoy.config.cluster.v3.cluster_pb2 import Cluster
    from google.protobuf.json_format import ParseDict

    return ParseDict({"name": name, "type": "EDS", "eds_cluster_config": {"eds_config": ADS}, **more}, Cluster())


def test_rule_7_bad_endpoints_routes_and_listeners(envoy: Path, tmp_path: Path) -> None:
    async def test() -> None:
        async with bench(envoy, tmp_path) as b, Load(b.port).running() as load:
            bad_route = route_table(
                "r", "a", routes=[{"match": {"safe_regex": {"regex": "("}}, "route": {"cluster": "a"}}]
            )
            taken = http_listener("bad", b.backend, inline="a")
            other = http_listener("good", free_port(), inline="a")
            b.plane.offer(*b.base(route=bad_route), taken, other)
            await eventually(lambda: set(b.plane.refused()) == {"r", "bad"}, what=f"{b.plane.refused()}")
            await eventually(lambda: load.statuses[200] > 200)
            assert await b.envoy.stat("listener_manager.total_listeners_active") == 2
            b.plane.offer(*b.base(), other)
            await b.plane.synced()
            load.assert_all_served()

    run(test)


def test_rule_8_a_policy_by_ecds_reaches_a_connection_that_is_open(envoy: Path, tmp_path: Path) -> None:
    async def test() -> None:
        async with bench(envoy, tmp_path) as b:
            slotted = http_listener("l", b.port, rds="r", slots=["deny"])
            b.plane.offer(*b.base(listener=slotted), policy("deny", http_rbac.RBAC()))
            await b.plane.synced()
            connection = HttpConnection(b.port)
            assert await connection.get() == 200  # an empty slot lets everything pass
            connected = connection.writer
            b.plane.offer(*b.base(listener=slotted), policy("deny", deny_all()))
            await b.plane.synced()
            assert await connection.get() == 403
            b.plane.offer(*b.base(listener=slotted), policy("deny", http_rbac.RBAC()))
            await b.plane.synced()
            assert await connection.get() == 200
            assert connection.writer is connected  # one connection all the while
            connection.close()

    run(test)


def test_rule_8_a_policy_by_lds_does_not(envoy: Path, tmp_path: Path) -> None:
    """Why policies do not travel in listeners. When this fails, the rule may be reconsidered."""

    async def test() -> None:
        async with bench(envoy, tmp_path) as b:
            connection = HttpConnection(b.port)
            assert await connection.get() == 200
            denying = [HttpFilter(name="deny", typed_config=packed(deny_all()))]
            b.plane.offer(*b.base(listener=http_listener("l", b.port, rds="r", filters=denying)))
            await b.plane.synced()
            assert await connection.get() == 200
            await b.serves(403)  # a new connection
            connection.close()

    run(test)


def test_rule_8_slots_travel_alone_so_a_bad_one_stops_no_other(envoy: Path, tmp_path: Path) -> None:
    async def test() -> None:
        async with bench(envoy, tmp_path) as b:
            slotted = http_listener("l", b.port, rds="r", slots=["first", "second"])
            empty = (policy("first", http_rbac.RBAC()), policy("second", http_rbac.RBAC()))
            b.plane.offer(*b.base(listener=slotted), *empty)
            await b.plane.synced()
            await b.serves(200)
            wrong = policy("first", Lua())  # not a type that the slot takes
            b.plane.offer(*b.base(listener=slotted), wrong, policy("second", deny_all()))
            await eventually(lambda: list(b.plane.refused()) == ["first"], what=f"{b.plane.refused()}")
            await b.serves(403)
            assert len(b.plane.nacks) == 1  # nothing but the bad one was ever rejected

    run(test)


def test_rule_8_a_slot_whose_policy_is_gone_denies(envoy: Path, tmp_path: Path) -> None:
    async def test() -> None:
        async with bench(envoy, tmp_path) as b:
            slotted = b.base(listener=http_listener("l", b.port, rds="r", slots=["deny"]))
            b.plane.offer(*slotted, policy("deny", http_rbac.RBAC()))
            await b.plane.synced()
            await b.serves(200)
            b.plane.offer(*slotted)
            await b.serves(403)

    run(test)


def validate(binary: Path, folder: Path, config: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    path = folder / "validate.json"
    path.write_text(json.dumps(config))
    command = [str(binary), "--mode", "validate", "-c", str(path), "--log-level", "error"]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)


def test_rule_9_a_secret_over_ads_in_a_static_cluster_is_fatal(envoy: Path, tmp_path: Path) -> None:
    """Why secrets come by the agent's SDS. When this fails, the rule may be reconsidered."""

    async def test() -> None:
        tls = {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "common_tls_context": {"tls_certificate_sds_secret_configs": [{"name": "s", "sds_config": ADS}]},
        }
        static = {
            "name": "static",
            "load_assignment": {"cluster_name": "static", "endpoints": []},
            "transport_socket": {"name": "tls", "typed_config": tls},
        }
        config = tmp_path / "bootstrap.json"
        config.write_text(json.dumps(bootstrap(tmp_path, tmp_path / "xds.sock", [static])))
        process = await asyncio.create_subprocess_exec(
            str(envoy), "-c", str(config), "--use-dynamic-base-id", "--concurrency", "1", "--log-level", "off",
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            code = await asyncio.wait_for(process.wait(), 5)
        except TimeoutError:
            process.kill()
            await process.wait()
            pytest.fail("Envoy lives: secrets over ADS in static clusters have become possible")
        assert code != 0

    run(test)


def test_rule_10_validate_sees_routes_only_inline(envoy: Path, tmp_path: Path) -> None:
    bad = {"match": {"safe_regex": {"regex": "("}}, "route": {"cluster": "xds"}}
    inline = {"route_config": {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [bad]}]}}
    by_rds = {"rds": {"route_config_name": "r", "config_source": ADS}}
    results = []
    for routes in (by_rds, inline):
        router = {"name": "r", "typed_config": {"@type": f"{EXTENSIONS}.http.router.v3.Router"}}
        kind = f"{EXTENSIONS}.network.http_connection_manager.v3.HttpConnectionManager"
        manager = {"@type": kind, "stat_prefix": "x", "http_filters": [router], **routes}
        chains = [{"filters": [{"name": "h", "typed_config": manager}]}]
        address = {"socket_address": {"address": "127.0.0.1", "port_value": free_port()}}
        config = bootstrap(tmp_path, tmp_path / "xds.sock")
        config["static_resources"]["listeners"] = [{"name": "l", "address": address, "filter_chains": chains}]
        results.append(validate(envoy, tmp_path, config))
    assert results[0].returncode == 0, results[0].stderr
    assert results[1].returncode != 0
    assert "missing )" in results[1].stderr
