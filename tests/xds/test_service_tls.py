"""Who a proxy is, over mutual TLS: what the authorizer is told comes from the certificate alone."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gossamer.core.resources import CLUSTER
from gossamer.xds.codec import METHOD, encode_request
from gossamer.xds.messages import Request
from gossamer.xds.service import SERVER_OPTIONS
from tests.xds.model import cluster, resources
from tests.xds.test_service import Mesh, get, run


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key."""

    name: x509.Name
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> tuple[bytes, bytes]:
        key = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return key, self.certificate.public_bytes(serialization.Encoding.PEM)


def issue(name: str, issuer: Pair | None, *names: x509.GeneralName) -> Pair:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.name if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return Pair(subject, key, builder.sign(issuer.key if issuer else key, hashes.SHA256()))


ID, DNS = "spiffe://cluster.local/ns/shop/sa/web", "web.shop.workload.cluster.local"


@pytest.fixture(scope="module")
def root() -> Pair:
    return issue("root", None)


def test_a_proxy_is_who_its_certificate_says(root: Pair) -> None:
    server_pair = issue("server", root, x509.DNSName("localhost"))
    client = issue("client", root, x509.UniformResourceIdentifier(ID), x509.DNSName(DNS))

    async def test() -> None:
        mesh = Mesh(resources(cluster("a")))
        server = grpc.aio.server(options=SERVER_OPTIONS)
        server.add_generic_rpc_handlers([mesh.service.handler()])
        credentials = grpc.ssl_server_credentials([server_pair.pem], root.pem[1], require_client_auth=True)
        port = server.add_secure_port("127.0.0.1:0", credentials)
        await server.start()
        options = [("grpc.ssl_target_name_override", "localhost")]
        mine = grpc.ssl_channel_credentials(root.pem[1], *client.pem)
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", mine, options) as channel:
            call: grpc.aio.StreamStreamCall[bytes, bytes] = channel.stream_stream(METHOD)()
            await call.write(encode_request(Request(type_url=CLUSTER)))
            await get(call)
        (peer, _) = mesh.seen[0]
        assert (peer.uris, peer.dns_names) == ((ID,), (DNS,))

        nobody = grpc.ssl_channel_credentials(root.pem[1])
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", nobody, options) as channel:
            refused: grpc.aio.StreamStreamCall[bytes, bytes] = channel.stream_stream(METHOD)()
            with pytest.raises(grpc.aio.AioRpcError):
                await asyncio.wait_for(refused.wait_for_connection(), 5)
        assert len(mesh.seen) == 1  # who has no certificate is not even asked who it is
        await server.stop(0)

    run(test)
