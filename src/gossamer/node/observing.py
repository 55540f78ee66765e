"""Envoy's access log service, on the socket of one sidecar: takes what comes, into that sidecar's table.

Invariant: nothing waits for anything. An Envoy that is not listened to for a while drops entries and counts them.
"""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import Any, Final, cast

import grpc
from envoy.service.accesslog.v3.als_pb2 import StreamAccessLogsMessage, StreamAccessLogsResponse

from gossamer.node.seen_entries import Reader
from gossamer.rpc.calls import Context
from gossamer.sources.seen import Observed

_SERVICE: Final = "envoy.service.accesslog.v3.AccessLogService"


def observing_handler(reader: Reader, observed: Observed) -> grpc.GenericRpcHandler:
    """The service, for a server on this sidecar's own socket."""

    async def stream(messages: AsyncIterable[StreamAccessLogsMessage], _: Context) -> StreamAccessLogsResponse:
        log = ""
        async for message in messages:
            log = message.identifier.log_name or log  # the first message of a stream says whose it is
            for entry in reader.entries(message, log):
                observed.add(*entry[:3], lasts=entry.lasts)
        return StreamAccessLogsResponse()

    handler = grpc.stream_unary_rpc_method_handler(
        cast(Any, stream), StreamAccessLogsMessage.FromString, StreamAccessLogsResponse.SerializeToString
    )
    return grpc.method_handlers_generic_handler(_SERVICE, {"StreamAccessLogs": handler})
