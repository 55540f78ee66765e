"""Secrets reach a real Envoy over its socket, and change under load without a failed request."""

from __future__ import annotations

import asyncio
import ssl
import stat
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc.aio
import pytest
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from envoy.service.discovery.v3 import discovery_pb2 as discovery

from gossamer.core.errors import StateError
from gossamer.node.identity import with_roots
from gossamer.node.sds import TRUST, WORKLOAD, SecretSet, serve_secrets
from tests.node.tls_envoy import (
    connect,
    connect_when_ready,
    context_of,
    gateway_secret,
    new_authority,
    new_identity,
    running,
    serial_of,
    serving,
    until_shown,
)

pytestmark = pytest.mark.envoy


@pytest.mark.parametrize("api_type", ["DELTA_GRPC", "GRPC"])
def test_renewal_reaches_new_connections_and_leaves_old_ones(envoy: Path, tmp_path: Path, api_type: str) -> None:
    async def scenario() -> None:
        authority = new_authority(tmp_path / "ca")
        first, second = new_identity(authority), new_identity(authority)
        caller = context_of(new_identity(authority, "caller"))
        secrets = SecretSet()
        async with serving(envoy, secrets, api_type=api_type) as port:
            await asyncio.sleep(0.3)  # Envoy asks before there is anything to give
            secrets.set_identity(first)
            old = await connect_when_ready(port, caller)
            assert old.serial == serial_of(first)
            secrets.set_identity(second)
            await until_shown(port, caller, serial_of(second))
            assert await old.get() == 200
            old.close()

    asyncio.run(scenario())


def test_renewal_under_load_fails_no_request(envoy: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        authority = new_authority(tmp_path / "ca")
        caller = context_of(new_identity(authority, "caller"))
        secrets = SecretSet()
        secrets.set_identity(new_identity(authority))
        served_requests = 0
        shown: set[int] = set()
        async with serving(envoy, secrets) as port:
            kept = await connect_when_ready(port, caller)
            ending = asyncio.Event()
            turn = asyncio.Lock()

            async def load() -> None:
                nonlocal served_requests
                while not ending.is_set():
                    client = await connect(port, caller)
                    assert await client.get() == 200
                    client.close()
                    shown.add(client.serial)
                    async with turn:
                        assert await kept.get() == 200
                    served_requests += 2

            async with asyncio.TaskGroup() as group:
                for _ in range(4):
                    group.create_task(load())
                for _ in range(10):
                    await asyncio.sleep(0.1)
                    secrets.set_identity(new_identity(authority))
                await asyncio.sleep(0.1)
                ending.set()
            kept.close()
        assert len(shown) >= 8, "renewals were not seen"
        assert served_requests > 20

    asyncio.run(scenario())


def test_an_agent_that_restarts_is_found_again(envoy: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        authority = new_authority(tmp_path / "ca")
        first, second = new_identity(authority), new_identity(authority)
        caller = context_of(new_identity(authority, "caller"))
        with TemporaryDirectory(prefix="sds") as name:
            socket_path = Path(name) / "sds" / "socket"
            async with running(envoy, Path(name)) as port:
                secrets = SecretSet()
                secrets.set_identity(first)
                async with serve_secrets(socket_path, secrets):
                    old = await connect_when_ready(port, caller)
                alone = await connect(port, caller)
                assert (alone.serial, await alone.get()) == (serial_of(first), 200)
                alone.close()
                secrets = SecretSet()
                secrets.set_identity(second)
                async with serve_secrets(socket_path, secrets):
                    await until_shown(port, caller, serial_of(second))
                assert await old.get() == 200
                old.close()

    asyncio.run(scenario())


def test_two_roots_with_one_name_are_both_trusted(envoy: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        old, new, third = (new_authority(tmp_path / name) for name in ("old", "new", "third"))
        assert old.root.subject == new.root.subject
        for roots in (old.roots_pem + new.roots_pem, new.roots_pem + old.roots_pem):
            secrets = SecretSet()
            secrets.set_identity(with_roots(new_identity(old), roots))
            async with serving(envoy, secrets) as port:
                for authority in (old, new):
                    caller = context_of(with_roots(new_identity(authority, "caller"), roots))
                    (await connect_when_ready(port, caller)).close()
                server_of_new = with_roots(new_identity(new), roots)
                secrets.set_identity(server_of_new)
                await until_shown(port, caller, serial_of(server_of_new))
                stranger = context_of(with_roots(new_identity(third, "caller"), roots))
                refused = await connect(port, stranger)
                with pytest.raises((ssl.SSLError, OSError, asyncio.IncompleteReadError)):
                    await refused.get()
                refused.close()

    asyncio.run(scenario())


def test_a_root_taken_out_is_trusted_no_more(envoy: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        old, new = new_authority(tmp_path / "old"), new_authority(tmp_path / "new")
        both = old.roots_pem + new.roots_pem
        identity = with_roots(new_identity(new), both)
        secrets = SecretSet()
        secrets.set_identity(identity)
        async with serving(envoy, secrets) as port:
            caller = context_of(with_roots(new_identity(old, "caller"), both))
            (await connect_when_ready(port, caller)).close()
            secrets.set_identity(with_roots(identity, new.roots_pem))
            async with asyncio.timeout(5):
                while True:
                    client = await connect(port, caller)
                    try:
                        await client.get()
                    except (ssl.SSLError, OSError, asyncio.IncompleteReadError):
                        break
                    finally:
                        client.close()

    asyncio.run(scenario())


def test_gateway_credentials_stand_beside_the_identity(envoy: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        authority = new_authority(tmp_path / "ca")
        first, second = new_identity(authority), new_identity(authority)
        caller = context_of(new_identity(authority, "caller"))
        secrets = SecretSet()
        secrets.set_identity(new_identity(authority))
        name = "kubernetes://bookinfo-credential"
        async with serving(envoy, secrets, certificate=name) as port:
            secrets.set_named([gateway_secret(name, first)])
            (await connect_when_ready(port, caller)).close()
            secrets.set_named([gateway_secret(name, second)])
            await until_shown(port, caller, serial_of(second))

    asyncio.run(scenario())


DELTA = "/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets"
FETCH = "/envoy.service.secret.v3.SecretDiscoveryService/FetchSecrets"


def test_a_socket_has_its_own_secrets_and_permissions(tmp_path: Path) -> None:
    async def scenario() -> None:
        authority = new_authority(tmp_path / "ca")
        mine, other = SecretSet(), SecretSet()
        mine.set_identity(new_identity(authority))
        with TemporaryDirectory(prefix="sds") as name:
            mine_path, other_path = Path(name) / "mine" / "s", Path(name) / "other" / "s"
            async with serve_secrets(mine_path, mine), serve_secrets(other_path, other):
                for path in (mine_path, other_path):
                    assert stat.S_IMODE(path.stat().st_mode) == 0o600
                    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
                assert await fetch(mine_path, WORKLOAD, TRUST) == [TRUST, WORKLOAD]
                assert await fetch(other_path, WORKLOAD, TRUST) == []
            assert not mine_path.exists()

    asyncio.run(scenario())


async def fetch(path: Path, *names: str) -> list[str]:
    async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
        call = channel.unary_unary(
            FETCH, discovery.DiscoveryRequest.SerializeToString, discovery.DiscoveryResponse.FromString
        )
        response = await call(discovery.DiscoveryRequest(resource_names=names))
    return [Secret.FromString(resource.value).name for resource in response.resources]


def test_a_returning_envoy_is_sent_only_what_it_lacks(tmp_path: Path) -> None:
    async def scenario() -> None:
        authority = new_authority(tmp_path / "ca")
        secrets = SecretSet()
        secrets.set_identity(new_identity(authority))
        with TemporaryDirectory(prefix="sds") as name:
            path = Path(name) / "s"
            async with serve_secrets(path, secrets), grpc.aio.insecure_channel(f"unix:{path}") as channel:
                call = channel.stream_stream(
                    DELTA,
                    discovery.DeltaDiscoveryRequest.SerializeToString,
                    discovery.DeltaDiscoveryResponse.FromString,
                )
                stream = call()
                held = {TRUST: secrets.latest.value[TRUST].version}
                await stream.write(
                    discovery.DeltaDiscoveryRequest(
                        resource_names_subscribe=[WORKLOAD, TRUST, "unknown"], initial_resource_versions=held
                    )
                )
                first = await stream.read()
                assert isinstance(first, discovery.DeltaDiscoveryResponse)
                assert [resource.name for resource in first.resources] == [WORKLOAD]
                assert not first.removed_resources
                secrets.set_named([gateway_secret("unknown", new_identity(authority))])
                second = await stream.read()
                assert isinstance(second, discovery.DeltaDiscoveryResponse)
                assert [resource.name for resource in second.resources] == ["unknown"]
                assert second.nonce != first.nonce
                stream.cancel()

    asyncio.run(scenario())


def test_the_control_plane_cannot_replace_the_identity(tmp_path: Path) -> None:
    authority = new_authority(tmp_path / "ca")
    secrets = SecretSet()
    secrets.set_identity(new_identity(authority))
    own = secrets.latest.value[WORKLOAD]
    secrets.set_named([gateway_secret(WORKLOAD, new_identity(authority))])
    assert secrets.latest.value[WORKLOAD] == own


def test_a_long_path_is_refused_with_its_reason(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serve_secrets(tmp_path / ("x" * 100) / "socket", SecretSet()):
            pass

    with pytest.raises(StateError, match="too long for a UNIX socket"):
        asyncio.run(scenario())


def test_what_is_shown_of_an_identity_has_no_key(tmp_path: Path) -> None:
    identity = new_identity(new_authority(tmp_path / "ca"))
    assert "PRIVATE" not in repr(identity)
    assert "PRIVATE" in identity.key_pem.decode()
    assert repr(replace(identity, key_pem=b"x")) == repr(identity)
