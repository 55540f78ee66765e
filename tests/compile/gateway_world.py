"""A real gateway Envoy on loopback before real servers: what it does, and what the simulator says that it would do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import grpc
from websockets.sync.server import ServerConnection, serve

from gossamer.ca.authority import Authority
from gossamer.core.frozen import FrozenMap
from gossamer.model.proxy import Capture, CaptureMode, Proxy
from gossamer.simulate.outcome import Outcome
from gossamer.simulate.request import Address, Arrival, HttpRequest, Request, Tls
from gossamer.simulate.simulator import Simulator
from tests.compile.compiled import GATEWAY, Compiled, compiled, istio
from tests.compile.sidecar import Agent, admin, free_port, issue, running_envoy, until


@dataclass
class World:
    """A gateway and what it was told."""

    folder: Path
    agent: Agent
    proxy: Proxy
    told: Compiled
    documents: list[str] = field(default_factory=list)

    def port(self, number: int) -> int:
        """Where a port of the Gateway is really open."""
        return self.proxy.gateway_ports[number]

    def predicted(self, number: int, *, http: HttpRequest | None = None, tls: Tls | None = None) -> Outcome:
        """What the simulator says of a request from outside."""
        request = Request(
            arrival=Arrival.DIRECT,
            destination=Address(ip="127.0.0.1", port=self.port(number)),
            http=http,
            tls=tls,
        )
        return Simulator(self.told.resources).simulate(request)


@contextmanager
def gateway(
    envoy: Path,
    folder: Path,
    authority: Authority,
    *documents: str,
    numbers: tuple[int, ...],
    mesh_config: str = "",
) -> Iterator[World]:
    """A gateway of the mesh that serves these documents, its Gateways' ports opened on free ports of loopback."""
    proxy = replace(
        GATEWAY,
        addresses=("127.0.0.1",),
        capture=Capture(mode=CaptureMode.EXPLICIT, address="127.0.0.1"),
        gateway_ports=FrozenMap({number: free_port() for number in numbers}),
    )
    told = compiled(*documents, proxy=proxy, mesh_config=mesh_config)
    identity = issue(authority, proxy.namespace, "gateway", proxy.name)
    with Agent(folder, identity, lent=[folder / "lent"]) as agent, running_envoy(envoy, folder, agent, proxy):
        agent.offer(told.resources)
        wanted = len(told.json()["listeners"])
        until(lambda: admin(folder, "/listeners").count("\n") == wanted, "its listeners are open")
        until(lambda: live(folder), "it serves")
        yield World(folder=folder, agent=agent, proxy=proxy, told=told, documents=list(documents))


def live(folder: Path) -> bool:
    """Whether Envoy serves."""
    return '"state": "LIVE"' in admin(folder, "/server_info")


def entry(name: str, host: str, protocol: str, port: int, *, number: int = 80) -> str:
    """A service of one endpoint on loopback."""
    return istio(
        "ServiceEntry",
        name,
        f"  hosts: [{host}]\n  location: MESH_EXTERNAL\n  resolution: STATIC\n"
        f"  ports: [{{number: {number}, name: {name}, protocol: {protocol}, targetPort: {port}}}]\n"
        "  endpoints: [{address: 127.0.0.1}]",
    )


@contextmanager
def websocket_application() -> Iterator[int]:
    """An application that sends back each message of a WebSocket."""

    def echo(connection: ServerConnection) -> None:
        for message in connection:
            connection.send(message)

    with serve(echo, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield int(server.socket.getsockname()[1])
        finally:
            server.shutdown()
            thread.join(10)


@contextmanager
def grpc_application() -> Iterator[int]:
    """An application with one gRPC method, `/echo.Echo/Say`, that says the same twice in a stream."""

    def say(request: bytes, _: grpc.ServicerContext) -> Iterator[bytes]:
        yield request
        yield request

    server = grpc.server(futures.ThreadPoolExecutor(2))
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {"Say": grpc.unary_stream_rpc_method_handler(say)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("echo.Echo", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(0).wait()
