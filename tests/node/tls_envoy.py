"""An Envoy that takes mutual TLS with secrets from a socket, clients for it, and identities for both."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cryptography import x509
from envoy.config.core.v3.base_pb2 import DataSource
from envoy.extensions.transport_sockets.tls.v3.common_pb2 import TlsCertificate
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from google.protobuf.any_pb2 import Any as AnyMessage

from gossamer.ca.authority import Authority, Lifetimes, workload_names
from gossamer.ca.certificates import check_public_key, key_pem, load_chain, new_key
from gossamer.ca.folder import create_authority
from gossamer.ca.spiffe import workload_id
from gossamer.core.resources import SECRET, Resource, version_of
from gossamer.node.identity import WorkloadIdentity, workload_identity
from gossamer.node.sds import TRUST, WORKLOAD, SecretSet, serve_secrets

EXTENSIONS = "type.googleapis.com/envoy.extensions"


def new_authority(folder: Path) -> Authority:
    return create_authority(folder, "cluster.local", datetime.now(UTC))


def new_identity(authority: Authority, name: str = "web", *, trust_domain: str = "cluster.local") -> WorkloadIdentity:
    key = new_key()
    workload = workload_id(trust_domain=trust_domain, namespace="default", service_account="web", name=name)
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


def bootstrap(folder: Path, port: int, *, api_type: str, certificate: str, peers: str = "") -> dict[str, Any]:
    """An Envoy that answers over mutual TLS with what it learns from the socket `sds` in the folder; `peers` is how the
    names of those begin whom it lets in."""

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
    if peers:
        common = tls["common_tls_context"]
        assert isinstance(common, dict)
        match = {"san_type": "URI", "matcher": {"prefix": peers}}
        common["combined_validation_context"] = {
            "default_validation_context": {"match_typed_subject_alt_names": [match]},
            "validation_context_sds_secret_config": common.pop("validation_context_sds_secret_config"),
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


@asynccontextmanager
async def running(
    envoy: Path, folder: Path, *, api_type: str = "DELTA_GRPC", certificate: str = WORKLOAD, peers: str = ""
) -> AsyncIterator[int]:
    """An Envoy and its port; its secrets come from the folder's socket, whenever that is there."""
    port = free_port()
    config = json.dumps(bootstrap(folder, port, api_type=api_type, certificate=certificate, peers=peers))
    command = [str(envoy), "--config-yaml", config, "--concurrency", "1", "--use-dynamic-base-id"]
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)
    try:
        yield port
    except BaseException:
        print((folder / "log").read_text()[-4000:])
        raise
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@asynccontextmanager
async def serving(
    envoy: Path, secrets: SecretSet, *, api_type: str = "DELTA_GRPC", certificate: str = WORKLOAD, peers: str = ""
) -> AsyncIterator[int]:
    """An Envoy that has these secrets, and its port."""
    with TemporaryDirectory(prefix="sds") as name:
        folder = Path(name)
        async with (
            serve_secrets(folder / "sds" / "socket", secrets),
            running(envoy, folder, api_type=api_type, certificate=certificate, peers=peers) as port,
        ):
            yield port


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
    """Return when a new connection is shown the certificate of this serial number, within ten seconds."""
    async with asyncio.timeout(10):
        while True:
            client = await connect(port, context)
            client.close()
            if client.serial == serial:
                return
            await asyncio.sleep(0.01)
