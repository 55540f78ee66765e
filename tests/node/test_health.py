"""Probes of every kind, against what really answers: HTTP, HTTPS, TCP, gRPC and commands."""

from __future__ import annotations

import asyncio
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest

from gossamer.api.workload_group import ReadinessProbe
from gossamer.core.frozen import FrozenMap
from gossamer.node.application import ApplicationState
from gossamer.node.health import HealthWatch, Probe
from gossamer.node.probes import probe_of
from gossamer.node.resident import Resident
from gossamer.node.sandbox import Check, Command, Isolation, Sandbox
from tests.api.documents import load_one, resource
from tests.compile.certificates import Issuer
from tests.node.capture_parts import ENVIRONMENT, add_network, free_port, sandboxed

EITHER = (Isolation.NONE, Isolation.USER)


class _Health(grpc.GenericRpcHandler):
    """`grpc.health.v1`: a service's status is the length of its name, the server's own is SERVING."""

    def service(self, details: Any) -> Any:
        if details.method != "/grpc.health.v1.Health/Check":
            return None

        def check(request: bytes, context: grpc.ServicerContext) -> bytes:
            name = request[2:].decode()
            if name == "unknown":
                context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
            status = len(name) or 1
            return b"" if name == "-" else bytes((8, status))

        return grpc.unary_unary_rpc_method_handler(check)


@pytest.fixture
def grpc_port() -> Iterator[int]:
    server = grpc.server(ThreadPoolExecutor(1), handlers=[_Health()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(0).wait()


@pytest.mark.parametrize(
    ("service", "said"),
    [
        ("", ""),
        ("a", ""),
        ("ab", "gRPC health is NOT_SERVING"),
        ("abc", "gRPC health is SERVICE_UNKNOWN"),
        ("-", "gRPC health is UNKNOWN"),
        ("unknown", "answered no gRPC health status"),
        ("x" * 100, "gRPC health is 100"),
    ],
)
def test_grpc(service: str, said: str, grpc_port: int, tmp_path: Path) -> None:
    answer = _ask(tmp_path, Check(port=grpc_port, service=service))
    assert answer.startswith(said)
    assert bool(answer) is bool(said)


def test_a_server_of_http_1_is_no_grpc_server(tmp_path: Path) -> None:
    with _http() as port:
        assert _ask(tmp_path, Check(port=port, service="")) != ""


def _ask(folder: Path, check: Check) -> str:
    async def scenario() -> str:
        async with sandboxed(folder / "run", Isolation.NONE) as sandbox:
            return await sandbox.check(check)

    return asyncio.run(scenario())


class _Http:
    """A server that answers /ok with 200 if `x-who` is `probe`, and all else with 500; over TLS with a context."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                well = self.path == "/ok" and self.headers["x-who"] in (None, "probe")
                self.send_response(200 if well else 500)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def __enter__(self) -> int:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        return int(self._server.server_address[1])

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


_http = _Http


def test_http_and_https(tmp_path: Path) -> None:
    with _http() as port, _http(Issuer().server(tmp_path, "nobody")) as secure:
        assert _ask(tmp_path, Check(port=port, path="/ok", headers=(("x-who", "probe"),))) == ""
        assert _ask(tmp_path, Check(port=port, path="/ok", headers=(("x-who", "other"),))) == "GET /ok answered 500"
        assert _ask(tmp_path, Check(port=secure, path="/ok", tls=True)) == ""
        assert _ask(tmp_path, Check(port=secure, path="/", tls=True)) == "GET / answered 500"
        assert _ask(tmp_path, Check(port=secure, path="/ok")) != ""


# ---- how often, and what follows


async def _follow(sandbox: Sandbox, probe: Probe, network: str = "") -> tuple[HealthWatch, list[bool], Any]:
    told: list[bool] = []
    place = Command(argv=("true",), env=ENVIRONMENT, network=network)
    watch = HealthWatch(sandbox, probe, "it", place)
    return watch, told, asyncio.create_task(watch.follow(told.append))


async def _until(condition: Any, seconds: float = 8) -> float:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds
        await asyncio.sleep(0.01)
    return time.monotonic() - began


@pytest.mark.parametrize("isolation", EITHER)
def test_a_command_where_the_workload_runs(isolation: Isolation, tmp_path: Path) -> None:
    """Its exit code decides, after so many in a row; one that hangs is ended."""
    answer = tmp_path / "answer"
    answer.write_text("exit 1")

    async def scenario() -> None:
        async with sandboxed(tmp_path / "run", isolation) as sandbox:
            network = "" if isolation is Isolation.NONE else (await add_network(sandbox)).name
            probe = Probe(command=("sh", str(answer)), period=0.05, successes=2, failures=2, timeout=0.3)
            watch, told, following = await _follow(sandbox, probe, network)
            await _until(lambda: watch.problem == "sh ended with exit code 1")
            assert told == []
            answer.write_text("exit 0")
            await _until(lambda: told == [True])
            answer.write_text("sleep 60")
            await _until(lambda: told == [True, False])
            assert watch.problem == "sh did not end within 0.3 s"
            answer.write_text("exit 0")
            await _until(lambda: told == [True, False, True])
            following.cancel()
            await asyncio.wait([following])
            await _until(lambda: not sandbox.children)

    asyncio.run(scenario())


def test_it_waits_before_the_first(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with sandboxed(tmp_path / "run", Isolation.NONE) as sandbox:
            began = time.monotonic()
            _, told, following = await _follow(sandbox, Probe(command=("true",), initial_delay=0.6))
            await _until(lambda: told == [True])
            assert time.monotonic() - began > 0.6
            following.cancel()

    asyncio.run(scenario())


def test_what_runs_without_us(tmp_path: Path) -> None:
    """It is healthy once it answers, and unhealthy when it is gone."""

    async def scenario() -> None:
        async with sandboxed(tmp_path / "run", Isolation.NONE) as sandbox:
            port = free_port()
            probe = Probe(check=Check(port=port), period=0.05)
            place = Command(argv=(), env=FrozenMap({"PATH": sys.exec_prefix}))
            resident = Resident(sandbox, "vm", probe, place)
            states: list[ApplicationState] = []
            resident.state.subscribe(states.append)
            running = asyncio.create_task(resident.run())
            await _until(lambda: resident.problem == "Connection refused")
            assert states == [ApplicationState.STARTING]
            server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", port)
            await _until(lambda: states[-1] is ApplicationState.HEALTHY)
            server.close()
            await server.wait_closed()
            await _until(lambda: states[-1] is ApplicationState.UNHEALTHY)
            await resident.stop()
            assert await running == 0

    asyncio.run(scenario())


def _written(probe: dict[str, Any]) -> ReadinessProbe:
    loaded = load_one(resource("WorkloadGroup", {"template": {}, "probe": probe}, "g"))
    (group,) = loaded.config.workload_groups
    assert group.spec.probe is not None
    return group.spec.probe


def test_as_users_write_them() -> None:
    assert probe_of(_written({"tcpSocket": {"port": 1}})) == Probe(
        check=Check(port=1, seconds=1), period=10, successes=1, failures=3
    )
    header = {"name": "x-who", "value": "probe"}
    http = {"httpGet": {"port": 1, "path": "ok", "scheme": "HTTPS", "host": "10.0.0.1", "httpHeaders": [header]}}
    assert probe_of(_written(http)).check == Check(  # type: ignore[union-attr]
        port=1, path="/ok", tls=True, address="10.0.0.1", headers=(("x-who", "probe"),)
    )
    assert probe_of(_written({"grpc": {"port": 1, "service": "s"}})).check == Check(port=1, service="s")  # type: ignore[union-attr]
    times = {
        "initialDelaySeconds": 1,
        "timeoutSeconds": 2,
        "periodSeconds": 3,
        "successThreshold": 4,
        "failureThreshold": 5,
    }
    assert probe_of(_written({"exec": {"command": ["a", "b"]}, **times})) == Probe(
        command=("a", "b"), initial_delay=1, timeout=2, period=3, successes=4, failures=5
    )
    assert probe_of(ReadinessProbe()) is None
