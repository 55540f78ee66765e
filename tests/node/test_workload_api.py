"""SPIFFE's Workload API as a client library of SPIFFE's own finds it: identities of the application's, and pushed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from spiffe import JwtBundleSet, SpiffeId, WorkloadApiClient, X509Source
from spiffe.svid.jwt_svid import JwtSvid
from spiffe.workloadapi.errors import FetchJwtSvidError, FetchX509SvidError, ValidateJwtSvidError

from gossamer.ca.authority import Authority, Lifetimes
from gossamer.ca.bundle import Beside
from gossamer.ca.folder import create_authority
from gossamer.ca.peer import read_peer
from gossamer.ca.revocation import Kind, Revocation, Revocations, build_list
from gossamer.ca.spiffe import WorkloadId, workload_id
from gossamer.core.errors import IdentityError
from gossamer.node.identity_client import join
from gossamer.node.identity_files import IdentityFiles
from gossamer.node.identity_renewal import Identities, Surroundings
from gossamer.node.workload_api import WorkloadApi
from gossamer.rpc import workload_api_pb2 as api
from tests.ca.plane import TRUST_DOMAIN, Plane, serve_plane

T = TypeVar("T")
SPIFFE_ID = "spiffe://cluster.local/ns/shop/sa/cart"


def cart() -> WorkloadId:
    return workload_id(trust_domain=TRUST_DOMAIN, namespace="shop", service_account="cart", name="cart-1")


@dataclass
class Served:
    """A workload's API on a socket, and the control plane behind it."""

    plane: Plane
    identities: Identities
    socket: Path

    @property
    def endpoint(self) -> str:
        return f"unix://{self.socket}"

    async def ask(self, question: Callable[[WorkloadApiClient], T]) -> T:
        """What the client library makes of the answer."""

        def asked() -> T:
            with WorkloadApiClient(self.endpoint) as client:
                return question(client)

        return await asyncio.to_thread(asked)


@asynccontextmanager
async def served(folder: Path, lifetimes: Lifetimes | None = None, grant: str = "shop/*") -> AsyncIterator[Served]:
    async with serve_plane(folder / "plane", lifetimes=lifetimes) as plane:
        files = IdentityFiles(folder / "agent")
        host = await join(plane.join, plane.token("vm-1", grant), files)
        identities = Identities(plane.mutual, files, host, Surroundings(chance=lambda: 0.0))
        task = asyncio.create_task(identities.serve())
        await asyncio.sleep(0)
        server = grpc.aio.server()
        own = await identities.add(cart()) if grant == "shop/*" else identities.host
        server.add_generic_rpc_handlers(
            [WorkloadApi(workload=cart(), lender=identities.lender, identity=own, trust=identities.trust).handler()]
        )
        socket = folder / "spiffe.sock"
        server.add_insecure_port(f"unix:{socket}")
        await server.start()
        try:
            yield Served(plane, identities, socket)
        finally:
            await server.stop(0)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def with_api(
    scenario: Callable[[Served], Awaitable[None]],
    folder: Path,
    lifetimes: Lifetimes | None = None,
    grant: str = "shop/*",
) -> None:
    async def run() -> None:
        async with asyncio.timeout(60), served(folder, lifetimes, grant) as found:
            await scenario(found)

    asyncio.run(run())


def test_an_application_gets_an_identity_of_its_own(tmp_path: Path) -> None:
    async def scenario(found: Served) -> None:
        svid = await found.ask(lambda client: client.fetch_x509_svid())
        assert str(svid.spiffe_id) == SPIFFE_ID
        bundles = await found.ask(lambda client: client.fetch_x509_bundles())
        bundle = bundles.get_bundle_for_trust_domain(svid.spiffe_id.trust_domain)
        assert bundle is not None
        (root,) = bundle.x509_authorities
        assert root == found.plane.authority.value.root
        svid.leaf.verify_directly_issued_by(root)
        sidecar = (await found.identities.add(cart())).value
        key = svid.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        assert key != sidecar.key_pem, "its sidecar's key stays where it is"
        again = await found.ask(lambda client: client.fetch_x509_context())
        assert again.default_svid.leaf == svid.leaf
        names = svid.leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert list(names) == [x509.UniformResourceIdentifier(SPIFFE_ID)]
        with pytest.raises(IdentityError, match="not a host's identity"):
            read_peer(svid.leaf.public_bytes(Encoding.PEM), TRUST_DOMAIN)
        for path in tmp_path.rglob("*.json"):
            assert key not in path.read_bytes(), "it is on no disk"

    with_api(scenario, tmp_path)


def test_who_streams_is_told_of_a_new_identity_and_of_new_roots(tmp_path: Path) -> None:
    async def scenario(found: Served) -> None:
        source = await asyncio.to_thread(lambda: X509Source(socket_path=found.endpoint, timeout_in_seconds=20))
        try:
            news = threading.Semaphore(0)
            source.subscribe_for_updates(news.release)
            first, before = source.get_x509_context().default_svid.leaf, found.plane.authority.value
            other = create_authority(tmp_path / "other", TRUST_DOMAIN, datetime.now(UTC))
            roots = (before.root, other.root)
            found.plane.authority.publish(
                Authority(trust_domain=TRUST_DOMAIN, issuer=other.issuer, chain=(), root=other.root, roots=roots)
            )
            while (svid := source.get_x509_context().default_svid).leaf == first:
                assert await asyncio.to_thread(news.acquire, timeout=20)
            svid.leaf.verify_directly_issued_by(other.root)
            bundle = source.get_bundle_for_trust_domain(svid.spiffe_id.trust_domain)
            assert bundle is not None
            assert bundle.x509_authorities == set(roots)
        finally:
            await asyncio.to_thread(source.close)

    with_api(scenario, tmp_path)


def test_who_streams_is_told_of_what_was_revoked_and_gets_another_identity_for_its_own(tmp_path: Path) -> None:
    async def scenario(found: Served) -> None:
        async with grpc.aio.insecure_channel(f"unix:{found.socket}") as channel:
            call: Any = channel.unary_stream(
                "/SpiffeWorkloadAPI/FetchX509SVID",
                request_serializer=api.X509SVIDRequest.SerializeToString,
                response_deserializer=api.X509SVIDResponse.FromString,
            )(api.X509SVIDRequest(), metadata=(("workload.spiffe.io", "true"),))
            first = await call.read()
            assert list(first.crl) == []
            serial = x509.load_der_x509_certificate(first.svids[0].x509_svid).serial_number
            now, authority = datetime.now(UTC), found.plane.authority.value
            revoked = Revocation(
                kind=Kind.SERIAL, name=f"{serial:x}", when=now, serials=((serial, now + timedelta(hours=1)),)
            )
            listed = build_list(authority.issuer, Revocations(entries=(revoked,)), now, 1)
            found.plane.service.beside.publish(Beside(verify_pem=authority.roots_pem + listed))
            while (response := await call.read()).svids[0].x509_svid == first.svids[0].x509_svid:
                pass
            (told,) = response.crl
            assert [entry.serial_number for entry in x509.load_der_x509_crl(told)] == [serial]

    with_api(scenario, tmp_path)


def test_an_identity_is_renewed_when_it_is_due(tmp_path: Path) -> None:
    async def scenario(found: Served) -> None:
        lent = await found.identities.lender.lend(cart())
        old = lent.value
        assert old.not_after - old.not_before <= timedelta(seconds=70)
        assert await found.identities.lender.lend(cart()) is lent
        found.identities.lender.take_back(cart())
        assert (await found.identities.lender.lend(cart())).value.key_pem != old.key_pem

    with_api(scenario, tmp_path, Lifetimes(workload=timedelta(minutes=1)))


def test_tokens_are_signed_and_verified(tmp_path: Path) -> None:
    async def scenario(found: Served) -> None:
        svid = await found.ask(lambda client: client.fetch_jwt_svid({"billing", "ledger"}))
        assert (str(svid.spiffe_id), svid.audience) == (SPIFFE_ID, {"billing", "ledger"})
        assert 0 < svid.expiry - datetime.now(UTC).timestamp() <= 300
        bundles: JwtBundleSet = await found.ask(lambda client: client.fetch_jwt_bundles())
        bundle = bundles.get_bundle_for_trust_domain(svid.spiffe_id.trust_domain)
        assert bundle is not None
        assert JwtSvid.parse_and_validate(svid.token, bundle, {"billing"}).spiffe_id == svid.spiffe_id
        validated = await found.ask(lambda client: client.validate_jwt_svid(svid.token, "ledger"))
        assert str(validated.spiffe_id) == SPIFFE_ID
        head, body, signature = svid.token.split(".")
        for token, audience in ((svid.token, "other"), (f"{head}.{body}.{signature[::-1]}", "ledger"), ("a.b.c", "x")):
            with pytest.raises(ValidateJwtSvidError):
                await found.ask(partial(WorkloadApiClient.validate_jwt_svid, token=token, audience=audience))

    with_api(scenario, tmp_path)


def test_an_application_is_nobody_else(tmp_path: Path) -> None:
    async def scenario(found: Served) -> None:
        other = "spiffe://cluster.local/ns/shop/sa/admin"
        own = await found.ask(lambda client: client.fetch_jwt_svid({"x"}, SpiffeId(SPIFFE_ID)))
        assert str(own.spiffe_id) == SPIFFE_ID
        request = api.JWTSVIDRequest(audience=["x"], spiffe_id=other)
        error = await raw(found, "FetchJWTSVID", request)
        assert (error.code(), error.details()) == (grpc.StatusCode.PERMISSION_DENIED, f"this workload is {SPIFFE_ID}")
        none = await raw(found, "FetchJWTSVID", api.JWTSVIDRequest())
        assert none.code() is grpc.StatusCode.INVALID_ARGUMENT
        many = await raw(found, "FetchJWTSVID", api.JWTSVIDRequest(audience=["x"] * 17))
        assert many.code() is grpc.StatusCode.PERMISSION_DENIED

    with_api(scenario, tmp_path)


def test_a_host_that_may_not_run_it_lends_it_nothing(tmp_path: Path) -> None:
    async def scenario(found: Served) -> None:
        for question, error in (
            (lambda client: client.fetch_x509_svid(), FetchX509SvidError),
            (lambda client: client.fetch_jwt_svid({"x"}), FetchJwtSvidError),
        ):
            with pytest.raises(error, match="may not run shop/cart"):
                await found.ask(question)

    with_api(scenario, tmp_path, grant="other/*")


def test_a_caller_without_the_header_is_sent_away(tmp_path: Path) -> None:
    async def scenario(found: Served) -> None:
        for name, request in (
            ("FetchX509SVID", api.X509SVIDRequest()),
            ("FetchX509Bundles", api.X509BundlesRequest()),
            ("FetchJWTSVID", api.JWTSVIDRequest(audience=["x"])),
            ("FetchJWTBundles", api.JWTBundlesRequest()),
            ("ValidateJWTSVID", api.ValidateJWTSVIDRequest(audience="x", svid="y")),
        ):
            for metadata in ((), (("workload.spiffe.io", "false"),)):
                error = await raw(found, name, request, metadata)
                assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
                assert "security header missing" in str(error.details())

    with_api(scenario, tmp_path)


def test_while_the_control_plane_is_away_who_asks_is_told_to_come_again(tmp_path: Path) -> None:
    async def scenario(found: Served) -> None:
        await found.ask(lambda client: client.fetch_x509_svid())
        found.identities.lender.take_back(cart())
        await found.identities._connected().close()
        found.identities._address = "127.0.0.1:1"
        found.identities._client = None
        error = await raw(found, "FetchX509SVID", api.X509SVIDRequest(), (("workload.spiffe.io", "true"),))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        bundles = await found.ask(lambda client: client.fetch_x509_bundles())
        assert len(bundles.bundles) == 1, "what is trusted is known all the same"

    with_api(scenario, tmp_path)


async def raw(
    found: Served, name: str, request: Any, metadata: tuple[tuple[str, str], ...] = (("workload.spiffe.io", "true"),)
) -> grpc.aio.AioRpcError:
    """The refusal of a bare call."""
    async with grpc.aio.insecure_channel(f"unix:{found.socket}") as channel:
        call: Any = channel.unary_stream(
            f"/SpiffeWorkloadAPI/{name}", request_serializer=lambda message: message.SerializeToString()
        )(request, metadata=metadata, timeout=20)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            async for _ in call:
                pass
    return refused.value
