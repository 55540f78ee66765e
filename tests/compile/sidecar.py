"""A real Envoy that is a sidecar on loopback: its agent's sockets are served by a thread of the test."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from cryptography import x509
from envoy.config.listener.v3.listener_components_pb2 import Filter
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)

from gossamer.ca.authority import Authority, Lifetimes, workload_names
from gossamer.ca.certificates import check_public_key, key_pem, new_key
from gossamer.ca.folder import create_authority
from gossamer.ca.spiffe import workload_id
from gossamer.compile.bootstrap import BootstrapSettings, compile_bootstrap
from gossamer.compile.draft import Draft
from gossamer.compile.serialise import table_of
from gossamer.core.frozen import FrozenMap
from gossamer.core.latest import Latest
from gossamer.core.memo import Memo
from gossamer.core.resources import LISTENER, SECRET, Resources
from gossamer.model.proxy import Proxy
from gossamer.node.identity import WorkloadIdentity, workload_identity
from gossamer.node.sds import SecretSet, secrets_handler
from gossamer.node.unix_server import serve_private
from gossamer.xds.codec import Node, load_request
from gossamer.xds.messages import Request
from gossamer.xds.service import SERVER_OPTIONS, Authorize, Context, Peer, Service, Subscription
from tests.serving import in_background

DRAIN_S = 2


def issue(authority: Authority, namespace: str, account: str, name: str) -> WorkloadIdentity:
    """An identity as a host's agent gets it."""
    key = new_key()
    workload = workload_id(trust_domain="cluster.local", namespace=namespace, service_account=account, name=name)
    chain = authority.sign(
        check_public_key(key.public_key(), "key"),
        workload_names(workload),
        now=datetime.now(UTC),
        lifetime=Lifetimes().workload,
        serial=x509.random_serial_number(),
    )
    return workload_identity(key_pem(key), chain, authority.roots_pem)


def new_authority(folder: Path) -> Authority:
    return create_authority(folder, "cluster.local", datetime.now(UTC))


def resources_of(drafts: Iterable[Draft]) -> Resources:
    """The drafts as the control plane gives them out, one table a type."""
    drafts, memo = tuple(drafts), Memo()
    types = dict.fromkeys(draft.type_url for draft in drafts)
    return Resources(tables=FrozenMap({url: (table_of(url, drafts, memo),) for url in types}))


def hurried(drafts: Iterable[Draft], seconds: int) -> list[Draft]:
    """The drafts with slots that wait no longer than this for their content."""
    return [_hurried_listener(draft, seconds) if draft.type_url == LISTENER else draft for draft in drafts]


def _hurried_listener(draft: Draft, seconds: int) -> Draft:
    listener = Listener.FromString(draft.message.SerializeToString())
    for chain in listener.filter_chains:
        for part in chain.filters:
            _hurry(part, seconds)
    return replace(draft, message=listener)


def _hurry(part: Filter, seconds: int) -> None:
    manager = HttpConnectionManager()
    if part.HasField("config_discovery"):
        part.config_discovery.config_source.initial_fetch_timeout.FromSeconds(seconds)
    elif part.typed_config.Unpack(manager):
        for inner in manager.http_filters:
            if inner.HasField("config_discovery"):
                inner.config_discovery.config_source.initial_fetch_timeout.FromSeconds(seconds)
        part.typed_config.Pack(manager)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@dataclass
class _Subscription:
    name: str
    latest: Latest[Resources | None]

    def close(self) -> None:
        pass


class _Selective(Service):
    """Leaves requests for some types unread."""

    def __init__(self, authorize: Authorize, silent_about: frozenset[str]) -> None:
        super().__init__(authorize, drain_s=DRAIN_S)
        self._silent_about = silent_about

    async def _run(
        self, subscription: Subscription, request: Request, context: Context, who: tuple[Peer, Node]
    ) -> None:
        deaf: Any = _Deaf(context, self._silent_about)
        await super()._run(subscription, request, deaf, who)


class _Deaf:
    """A stream's context that does not hear requests for some types."""

    def __init__(self, context: Context, silent_about: frozenset[str]) -> None:
        self._context = context
        self._silent_about = silent_about

    async def read(self) -> Any:
        while isinstance(data := await self._context.read(), bytes):
            if load_request(data)[0].type_url not in self._silent_about:
                return data
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


class Agent:
    """Both sockets of one sidecar, served until the block ends;
    `handlers` answer on that of the secrets too. `silent_about` are types that it never answers for."""

    def __init__(
        self,
        folder: Path,
        identity: WorkloadIdentity,
        silent_about: frozenset[str] = frozenset(),
        lent: Iterable[Path] = (),
        handlers: Iterable[grpc.GenericRpcHandler] = (),
    ) -> None:
        self._handlers = tuple(handlers)
        self._silent_about = silent_about
        self.xds_socket, self.sds_socket = folder / "xds.sock", folder / "sds" / "s.sock"
        self._latest: Latest[Resources | None] = Latest(None)
        self._secrets = SecretSet(lent)
        self._secrets.set_identity(identity)
        self._loop = asyncio.new_event_loop()
        self._ready, self._stop = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))

    def __enter__(self) -> Agent:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)
        self._loop.close()

    def publish(self, drafts: Iterable[Draft]) -> None:
        """Offer these, and no others, to Envoy."""
        self.offer(resources_of(drafts))

    def offer(self, resources: Resources) -> None:
        """Offer these, and no others, to Envoy; users' Secrets by the socket that secrets come from."""
        self._loop.call_soon_threadsafe(self._secrets.set_named, tuple(resources.all_of(SECRET)))
        self._loop.call_soon_threadsafe(self._latest.publish, resources)

    async def _serve(self) -> None:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(
                serve_private(self.sds_socket, [secrets_handler(self._secrets), *self._handlers])
            )
            await stack.enter_async_context(self._xds())
            self._ready.set()
            await self._stop.wait()

    @asynccontextmanager
    async def _xds(self) -> AsyncIterator[None]:
        async def authorize(_: Peer, node: Node) -> _Subscription:
            return _Subscription(name=node.id, latest=self._latest)

        service = _Selective(authorize, self._silent_about)
        server = grpc.aio.server(options=SERVER_OPTIONS)
        server.add_generic_rpc_handlers((service.handler(),))
        server.add_insecure_port(f"unix:{self.xds_socket}")
        await server.start()
        try:
            yield
        finally:
            await server.stop(0)


@contextmanager
def running_envoy(envoy: Path, folder: Path, agent: Agent, proxy: Proxy) -> Iterator[subprocess.Popen[bytes]]:
    """Envoy, started as an agent starts it."""
    settings = BootstrapSettings(
        xds_socket=str(agent.xds_socket), sds_socket=str(agent.sds_socket), admin_socket=str(folder / "admin.sock")
    )
    config = folder / "bootstrap.json"
    config.write_text(compile_bootstrap(proxy, settings))
    command = [str(envoy), "-c", str(config), "--use-dynamic-base-id", "--concurrency", "1", "-l", "warning"]
    command += ["--file-flush-interval-msec", "50"]
    command += [
        "--drain-time-s",
        str(DRAIN_S),
        "--drain-strategy",
        "immediate",
        "--log-path",
        str(folder / "envoy.log"),
    ]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("admin", timeout=5)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


def admin(folder: Path, path: str) -> str:
    """The answer of Envoy's admin interface."""
    connection = _UnixConnection(folder / "admin.sock")
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def until(condition: object, what: str, seconds: float = 20) -> None:
    """Wait for a callable to be true; a refused connection counts as not yet."""
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s: {what}")


@dataclass
class Client:
    """A caller with an identity of the mesh, or without one."""

    folder: Path
    identity: WorkloadIdentity | None = None
    alpn: tuple[str, ...] = ("istio-http/1.1",)
    _context: ssl.SSLContext | None = field(default=None, repr=False)

    def over_tcp(self) -> Client:
        """The same caller, to a port that carries no HTTP."""
        return Client(self.folder, self.identity, alpn=("istio-peer-exchange", "istio"))

    def connect(self, port: int) -> socket.socket:
        """A connection to the sidecar, TLS done if there is an identity."""
        plain = socket.create_connection(("127.0.0.1", port), timeout=10)
        if self.identity is None:
            return plain
        try:
            return self._tls().wrap_socket(plain)
        except BaseException:
            plain.close()
            raise

    def http(self, port: int) -> http.client.HTTPConnection:
        """A keep-alive connection."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.sock = self.connect(port)
        return connection

    def refused(self, port: int) -> bool:
        """Whether one HTTP request gets no answer at all: the connection is closed or reset."""
        try:
            connection = self.http(port)
        except OSError:
            return True
        try:
            get(connection)
        except (OSError, http.client.HTTPException):
            return True
        finally:
            connection.close()
        return False

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            assert self.identity is not None
            chain = self.folder / f"{id(self)}.pem"
            chain.write_bytes(self.identity.key_pem + self.identity.chain_pem)
            self._context = context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.load_verify_locations(cadata=self.identity.roots_pem.decode())
            context.load_cert_chain(chain)
            context.set_alpn_protocols(list(self.alpn))
        return self._context


def get(connection: http.client.HTTPConnection, path: str = "/", **headers: str) -> tuple[int, str, dict[str, str]]:
    """Status, body and headers of one request on an open connection."""
    connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    return response.status, response.read().decode(), {k.lower(): v for k, v in response.getheaders()}


class _Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/stream":
            self._stream()
            return
        body = "".join(f"{name.lower()}: {value}\n" for name, value in self.headers.items()).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self) -> None:
        """A line every 50 ms, for as long as somebody listens (a minute at most)."""
        self.send_response(200)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        with contextlib.suppress(OSError):
            for _ in range(1200):
                self.wfile.write(b"3\r\n..\n\r\n")
                time.sleep(0.05)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def http_application() -> Iterator[int]:
    """An application that answers with the headers that it was sent, and `/stream` without end; its port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
    server.daemon_threads = True
    with in_background(server):
        yield server.server_port


@contextmanager
def tcp_application() -> Iterator[int]:
    """An application that greets first and then echoes; its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def serve(connection: socket.socket) -> None:
        with connection:
            connection.sendall(b"hello\n")
            while data := connection.recv(1024):
                connection.sendall(data)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=serve, args=(connection,), daemon=True))
            threads[-1].start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)
