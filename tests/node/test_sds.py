"""Secrets reach a real Envoy over its socket, and change under load without a failed request."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc.aio
import pytest
from cryptography import x509
from envoy.config.core.v3.base_pb2 import DataSource
from envoy.extensions.transport_sockets.tls.v3.common_pb2 import TlsCertificate
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from envoy.service.discovery.v3 import discovery_pb2 as discovery
from google.protobuf.any_pb2 import Any as AnyMessage

from gossamer.ca.authority import Authority, Lifetimes, workload_names
from gossamer.ca.certificates import check_public_key, key_pem, load_chain, new_key
from gossamer.ca.folder import create_authority
from gossamer.ca.spiffe import workload_id
from gossamer.core.errors import StateError
from gossamer.core.resources import SECRET, Resource, version_of
from gossamer.node.identity import WorkloadIdentity, with_roots, workload_identity
from gossamer.node.sds import TRUST, WORKLOAD, SecretSet, serve_secrets

EXTENSIONS = "type.googleapis.com/envoy.extensions"
pytestmark = pytest.mark.envoy


def new_authority(folder: Path) -> Authority:
    return create_authority(folder, "cluster.local", datetime.now(UTC))


def new_identity(authority: Authority, name: str = "web") -> WorkloadIdentity:
    key = new_key()
    workload = workload_id(trust_domain="cluster.local", namespace="default", service_account="web", name=name)
    chain = authority.sign(
        check_public_key(key.public_key(), "key"),
        workload_names(workload),
        now=datetime.now(UTC),
        lifetime=Lifetimes().workload,
        serial=x509.random_serial_number(),
    )
    return workload_identity(key_pem(key), chain, authority.roots_pem)


def serial_of(identity: WorkloadIdentity) -> int:
    return load_chain(identity.chain_pem, "chain")[0].serial_number


def gateway_secret(name: str, identity: WorkloadIdentity) -> Resource:
    """A secret as the control plane serialises it."""
    certificate = TlsCertificate(
        certificate_chain=DataSource(inline_bytes=identity.chain_pem),
        private_key=DataSource(inline_bytes=identity.key_pem),
    )
    value = Secret(name=name, tls_certificate=certificate).SerializeToString()
    body = AnyMessage(type_url=SECRET, value=value).SerializeToString()
    return Resource(type_url=SECRET, name=name, version=version_of(body), body=body)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def bootstrap(folder: Path, port: int, *, api_type: str, certificate: str) -> dict[str, Any]:
    """An Envoy that answers over mutual TLS with what it learns from the socket `sds` in the folder."""

    def secret(name: str) -> dict[str, Any]:
        source = {
            "api_type": api_type,
            "transport_api_version": "V3",
            "grpc_services": [{"envoy_grpc": {"cluster_name": "sds"}}],
        }
        return {"name": name, "sds_config": {"resource_api_version": "V3", "api_config_source": source}}

    tls = {
        "@type": f"{EXTENSIONS}.transport_sockets.tls.v3.DownstreamTlsContext",
        "require_client_certificate": True,
        "common_tls_context": {
            "tls_certificate_sds_secret_configs": [secret(certificate)],
            "validation_context_sds_secret_config": secret(TRUST),
        },
    }
    http = {
        "@type": f"{EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [
                        {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "ok"}}}
                    ],
                }
            ]
        },
        "http_filters": [
            {
                "name": "router",
                "typed_config": {"@type": f"{EXTENSIONS}.filters.http.router.v3.Router"},
            }
        ],
    }
    options = {
        "@type": f"{EXTENSIONS}.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    sds = {
        "name": "sds",
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
        "load_assignment": {
            "cluster_name": "sds",
            "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": str(folder / "sds" / "socket")}}}}]}
            ],
        },
    }
    listener = {
        "name": "tls",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [
            {
                "transport_socket": {"name": "tls", "typed_config": tls},
                "filters": [{"name": "http", "typed_config": http}],
            }
        ],
    }
    return {
        "node": {"id": "test", "cluster": "test"},
        "admin": {"address": {"pipe": {"path": str(folder / "admin")}}},
        "static_resources": {"listeners": [listener], "clusters": [sds]},
    }


@dataclass
class Served:
    """An Envoy under test and the secrets on its socket."""

    secrets: SecretSet
    port: int


@asynccontextmanager
async def serving(
    envoy: Path, secrets: SecretSet, *, api_type: str = "DELTA_GRPC", certificate: str = WORKLOAD
) -> AsyncIterator[Served]:
    with TemporaryDirectory(prefix="sds") as name:
        folder = Path(name)
        port = free_port()
        config = json.dumps(bootstrap(folder, port, api_type=api_type, certificate=certificate))
        async with serve_secrets(folder / "sds" / "socket", secrets):
            command = [str(envoy), "--config-yaml", config, "--concurrency", "1", "--use-dynamic-base-id"]
            with (folder / "log").open("wb") as log:
                process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)
            try:
                yield Served(secrets=secrets, port=port)
            except BaseException:
                print((folder / "log").read_text()[-4000:])
                raise
            finally:
                if process.returncode is None:
                    process.kill()
                await process.wait()


@dataclass
class Client:
    """One TLS connection; `serial` is that of the certificate that the server showed."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    serial: int

    async def get(self) -> int:
        self.writer.write(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n")
        head = await self.reader.readuntil(b"\r\n\r\n")
        await self.reader.readexactly(2)
        return int(head.split()[1])

    def close(self) -> None:
        self.writer.transport.abort()


def context_of(identity: WorkloadIdentity) -> ssl.SSLContext:
    with TemporaryDirectory() as name:
        both = Path(name) / "pem"
        both.write_bytes(identity.key_pem + identity.chain_pem)
        context = ssl.create_default_context(cadata=identity.roots_pem.decode())
        context.load_cert_chain(both)
    return context


NAME = "web.default.workload.cluster.local"


async def connect(port: int, context: ssl.SSLContext) -> Client:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=NAME)
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return Client(reader, writer, x509.load_der_x509_certificate(der).serial_number)


async def connect_when_ready(port: int, context: ssl.SSLContext) -> Client:
    """The first connection that answers, within five seconds."""
    async with asyncio.timeout(5):
        while True:
            try:
                client = await connect(port, context)
                assert await client.get() == 200
            except (OSError, ssl.SSLError, asyncio.IncompleteReadError):
                await asyncio.sleep(0.02)
            else:
                return client


async def until_shown(port: int, context: ssl.SSLContext, serial: int) -> None:
    """Return when a new connection is shown the certificate of this serial number, within five seconds."""
    async with asyncio.timeout(5):
        while True:
            client = await connect(port, context)
            client.close()
            if client.serial == serial:
                return
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("api_type", ["DELTA_GRPC", "GRPC"])
def test_renewal_reaches_new_connections_and_leaves_old_ones(envoy: Path, tmp_path: Path, api_type: str) -> None:
    async def scenario() -> None:
        authority = new_authority(tmp_path / "ca")
        first, second = new_identity(authority), new_identity(authority)
        caller = context_of(new_identity(authority, "caller"))
        secrets = SecretSet()
        async with serving(envoy, secrets, api_type=api_type) as served:
            await asyncio.sleep(0.3)  # Envoy asks before there is anything to give
            secrets.set_identity(first)
            old = await connect_when_ready(served.port, caller)
            assert old.serial == serial_of(first)
            secrets.set_identity(second)
            await until_shown(served.port, caller, serial_of(second))
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
        async with serving(envoy, secrets) as served:
            kept = await connect_when_ready(served.port, caller)
            ending = asyncio.Event()
            turn = asyncio.Lock()

            async def load() -> None:
                nonlocal served_requests
                while not ending.is_set():
                    client = await connect(served.port, caller)
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
        assert served_requests > 100

    asyncio.run(scenario())


def test_two_roots_with_one_name_are_both_trusted(envoy: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        old, new, third = (new_authority(tmp_path / name) for name in ("old", "new", "third"))
        assert old.root.subject == new.root.subject
        for roots in (old.roots_pem + new.roots_pem, new.roots_pem + old.roots_pem):
            secrets = SecretSet()
            secrets.set_identity(with_roots(new_identity(old), roots))
            async with serving(envoy, secrets) as served:
                for authority in (old, new):
                    caller = context_of(with_roots(new_identity(authority, "caller"), roots))
                    (await connect_when_ready(served.port, caller)).close()
                server_of_new = with_roots(new_identity(new), roots)
                secrets.set_identity(server_of_new)
                await until_shown(served.port, caller, serial_of(server_of_new))
                stranger = context_of(with_roots(new_identity(third, "caller"), roots))
                refused = await connect(served.port, stranger)
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
        async with serving(envoy, secrets) as served:
            caller = context_of(with_roots(new_identity(old, "caller"), both))
            (await connect_when_ready(served.port, caller)).close()
            secrets.set_identity(with_roots(identity, new.roots_pem))
            async with asyncio.timeout(5):
                while True:
                    client = await connect(served.port, caller)
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
        async with serving(envoy, secrets, certificate=name) as served:
            secrets.set_named([gateway_secret(name, first)])
            (await connect_when_ready(served.port, caller)).close()
            secrets.set_named([gateway_secret(name, second)])
            await until_shown(served.port, caller, serial_of(second))

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
