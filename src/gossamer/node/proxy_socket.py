"""The one UNIX socket between an Envoy and its agent: configuration and secrets, for this Envoy alone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import grpc
import grpc.aio

from gossamer.core.latest import Latest
from gossamer.node.host import Host
from gossamer.node.identity import WorkloadIdentity
from gossamer.node.identity_client import open_channel
from gossamer.node.sds import SecretSet, secrets_handler, serve_private
from gossamer.node.workload import WorkloadSpec

METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"


@asynccontextmanager
async def serving_envoy(
    host: Host, spec: WorkloadSpec, identity: Latest[WorkloadIdentity], secrets: SecretSet
) -> AsyncIterator[Path]:
    """Serve one Envoy while the context lasts; yields the socket's path."""
    socket = host.settings.runtime / "proxies" / spec.slug / "agent.sock"

    async def pipe(_: Any, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        async with open_channel(host.settings.control_plane, identity.value) as channel:
            call = channel.stream_stream(METHOD)()

            async def up() -> None:
                while isinstance(data := await context.read(), bytes):
                    await call.write(data)

            pump = asyncio.create_task(up())
            with contextlib.suppress(grpc.aio.AioRpcError):
                while (data := await call.read()) is not grpc.aio.EOF:
                    await context.write(cast(bytes, data))
            pump.cancel()

    service, _, method = METHOD.lstrip("/").partition("/")
    handler = grpc.method_handlers_generic_handler(
        service, {method: grpc.stream_stream_rpc_method_handler(cast(Any, pipe))}
    )
    async with serve_private(socket, [handler, secrets_handler(secrets)]):
        yield socket
