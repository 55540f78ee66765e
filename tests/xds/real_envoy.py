"""A real Envoy under a real xDS server, with backends and load: what the tests of the rules are made of."""

from __future__ import annotations

import asyncio
import json
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.rbac.v3.rbac_pb2 import RBAC, Permission, Policy, Principal
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_rbac
from envoy.extensions.filters.http.router.v3.router_pb2 import Router
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
    HttpFilter,
)
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from gossamer.core.frozen import FrozenMap
from gossamer.core.latest import Latest
from gossamer.core.resources import (
    CLUSTER,
    ENDPOINT,
    EXTENSION,
    LISTENER,
    ROUTE,
    Reference,
    Resource,
    Resources,
    Table,
    version_of,
)
from gossamer.xds.codec import Node
from gossamer.xds.messages import Request
from gossamer.xds.service import SERVER_OPTIONS, Peer, Service, Subscription
from gossamer.xds.status import SyncState
from gossamer.xds.stream import Stream

DRAIN_S = 2
ADS = {"ads": {}, "resource_api_version": "V3"}


def run(test: Callable[[], Coroutine[Any, Any, None]], timeout: float = 40) -> None:
    asyncio.run(asyncio.wait_for(test(), timeout))


async def eventually(condition: Callable[[], bool], within: float = 10.0, what: str = "") -> None:
    async def wait() -> None:
        while not condition():  # noqa: ASYNC110 - what is waited for is in another process
            await asyncio.sleep(0.01)

    try:
        await asyncio.wait_for(wait(), within)
    except TimeoutError:
        raise AssertionError(f"not within {within} s: {what}") from None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def packed(message: Message) -> AnyMessage:
    result = AnyMessage()
    result.Pack(message, deterministic=True)
    return result


def made(type_url: str, name: str, message: Message, *names: tuple[str, str]) -> Resource:
    body = packed(message).SerializeToString(deterministic=True)
    references = frozenset(Reference(type_url=url, name=item) for url, item in names)
    return Resource(type_url=type_url, name=name, version=version_of(body), body=body, references=references)


def eds_cluster(name: str, **more: Any) -> Resource:
    content = {"name": name, "type": "EDS", "connect_timeout": "1s", "eds_cluster_config": {"eds_config": ADS}, **more}
    return made(CLUSTER, name, ParseDict(content, Cluster()), (ENDPOINT, name))


def assignment(name: str, *ports: int) -> Resource:
    message = ClusterLoadAssignment(cluster_name=name)
    locality = message.endpoints.add()
    for port in ports:
        address = locality.lb_endpoints.add().endpoint.address.socket_address
        address.address, address.port_value = "127.0.0.1", port
    return made(ENDPOINT, name, message)


def route_table(name: str, cluster: str, *, routes: list[dict[str, Any]] | None = None) -> Resource:
    routes = routes or [{"match": {"prefix": "/"}, "route": {"cluster": cluster}}]
    content = {"name": name, "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]}
    return made(ROUTE, name, ParseDict(content, RouteConfiguration()), (CLUSTER, cluster))


def http_listener(
    name: str,
    port: int,
    *,
    rds: str = "",
    inline: str = "",
    slots: Iterable[str] = (),
    filters: Iterable[HttpFilter] = (),
    clusters: Iterable[str] = (),
) -> Resource:
    """A listener whose routes come by RDS (`rds`) or stand in it (`inline`, a cluster); `slots` come by ECDS.

    `clusters` are said to be named by it too.
    """
    manager = HttpConnectionManager(stat_prefix=name)
    if rds:
        ParseDict({"route_config_name": rds, "config_source": ADS}, manager.rds)
    else:
        routes = [{"match": {"prefix": "/"}, "route": {"cluster": inline}}]
        ParseDict({"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]}, manager.route_config)
    manager.http_filters.extend(slot(item) for item in slots)
    manager.http_filters.extend(filters)
    manager.http_filters.append(HttpFilter(name="router", typed_config=packed(Router())))
    message = Listener(name=name)
    message.address.socket_address.address = "127.0.0.1"
    message.address.socket_address.port_value = port
    message.filter_chains.add().filters.add(name="http", typed_config=packed(manager))
    names = [(ROUTE, rds)] if rds else [(CLUSTER, inline)]
    names += [(CLUSTER, item) for item in clusters]
    return made(LISTENER, name, message, *names, *((EXTENSION, item) for item in slots))


def slot(name: str) -> HttpFilter:
    """A policy's place in a chain: filled by ECDS, denying until it is."""
    result = HttpFilter(name=name)
    ParseDict(ADS, result.config_discovery.config_source)
    result.config_discovery.default_config.Pack(deny_all())
    result.config_discovery.type_urls.append("type.googleapis.com/" + http_rbac.RBAC.DESCRIPTOR.full_name)
    return result


def deny_all() -> http_rbac.RBAC:
    anyone = Policy(permissions=[Permission(any=True)], principals=[Principal(any=True)])
    return http_rbac.RBAC(rules=RBAC(action=RBAC.DENY, policies={"deny": anyone}))


def policy(name: str, content: Message) -> Resource:
    from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig

    return made(EXTENSION, name, TypedExtensionConfig(name=name, typed_config=packed(content)))


def offer(*items: Resource) -> Resources:
    urls = (CLUSTER, ENDPOINT, LISTENER, ROUTE, EXTENSION)
    return Resources(
        tables=FrozenMap({url: (Table(url, [item for item in items if item.type_url == url]),) for url in urls})
    )


class Plane:
    """An xDS server on a UNIX socket that offers everybody the same."""

    name = "envoy"

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "xds.sock"
        self.latest: Latest[Resources | None] = Latest(None)
        self.service = Service(self._authorize, drain_s=DRAIN_S, heard=self._heard)
        self.nacks: list[str] = []
        """What Envoy said of each response that it rejected."""

    async def _authorize(self, _: Peer, __: Node) -> Plane:
        return self

    def _heard(self, _: Subscription, __: Stream, request: Request | None) -> None:
        if request is not None and request.error is not None:
            self.nacks.append(request.error)

    def close(self) -> None:
        pass

    def offer(self, *items: Resource) -> None:
        self.latest.publish(offer(*items))

    def state(self) -> SyncState:
        rows = self.service.status()
        return rows[0].state if rows else SyncState.NOT_SENT

    async def synced(self, within: float = 10.0) -> None:
        await eventually(lambda: self.state() is SyncState.SYNCED, within, f"synced: {self.service.status()}")

    def refused(self) -> dict[str, str]:
        return {item.name: item.message for row in self.service.status() for t in row.types for item in t.rejections}

    @asynccontextmanager
    async def serving(self, *handlers: grpc.GenericRpcHandler) -> AsyncIterator[None]:
        server = grpc.aio.server(options=SERVER_OPTIONS)
        server.add_generic_rpc_handlers(handlers or (self.service.handler(),))
        server.add_insecure_port(f"unix:{self.socket}")
        await server.start()
        try:
            yield
        finally:
            await server.stop(0)


@dataclass(slots=True)
class EnvoyUnderTest:
    """A running Envoy; its admin interface is a UNIX socket."""

    folder: Path
    process: asyncio.subprocess.Process

    async def admin(self, path: str) -> str:
        reader, writer = await asyncio.open_unix_connection(str(self.folder / "admin.sock"))
        writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        content = (await reader.read()).decode()
        writer.close()
        return content

    async def stat(self, name: str) -> int:
        text = await self.admin(f"/stats?filter=^{name}$")
        found = [line for line in text.splitlines() if line.startswith(f"{name}: ")]
        return int(found[0].split()[-1]) if found else 0

    def log(self) -> str:
        return (self.folder / "envoy.log").read_text()


def bootstrap(folder: Path, xds_socket: Path, static_clusters: Iterable[dict[str, Any]] = ()) -> dict[str, Any]:
    http2 = {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        }
    }
    endpoint = {"endpoint": {"address": {"pipe": {"path": str(xds_socket)}}}}
    xds = {
        "name": "xds",
        "typed_extension_protocol_options": http2,
        "load_assignment": {"cluster_name": "xds", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    retry = {"retry_back_off": {"base_interval": "0.05s", "max_interval": "0.1s"}}
    grpc_service = {"envoy_grpc": {"cluster_name": "xds", "retry_policy": retry}}
    return {
        "node": {"id": "test", "cluster": "test"},
        "admin": {"address": {"pipe": {"path": str(folder / "admin.sock")}}},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "grpc_services": [grpc_service],
                "set_node_on_first_message_only": True,
            },
            "cds_config": ADS,
            "lds_config": ADS,
        },
        "static_resources": {"clusters": [xds, *static_clusters]},
    }


@asynccontextmanager
async def running_envoy(binary: Path, folder: Path, xds_socket: Path) -> AsyncIterator[EnvoyUnderTest]:
    config = folder / "bootstrap.json"
    config.write_text(json.dumps(bootstrap(folder, xds_socket)))
    process = await asyncio.create_subprocess_exec(
        str(binary), "-c", str(config), "--use-dynamic-base-id", "--concurrency", "1",
        "--drain-time-s", str(DRAIN_S), "--log-level", "warning", "--log-path", str(folder / "envoy.log"),
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    envoy = EnvoyUnderTest(folder, process)
    try:
        yield envoy
        assert process.returncode is None, f"Envoy ended: {envoy.log()}"
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@asynccontextmanager
async def backend(answer: str = "ok") -> AsyncIterator[int]:
    """An HTTP server; yields its port."""
    reply = f"HTTP/1.1 200 OK\r\ncontent-length: {len(answer)}\r\n\r\n{answer}".encode()
    open_connections: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_connections.add(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(reply)
        open_connections.discard(writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in [*open_connections]:
            writer.close()


@dataclass(slots=True)
class HttpConnection:
    """One connection to a port, used for one request after another."""

    port: int
    reader: asyncio.StreamReader | None = None
    writer: asyncio.StreamWriter | None = None

    async def only(self) -> int:
        """The status of one request; the connection is closed after it."""
        try:
            return await self.get()
        finally:
            self.close()

    async def get(self) -> int:
        """The status, or 0 when the connection failed. Opened anew when the server closed it between requests."""
        try:
            if self.reader is not None and self.reader.at_eof():
                self.close()
            if self.reader is None or self.writer is None:
                self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
            self.writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            async with asyncio.timeout(5):  # wait_for of Python 3.11 may lose a cancellation
                head = await self.reader.readuntil(b"\r\n\r\n")
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            self.close()
            return 0
        fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
        await self.reader.readexactly(int(fields.get(b"content-length", b"0")))
        if fields.get(b"connection") == b"close":
            self.close()
        return int(head.split()[1])

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None


@dataclass(slots=True)
class Load:
    """Constant requests to a port. `fresh`: every one on a connection of its own."""

    port: int
    fresh: bool = False
    statuses: Counter[int] = field(default_factory=Counter)

    @asynccontextmanager
    async def running(self, clients: int = 4) -> AsyncIterator[Load]:
        tasks = [asyncio.create_task(self._client()) for _ in range(clients)]
        try:
            yield self
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _client(self) -> None:
        connection = HttpConnection(self.port)
        try:
            while True:
                self.statuses[await connection.get()] += 1
                if self.fresh:
                    connection.close()
                await asyncio.sleep(0.001)
        finally:
            connection.close()

    def assert_all_served(self, least: int = 100) -> None:
        assert set(self.statuses) == {200}, dict(self.statuses)
        assert self.statuses[200] >= least
