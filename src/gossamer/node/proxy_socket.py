"""The one UNIX socket between an Envoy and its agent: configuration and secrets, and what it has seen; for it alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import grpc
import grpc.aio

from gossamer.core.latest import Latest
from gossamer.node.host import Host
from gossamer.node.identity import WorkloadIdentity
from gossamer.node.identity_client import open_channel
from gossamer.node.relay import UPSTREAM_OPTIONS, Relay, RelaySettings
from gossamer.node.sds import SecretSet, secrets_handler
from gossamer.node.sidecar_settings import drain_seconds
from gossamer.node.unix_server import serve_private
from gossamer.node.workload import WorkloadSpec

_TOLD_S: Final = 0.5
"""How long the first connection waits until the control plane has this workload in its registry: who is not, is sent
away. Envoy waits for none of it when there is a last copy."""
_FILES_S: Final = 10.0
"""How often certificates that configuration names as files are looked at."""


@asynccontextmanager
async def serving_envoy(
    host: Host,
    spec: WorkloadSpec,
    identity: Latest[WorkloadIdentity],
    secrets: SecretSet,
    observing: grpc.GenericRpcHandler,
) -> AsyncIterator[tuple[Path, Relay]]:
    """Serve one Envoy while the context lasts; yields the socket's path, and what stands between. `observing` takes
    what the Envoy tells of what comes in."""
    socket = host.settings.runtime / "proxies" / spec.slug / "agent.sock"

    def connect() -> grpc.aio.Channel:
        return open_channel(host.settings.control_plane, identity.value, UPSTREAM_OPTIONS)

    relay = Relay(
        RelaySettings(name=spec.slug, drain_s=drain_seconds(host, spec), node_id=f"agent~{spec.slug}"),
        host.store,
        connect,
        host.chance,
        secrets.set_named,
    )

    async def run() -> None:
        await host.registration.told(_TOLD_S)
        await relay.run()

    unsubscribe = identity.subscribe(lambda _: relay.refresh())
    try:
        async with (
            serve_private(socket, [relay.handler(), secrets_handler(secrets), observing]),
            asyncio.TaskGroup() as group,
        ):
            tasks = [group.create_task(run()), group.create_task(_refresh_files(secrets))]
            try:
                yield socket, relay
            finally:
                for task in tasks:
                    task.cancel()
    finally:
        unsubscribe()


async def _refresh_files(secrets: SecretSet) -> None:
    while True:
        await asyncio.sleep(_FILES_S)
        secrets.refresh_files()
