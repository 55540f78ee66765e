"""The methods of gossamer.proto, typed, for grpc.aio on both sides.

Each constant below joins a method's wire name with its messages, so that a server's function and a client's call cannot
disagree with the .proto: a test holds the constants to its descriptor.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeAlias, TypeVar, cast

import grpc
import grpc.aio
from google.protobuf.message import Message

from gossamer.rpc import gossamer_pb2 as pb

PACKAGE: Final = "gossamer.v1"
Q = TypeVar("Q", bound=Message)
R = TypeVar("R", bound=Message)
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


@dataclass(frozen=True, slots=True)
class _Method(Generic[Q, R]):
    service: str
    name: str
    request: type[Q]
    response: type[R]

    @property
    def path(self) -> str:
        return f"/{PACKAGE}.{self.service}/{self.name}"

    def _codecs(self) -> tuple[Callable[[bytes], Q], Callable[[R], bytes]]:
        return self.request.FromString, self.response.SerializeToString


class Unary(_Method[Q, R]):
    """One request, one response."""

    def serve(self, function: Callable[[Q, Context], Awaitable[R]]) -> grpc.RpcMethodHandler[Q, R]:
        return grpc.unary_unary_rpc_method_handler(cast(Any, function), *self._codecs())

    def call(self, channel: grpc.aio.Channel) -> grpc.aio.UnaryUnaryMultiCallable[Q, R]:
        return channel.unary_unary(self.path, self.request.SerializeToString, self.response.FromString)


class ServerStream(_Method[Q, R]):
    """One request, a stream of responses. grpc.aio wants an async generator function, by itself or a bound method."""

    def serve(self, function: Callable[[Q, Context], AsyncIterator[R]]) -> grpc.RpcMethodHandler[Q, R]:
        return grpc.unary_stream_rpc_method_handler(cast(Any, function), *self._codecs())

    def call(self, channel: grpc.aio.Channel) -> grpc.aio.UnaryStreamMultiCallable[Q, R]:
        return channel.unary_stream(self.path, self.request.SerializeToString, self.response.FromString)


class Duplex(_Method[Q, R]):
    """A stream of requests, a stream of responses; served by an async generator function, as a `ServerStream` is."""

    def serve(self, function: Callable[[AsyncIterable[Q], Context], AsyncIterator[R]]) -> grpc.RpcMethodHandler[Q, R]:
        return grpc.stream_stream_rpc_method_handler(cast(Any, function), *self._codecs())

    def call(self, channel: grpc.aio.Channel) -> grpc.aio.StreamStreamMultiCallable[Q, R]:
        return channel.stream_stream(self.path, self.request.SerializeToString, self.response.FromString)


def service(name: str, methods: Mapping[_Method[Any, Any], grpc.RpcMethodHandler[Any, Any]]) -> grpc.GenericRpcHandler:
    """What `Server.add_generic_rpc_handlers` takes: the service of this name, answered by `METHOD.serve(function)`."""
    return grpc.method_handlers_generic_handler(f"{PACKAGE}.{name}", {m.name: serve for m, serve in methods.items()})


JOIN: Final = Unary("Join", "Join", pb.JoinRequest, pb.JoinResponse)
SIGN: Final = Unary("Certificates", "Sign", pb.SignRequest, pb.SignResponse)
RENEW_HOST: Final = Unary("Certificates", "RenewHost", pb.RenewHostRequest, pb.RenewHostResponse)
WATCH_TRUST: Final = ServerStream("Certificates", "WatchTrust", pb.WatchTrustRequest, pb.TrustBundle)
CONFIRM_TRUST: Final = Unary("Certificates", "ConfirmTrust", pb.ConfirmTrustRequest, pb.ConfirmTrustResponse)
REGISTER: Final = Duplex("Registry", "Register", pb.RegisterRequest, pb.RegisterResponse)
DEREGISTER: Final = Unary("Registry", "Deregister", pb.DeregisterRequest, pb.DeregisterResponse)
REPORT: Final = Unary("Registry", "Report", pb.ReportRequest, pb.ReportResponse)
OBSERVE: Final = Unary("Registry", "Observe", pb.ObserveRequest, pb.ObserveResponse)
DESCRIBE_GROUP: Final = Unary("Registry", "DescribeGroup", pb.DescribeGroupRequest, pb.DescribeGroupResponse)
SIGN_TOKEN: Final = Unary("Tokens", "SignToken", pb.SignTokenRequest, pb.SignTokenResponse)
WATCH_TOKEN_KEYS: Final = ServerStream("Tokens", "WatchTokenKeys", pb.WatchTokenKeysRequest, pb.TokenKeys)
METHODS: Final[tuple[_Method[Any, Any], ...]] = (
    *(JOIN, SIGN, RENEW_HOST, WATCH_TRUST, CONFIRM_TRUST, REGISTER, DEREGISTER, REPORT, OBSERVE, DESCRIBE_GROUP),
    *(SIGN_TOKEN, WATCH_TOKEN_KEYS),
)
