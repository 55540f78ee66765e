"""A control plane in this process, on real ports, and those who connect to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from gossamer.ca.issue import create_token, issue
from gossamer.ca.spiffe import CONTROL_PLANE, workload_id
from gossamer.core.resources import CLUSTER, ENDPOINT
from gossamer.node.identity_client import join, open_channel
from gossamer.node.identity_files import IdentityFiles
from gossamer.plane.control_plane import ControlPlane, open_control_plane
from gossamer.plane.settings import Bound, Settings
from gossamer.rpc import gossamer_pb2 as rpc
from gossamer.xds.client import Update
from gossamer.xds.codec import METHOD, encode_request, load_update
from gossamer.xds.messages import Request

TRUST_DOMAIN = "cluster.local"
Call = grpc.aio.StreamStreamCall[bytes, bytes]

SERVICE = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: default}}
spec:
  hosts: [{name}.example.com]
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  location: MESH_INTERNAL
  resolution: STATIC
  endpoints: [{{address: {address}}}]
"""
SELECTED = """
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: default}
spec:
  selector: {app: reviews}
  ports: [{name: http, port: 9080}]
"""


def service(name: str, address: str = "10.0.0.1") -> str:
    """A ServiceEntry of one endpoint."""
    return SERVICE.format(name=name, address=address)


def reviews(name: str = "reviews-v1", **fields: Any) -> rpc.Workload:
    """What an agent says of a workload that is ready."""
    base: dict[str, Any] = {
        "name": name,
        "namespace": "default",
        "service_account": "reviews",
        "labels": {"app": "reviews"},
        "addresses": ["10.0.0.9"],
        "ports": [rpc.WorkloadPort(name="http", number=9080)],
        "capture": rpc.Capture(mode=rpc.CAPTURE_MODE_TRANSPARENT),
        "type": rpc.PROXY_TYPE_SIDECAR,
        "state": rpc.WORKLOAD_STATE_READY,
        "incarnation": 1,
    }
    return rpc.Workload(**(base | fields))


@dataclass(slots=True)
class Mesh:
    """Folders of one mesh; `run` starts its control plane, as often as a test likes."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "config"

    def write(self, **texts: str) -> None:
        self.config.mkdir(exist_ok=True)
        for name, text in texts.items():
            scratch = self.folder / f"{name}.tmp"
            scratch.write_text(text)
            scratch.rename(self.config / f"{name}.yaml")

    def settings(self, **changes: Any) -> Settings:
        base: dict[str, Any] = {
            "config": (self.config,),
            "state": self.folder / "state",
            "listen": "127.0.0.1:0",
            "join_listen": "127.0.0.1:0",
        }
        return Settings(**(base | changes))

    @asynccontextmanager
    async def run(self, **changes: Any) -> AsyncIterator[Running]:
        (self.folder / "state").mkdir(exist_ok=True)
        plane, stop = open_control_plane(self.settings(**changes)), asyncio.Event()
        async with plane.serving() as bound:
            following = asyncio.create_task(plane.follow(stop))
            try:
                yield Running(plane, bound, self.folder)
            finally:
                stop.set()
                await following


@dataclass(slots=True)
class Running:
    """A control plane that serves."""

    plane: ControlPlane
    bound: Bound
    folder: Path

    @asynccontextmanager
    async def proxy(
        self, name: str = "web", account: str = "default", now: datetime | None = None
    ) -> AsyncIterator[Proxy]:
        """A proxy that has just connected, with a workload's certificate, issued `now` for a day."""
        folder = self.folder / f"{name}.{account}"
        workload = workload_id(trust_domain=TRUST_DOMAIN, namespace="default", service_account=account, name=name)
        issue(self.plane.authority.value, workload, folder, now=now or datetime.now(UTC))
        pems = [(folder / file).read_bytes() for file in ("root.pem", "key.pem", "cert.pem")]
        options = [("grpc.ssl_target_name_override", CONTROL_PLANE), ("grpc.use_local_subchannel_pool", 1)]
        credentials = grpc.ssl_channel_credentials(*pems)
        async with grpc.aio.secure_channel(self.bound.xds, credentials, options) as channel:
            yield Proxy(channel, channel.stream_stream(METHOD)())

    @asynccontextmanager
    async def host(self, name: str, *grants: str) -> AsyncIterator[grpc.aio.Channel]:
        """A connection of a host that has joined."""
        authority, ledger = self.plane.authority.value, self.plane.ledger
        token = create_token(authority, ledger, host=name, grants=grants, now=datetime.now(UTC))
        identity = await join(self.bound.join, token, IdentityFiles(self.folder / name))
        async with open_channel(self.bound.xds, identity) as channel:
            yield channel


@dataclass(slots=True)
class Proxy:
    """A connection and one delta stream on it."""

    channel: grpc.aio.Channel
    call: Call

    async def ask(self, type_url: str, *names: str) -> None:
        await self.call.write(encode_request(Request(type_url=type_url, subscribe=names)))

    async def next(self, timeout_s: float = 5) -> Update:
        """The next response; TimeoutError if none comes."""
        data = await asyncio.wait_for(self.call.read(), timeout_s)
        assert isinstance(data, bytes), data
        update = load_update(data)
        await self.call.write(encode_request(Request(type_url=update.type_url, nonce=update.nonce)))
        return update

    async def follow(self, cluster: str) -> Update:
        """Ask for all clusters, then for the endpoints of one; returns these."""
        await self.ask(CLUSTER)
        await self.await_type(CLUSTER)
        await self.ask(ENDPOINT, cluster)
        return await self.await_type(ENDPOINT)

    async def await_type(self, type_url: str) -> Update:
        """The next response of this type."""
        while (update := await self.next()).type_url != type_url:
            pass
        return update


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 30))


async def eventually(condition: Callable[[], bool], timeout_s: float = 5) -> None:
    async def wait() -> None:
        while not condition():  # noqa: ASYNC110 - what is waited for is in the code under test
            await asyncio.sleep(0.01)

    await asyncio.wait_for(wait(), timeout_s)


@contextmanager
def refused(code: grpc.StatusCode, words: str) -> Iterator[None]:
    """The call inside is refused with this code, for a reason that has these words."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        yield
    assert caught.value.code() is code
    assert words in (caught.value.details() or "")
