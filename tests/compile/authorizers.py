"""Small external authorizers, over gRPC and over HTTP, for tests with a real Envoy: `x-user: good` may pass."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse
from envoy.type.v3.http_status_pb2 import HttpStatus, StatusCode
from google.rpc.status_pb2 import Status

from tests.serving import in_background


@dataclass
class GrpcAuthorizer:
    """`asked` are the requests for decisions. Connections are let in while `admits`."""

    port: int = 0
    admits: bool = True
    asked: list[CheckRequest] = field(default_factory=list)

    def check(self, request: CheckRequest, _: grpc.ServicerContext) -> CheckResponse:
        self.asked.append(request)
        http = request.attributes.request.http
        good = http.headers.get("x-user") == "good" if http.method else self.admits
        if good:
            return CheckResponse(status=Status(code=0), ok_response=OkHttpResponse())
        denied = DeniedHttpResponse(status=HttpStatus(code=StatusCode.Unauthorized), body="not you")
        return CheckResponse(status=Status(code=7), denied_response=denied)


@contextmanager
def grpc_authorizer() -> Iterator[GrpcAuthorizer]:
    found = GrpcAuthorizer()
    server = grpc.server(ThreadPoolExecutor(2))
    method = grpc.unary_unary_rpc_method_handler(
        found.check,
        request_deserializer=CheckRequest.FromString,
        response_serializer=CheckResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("envoy.service.auth.v3.Authorization", {"Check": method}),)
    )
    found.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield found
    finally:
        server.stop(0).wait(5)


@dataclass
class HttpAuthorizer:
    """`asked` are paths and headers of the requests for decisions."""

    port: int = 0
    asked: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)


@contextmanager
def http_authorizer() -> Iterator[HttpAuthorizer]:
    found = HttpAuthorizer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            found.asked.append((self.path, headers, body))
            self.send_response(200 if headers.get("x-user") == "good" else 403)
            self.send_header("x-decided-by", "authorizer")
            self.send_header("x-for-upstream", "yes")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found.port = server.server_port
    with in_background(server):
        yield found
