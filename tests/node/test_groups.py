"""What a workload takes from its WorkloadGroup, asked of a control plane over gRPC, or kept from the last time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest

from gossamer.core.errors import GossamerError
from gossamer.model.groups import build_groups
from gossamer.node.groups import Groups, grouped
from gossamer.node.health import Probe
from gossamer.node.sandbox import Check
from gossamer.node.workload import ServedPort, WorkloadSpec
from gossamer.plane.group_service import describe_group
from gossamer.rpc import calls
from gossamer.rpc import gossamer_pb2 as rpc
from tests.api.documents import load_one, resource

SPEC = WorkloadSpec(name="db-1", namespace="default", service_account="", group="db")
TEMPLATE = {"ports": {"tcp-db": 5432, "http": 8080}, "serviceAccount": "keeper", "labels": {"app": "db"}}
PROBE = {"tcpSocket": {"port": 5432}, "failureThreshold": 2}
GROUPS = build_groups(
    load_one(resource("WorkloadGroup", {"template": TEMPLATE, "probe": PROBE}, "db")).config.workload_groups
)


def _document() -> str:
    request = rpc.DescribeGroupRequest(group=rpc.WorkloadKey(namespace="default", name="db"))
    return describe_group(GROUPS, lambda *_: "", request).document


def test_what_it_leaves_out_is_the_groups() -> None:
    found = grouped(SPEC, _document())
    assert found.service_account == "keeper"
    assert found.ports == (ServedPort(name="tcp-db", number=5432), ServedPort(name="http", number=8080))
    assert found.health == Probe(check=Check(port=5432, seconds=1), timeout=1, period=10, failures=2)
    assert found.labels == {}, "labels are given by the control plane"
    own = WorkloadSpec(name="db-1", service_account="keeper", group="db", ports=(ServedPort(number=1),), health=Probe())
    assert grouped(own, _document()) == own


@asynccontextmanager
async def _plane(*grants: tuple[str, str]) -> AsyncIterator[str]:
    """A control plane that knows the group and answers nothing else; its address."""

    async def describe(request: rpc.DescribeGroupRequest, _: object) -> rpc.DescribeGroupResponse:
        return describe_group(GROUPS, lambda *wanted: "" if wanted in grants else f"not {wanted[1]}", request)

    server = grpc.aio.server()
    handler = calls.service("Registry", {calls.DESCRIBE_GROUP: calls.DESCRIBE_GROUP.serve(describe)})
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


def test_asked_once_it_is_known_without_a_control_plane(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _plane(("default", "keeper")) as address:
            groups = Groups(folder=tmp_path / "groups", channel=lambda: grpc.aio.insecure_channel(address))
            first = await groups.resolve(SPEC)
            assert first.service_account == "keeper"
        assert await groups.resolve(SPEC) == first
        assert await groups.resolve(WorkloadSpec(name="x")) == WorkloadSpec(name="x")

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("name", "account", "said"),
    [
        ("none", "", "there is no WorkloadGroup default/none"),
        ("db", "other", "is for service account keeper, not other: leave it out"),
        ("db", "", "not keeper"),
    ],
)
def test_refusals(name: str, account: str, said: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _plane(("default", "other")) as address:
            groups = Groups(folder=tmp_path / "groups", channel=lambda: grpc.aio.insecure_channel(address))
            with pytest.raises(GossamerError, match=said):
                await groups.resolve(WorkloadSpec(name="a", service_account=account, group=name))

    asyncio.run(scenario())
