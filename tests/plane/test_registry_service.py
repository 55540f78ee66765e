"""Hosts register their workloads over real gRPC, and only what they were granted."""

from __future__ import annotations

from pathlib import Path

import grpc
import grpc.aio
import pytest

from gossamer.core.resources import ENDPOINT
from gossamer.rpc import calls
from gossamer.rpc import gossamer_pb2 as rpc
from tests.plane.running import SELECTED, Mesh, Running, eventually, refused, reviews, run, service

KEY = ("default", "reviews-v1")
REVIEWS = "outbound|9080||reviews.default.svc.cluster.local"
Stream = grpc.aio.StreamStreamCall[rpc.RegisterRequest, rpc.RegisterResponse]


@pytest.fixture
def mesh(tmp_path: Path) -> Mesh:
    made = Mesh(tmp_path)
    made.write(reviews=SELECTED)
    return made


async def say(stream: Stream, sequence: int, *workloads: rpc.Workload, removed: bool = False) -> rpc.RegisterResponse:
    gone = [rpc.WorkloadKey(namespace="default", name="reviews-v1")] if removed else []
    await stream.write(rpc.RegisterRequest(sequence=sequence, workloads=workloads, removed=gone))
    answer = await stream.read()
    assert isinstance(answer, rpc.RegisterResponse)
    assert answer.sequence == sequence
    return answer


def names(running: Running) -> set[tuple[str, str]]:
    return set(running.plane.registry.snapshot)


def test_a_workload_that_registers_is_called_and_one_that_leaves_is_not(mesh: Mesh) -> None:
    async def test() -> None:
        async with (
            mesh.run() as running,
            running.host("host-a", "default/reviews") as channel,
            running.proxy() as web,
        ):
            empty = (await web.follow(REVIEWS)).changed[0]
            stream = calls.REGISTER.call(channel)()
            assert not (await say(stream, 1, reviews())).rejected
            called = await web.await_type(ENDPOINT)
            assert [item.name for item in called.changed] == [REVIEWS]
            assert b"10.0.0.9" in called.changed[0].body
            assert not (await say(stream, 2, removed=True)).rejected
            assert (await web.await_type(ENDPOINT)).changed[0].version == empty.version

    run(test)


def test_a_host_speaks_for_nobody_whom_its_token_did_not_name(mesh: Mesh) -> None:
    async def test() -> None:
        async with mesh.run() as running, running.host("host-a", "default/reviews") as channel:
            stream = calls.REGISTER.call(channel)()
            foreign = reviews("ratings-v1", service_account="ratings")
            answer = await say(stream, 1, reviews(), foreign, reviews("elsewhere", namespace="other"))
            assert [(item.workload.namespace, item.workload.name) for item in answer.rejected] == [
                ("default", "ratings-v1"),
                ("other", "elsewhere"),
            ]
            assert "may not run default/ratings" in answer.rejected[0].reason
            assert names(running) == {KEY}

    run(test)


def test_one_host_does_not_take_or_end_what_runs_on_another(mesh: Mesh) -> None:
    async def test() -> None:
        async with (
            mesh.run() as running,
            running.host("host-a", "default/*") as first,
            running.host("host-b", "default/*") as second,
        ):
            await say(calls.REGISTER.call(first)(), 1, reviews())
            answer = await say(calls.REGISTER.call(second)(), 1, reviews(addresses=["10.6.6.6"], incarnation=9))
            assert "runs on host host-a" in answer.rejected[0].reason
            key = rpc.WorkloadKey(namespace="default", name="reviews-v1")
            await calls.DEREGISTER.call(second)(rpc.DeregisterRequest(workloads=[key]))
            assert running.plane.registry.snapshot[KEY].proxy.addresses == ("10.0.0.9",)
            await calls.DEREGISTER.call(first)(rpc.DeregisterRequest(workloads=[key]))
            assert names(running) == set()

    run(test)


def test_a_workload_registers_nobody(mesh: Mesh) -> None:
    async def test() -> None:
        async with mesh.run() as running, running.host("host-a", "default/*"), running.proxy() as proxy:
            with refused(grpc.StatusCode.PERMISSION_DENIED, "only a host"):
                await calls.DEREGISTER.call(proxy.channel)(rpc.DeregisterRequest())
            stream = calls.REGISTER.call(proxy.channel)()
            with refused(grpc.StatusCode.PERMISSION_DENIED, "only a host"):
                await stream.write(rpc.RegisterRequest(sequence=1, workloads=[reviews()]))
                await stream.read()
            assert names(running) == set()

    run(test)


def test_a_stream_that_breaks_ends_no_lease(mesh: Mesh) -> None:
    async def test() -> None:
        async with mesh.run() as running, running.host("host-a", "default/*") as channel:
            stream = calls.REGISTER.call(channel)()
            await say(stream, 1, reviews())
            stream.cancel()
            again = calls.REGISTER.call(channel)()
            await say(again, 1, reviews())
            assert names(running) == {KEY}

    run(test)


def test_a_host_hears_of_services_that_need_a_port_of_their_own(mesh: Mesh) -> None:
    async def test() -> None:
        async with mesh.run() as running, running.host("host-a", "default/*") as channel:
            stream = calls.REGISTER.call(channel)()
            assert list((await say(stream, 1)).services) == []
            mesh.write(mongo=service("mongo").replace("name: http, protocol: HTTP", "name: tcp, protocol: TCP"))
            await eventually(lambda: bool(running.plane.pipeline.services))
            assert list((await say(stream, 2)).services) == ["mongo.example.com:80"]
            assert list((await say(stream, 3)).services) == []  # as said last

    run(test)


def test_registrations_outlive_a_restart_and_so_do_the_endpoints(mesh: Mesh) -> None:
    async def test() -> None:
        async with mesh.run() as running, running.host("host-a", "default/*") as channel:
            await say(calls.REGISTER.call(channel)(), 1, reviews())
        async with mesh.run() as running, running.proxy() as web:
            assert names(running) == {KEY}
            update = await web.follow(REVIEWS)
            assert (update.type_url, b"10.0.0.9" in update.changed[0].body) == (ENDPOINT, True)

    run(test)


PROXY_CONFIG = """
apiVersion: networking.istio.io/v1beta1
kind: ProxyConfig
metadata: {name: two, namespace: default}
spec: {selector: {matchLabels: {app: reviews}}, concurrency: 2, environmentVariables: {A: b}}
"""


def test_a_host_is_told_how_to_start_its_envoys_and_those_of_nobody_else(mesh: Mesh) -> None:
    mesh.write(config=PROXY_CONFIG)

    async def test() -> None:
        async with mesh.run() as running, running.host("host-a", "default/reviews") as channel:
            stream = calls.REGISTER.call(channel)()
            answer = await say(stream, 1, reviews())
            (start,) = answer.starts
            assert (start.workload.name, start.concurrency, dict(start.environment)) == ("reviews-v1", 2, {"A": "b"})
            refused_one = await say(stream, 2, reviews("other-v1", service_account="other"))
            assert refused_one.rejected
            assert not refused_one.starts

    run(test)


def test_a_host_reports_what_its_own_envoys_leave_out(mesh: Mesh) -> None:
    observation = rpc.Observation(
        caller=rpc.WorkloadKey(namespace="default", name="reviews-v1"),
        cluster=REVIEWS,
        address="10.0.0.9",
        port=9080,
        exclusions=[rpc.EXCLUSION_OUTLIER],
    )

    async def test() -> None:
        async with (
            mesh.run() as running,
            running.host("host-a", "default/reviews") as one,
            running.host("host-b", "default/reviews") as other,
        ):
            stream = calls.REGISTER.call(one)()
            answer = await say(stream, 1, reviews())
            assert not answer.watch_endpoints, "nobody ejects anybody in this mesh"
            request = rpc.ReportRequest(observations=[observation])
            await calls.REPORT.call(other)(request)
            (row,) = running.plane.reports.answer("reviews")
            assert row["ejected_by"] == [], "the workload is not that host's"
            await calls.REPORT.call(one)(request)
            (row,) = running.plane.reports.answer("reviews")
            assert [entry["caller"] for entry in row["ejected_by"]] == ["default/reviews-v1"]

    run(test)
