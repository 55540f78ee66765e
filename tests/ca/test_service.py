"""Who gets what over the wire, and what the control plane shows of itself."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import grpc.aio
import pytest
from cryptography import x509

from gossamer.ca.authority import Authority, host_names, workload_names
from gossamer.ca.certificates import (
    Names,
    PrivateKey,
    build_request,
    chain_pem,
    check_public_key,
    key_pem,
    load_chain,
    new_key,
)
from gossamer.ca.folder import create_authority
from gossamer.ca.peer import HostPeer, WorkloadPeer, read_peer
from gossamer.ca.spiffe import CONTROL_PLANE, HostId, workload_id
from gossamer.ca.tokens import REASON
from gossamer.core.errors import IdentityError
from gossamer.rpc import calls
from gossamer.rpc import gossamer_pb2 as pb
from tests.ca.plane import TRUST_DOMAIN, Clock, Plane, serve_plane

OVERRIDE = [("grpc.ssl_target_name_override", CONTROL_PLANE), ("grpc.use_local_subchannel_pool", 1)]


@dataclass
class Client:
    """A key and the chain that speaks for it."""

    key: PrivateKey
    chain: bytes

    def channel(self, address: str, roots: bytes) -> grpc.aio.Channel:
        credentials = grpc.ssl_channel_credentials(roots, key_pem(self.key), self.chain)
        return grpc.aio.secure_channel(address, credentials, OVERRIDE)


def certified(authority: Authority, names: Names) -> Client:
    """A client with a certificate that the authority signed out of band."""
    key = new_key()
    public = check_public_key(key.public_key(), "key")
    chain = authority.sign(public, names, now=datetime.now(UTC), lifetime=timedelta(hours=1), serial=5)
    return Client(key, chain)


def request_of(key: PrivateKey) -> str:
    return build_request(key).decode()


async def join(plane: Plane, token: str, key: PrivateKey, csr: str | None = None) -> pb.JoinResponse:
    roots = grpc.ssl_channel_credentials(plane.authority.value.roots_pem)
    async with grpc.aio.secure_channel(plane.join, roots, OVERRIDE) as channel:
        request = pb.JoinRequest(token=token, csr_pem=csr or request_of(key))
        return await calls.JOIN.call(channel)(request, timeout=5)


async def joined(plane: Plane, *grants: str, host: str = "vm-1") -> Client:
    key = new_key()
    response = await join(plane, plane.token(host, *grants), key)
    return Client(key, response.certificate_chain_pem.encode())


async def sign(plane: Plane, client: Client, namespace: str, service_account: str, workload: str) -> pb.SignResponse:
    async with client.channel(plane.mutual, plane.authority.value.roots_pem) as channel:
        request = pb.SignRequest(
            csr_pem=request_of(new_key()), namespace=namespace, service_account=service_account, workload=workload
        )
        return await calls.SIGN.call(channel)(request, timeout=5)


async def refused(call: Awaitable[object]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return error.value


def on_plane(scenario: Callable[[Plane], Awaitable[None]], folder: Path, *, ahead: timedelta = timedelta()) -> None:
    async def run() -> None:
        async with serve_plane(folder, clock=Clock(ahead)) as plane:
            await scenario(plane)

    asyncio.run(run())


def test_a_host_joins_and_asks_within_its_grant(tmp_path: Path) -> None:
    async def scenario(plane: Plane) -> None:
        host = await joined(plane, "default/*", "prod/reviews")
        peer = read_peer(host.chain, TRUST_DOMAIN)
        assert isinstance(peer, HostPeer)
        assert peer.host == HostId(trust_domain=TRUST_DOMAIN, host="vm-1")
        answer = await sign(plane, host, "prod", "reviews", "reviews-v1")
        workload = read_peer(answer.certificate_chain_pem.encode(), TRUST_DOMAIN)
        assert isinstance(workload, WorkloadPeer)
        assert workload.workload.dns_name == "reviews-v1.prod.workload.cluster.local"
        assert answer.trust.roots_pem.encode() == plane.authority.value.roots_pem
        error = await refused(sign(plane, host, "prod", "ratings", "ratings-v1"))
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED
        assert "prod/ratings" in str(error.details())
        assert "default/*, prod/reviews" in str(error.details())
        for bad in (("Prod", "reviews", "w"), ("prod", "reviews", ""), ("default", "a/b", "w")):
            assert (await refused(sign(plane, host, *bad))).code() is grpc.StatusCode.INVALID_ARGUMENT

    on_plane(scenario, tmp_path)


def test_refused_tokens_are_told_apart(tmp_path: Path) -> None:
    async def scenario(plane: Plane) -> None:
        used = plane.token("vm-1", "*/*")
        await join(plane, used, new_key())
        expired = plane.token("vm-2", "*/*", lifetime=timedelta(minutes=1))
        expected = {"v1.x": "token-malformed", used: "token-used", expired: "token-expired"}
        plane.clock.ahead = timedelta(minutes=2)
        unknown = plane.token("vm-3", "*/*")
        for path in (tmp_path / "tokens").glob("*.json"):
            if "vm-3" in path.read_text():
                path.unlink()
        for token, reason in {**expected, unknown: "token-unknown"}.items():
            error = await refused(join(plane, token, new_key()))
            assert error.code() is grpc.StatusCode.UNAUTHENTICATED
            assert dict(error.trailing_metadata() or ())[REASON] == reason

    on_plane(scenario, tmp_path)


def test_a_bad_request_uses_no_token_up(tmp_path: Path) -> None:
    async def scenario(plane: Plane) -> None:
        token = plane.token("vm-1", "*/*")
        error = await refused(join(plane, token, new_key(), csr="junk"))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert (await join(plane, token, new_key())).host == "vm-1"

    on_plane(scenario, tmp_path)


def test_only_a_host_that_joined_is_served(tmp_path: Path) -> None:
    async def scenario(plane: Plane) -> None:
        authority = plane.authority.value
        workload = workload_id(trust_domain=TRUST_DOMAIN, namespace="default", service_account="a", name="w")
        strangers = {
            "is a workload": certified(authority, workload_names(workload)),
            "is not known": certified(authority, host_names(HostId(trust_domain=TRUST_DOMAIN, host="vm-9"))),
            "trust domain 'other'": certified(authority, host_names(HostId(trust_domain="other", host="vm-1"))),
            "must begin with spiffe": certified(authority, Names(uri="https://vm-1")),
        }
        for said, client in strangers.items():
            error = await refused(sign(plane, client, "default", "a", "w"))
            assert error.code() is grpc.StatusCode.PERMISSION_DENIED
            assert said in str(error.details())

    on_plane(scenario, tmp_path)


def test_a_host_that_is_revoked_or_joined_anew_is_refused_at_once(tmp_path: Path) -> None:
    async def scenario(plane: Plane) -> None:
        first = await joined(plane, "default/*")
        await sign(plane, first, "default", "a", "w")
        second = await joined(plane, "default/*")
        assert "joined anew" in str((await refused(sign(plane, first, "default", "a", "w"))).details())
        await sign(plane, second, "default", "a", "w")
        plane.ledger.revoke_host("vm-1")
        assert "was revoked" in str((await refused(sign(plane, second, "default", "a", "w"))).details())

    on_plane(scenario, tmp_path)


def test_a_host_renews_with_a_new_key_and_the_old_one_still_serves(tmp_path: Path) -> None:
    async def scenario(plane: Plane) -> None:
        host = await joined(plane, "default/*")
        key = new_key()
        async with host.channel(plane.mutual, plane.authority.value.roots_pem) as channel:
            answer = await calls.RENEW_HOST.call(channel)(pb.RenewHostRequest(csr_pem=request_of(key)), timeout=5)
        assert list(answer.grants) == ["default/*"]
        for client in (Client(key, answer.certificate_chain_pem.encode()), host):
            await sign(plane, client, "default", "a", "w")

    on_plane(scenario, tmp_path)


def test_the_mutual_port_wants_a_certificate_of_the_mesh(tmp_path: Path) -> None:
    async def scenario(plane: Plane) -> None:
        roots = plane.authority.value.roots_pem
        other = create_authority(tmp_path / "other", TRUST_DOMAIN, datetime.now(UTC))
        stranger = certified(other, host_names(HostId(trust_domain=TRUST_DOMAIN, host="vm-1")))
        nobody = grpc.aio.secure_channel(plane.mutual, grpc.ssl_channel_credentials(roots), OVERRIDE)
        for channel in (stranger.channel(plane.mutual, roots), nobody):
            async with channel:
                error = await refused(calls.SIGN.call(channel)(pb.SignRequest(), timeout=5))
                assert error.code() is grpc.StatusCode.UNAVAILABLE

    on_plane(scenario, tmp_path)


async def shown(address: str, authority: Authority, client: Client | None = None) -> x509.Certificate:
    """The certificate that a port shows, verified by the fixed name."""

    def look() -> bytes:
        context = ssl.create_default_context(cadata=authority.roots_pem.decode())
        context.set_alpn_protocols(["h2"])
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port)), 5) as raw:
            tls = context.wrap_socket(raw, server_hostname=CONTROL_PLANE)
            with tls:
                return tls.getpeercert(binary_form=True) or b""

    return x509.load_der_x509_certificate(await asyncio.to_thread(look))


@pytest.mark.parametrize("which", ["mutual", "join"])
def test_the_control_plane_renews_its_own_certificate_at_half_life(tmp_path: Path, which: str) -> None:
    async def scenario(plane: Plane) -> None:
        authority = plane.authority.value
        port = plane.mutual if which == "mutual" else plane.join
        first = await shown(port, authority)
        names = first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == [CONTROL_PLANE, "localhost"]
        assert "127.0.0.1" in map(str, names.get_values_for_type(x509.IPAddress))
        assert await shown(port, authority) == first
        plane.clock.ahead += timedelta(hours=11)
        assert await shown(port, authority) == first
        plane.clock.ahead += timedelta(hours=2)
        second = await shown(port, authority)
        assert second.serial_number != first.serial_number
        assert second.public_key() != first.public_key()

    on_plane(scenario, tmp_path, ahead=-timedelta(hours=20))


def test_a_new_authority_is_told_shown_and_trusted_without_a_restart(tmp_path: Path) -> None:
    async def scenario(plane: Plane) -> None:
        old = plane.authority.value
        host = await joined(plane, "default/*")
        new = create_authority(tmp_path / "new", TRUST_DOMAIN, datetime.now(UTC))
        both = (old.root, new.root)
        handover = Authority(trust_domain=TRUST_DOMAIN, issuer=new.issuer, chain=(), root=new.root, roots=both)
        async with host.channel(plane.mutual, chain_pem(both)) as channel:
            stream = calls.WATCH_TRUST.call(channel)(pb.WatchTrustRequest())
            bundles = aiter(stream)
            assert (await anext(bundles)).roots_pem.encode() == old.roots_pem
            plane.authority.publish(handover)
            bundle = await asyncio.wait_for(anext(bundles), 5)
            assert load_chain(bundle.roots_pem.encode(), "roots") == both
            assert bundle.signer_key_id == new.signer_key_id != old.signer_key_id
            stream.cancel()
        (await shown(plane.mutual, new)).verify_directly_issued_by(new.root)
        answer = await sign(plane, host, "default", "a", "w")  # its certificate is still of the old root
        load_chain(answer.certificate_chain_pem.encode(), "chain")[0].verify_directly_issued_by(new.root)

    on_plane(scenario, tmp_path)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (Names(uri="spiffe://cluster.local/ns/a/sa/b"), "not a host's identity"),
        (Names(uri="spiffe://cluster.local/ns/a/sa/b", dns=("x.a.workload.cluster.local", "y")), "2 DNS names"),
        (
            Names(uri="spiffe://cluster.local/ns/a/sa/b", dns=("x.b.workload.cluster.local",)),
            "does not name a workload",
        ),
        (Names(uri="spiffe://other/ns/a/sa/b", dns=("x.a.workload.other",)), "trust domain 'other'"),
    ],
)
def test_a_certificate_that_is_not_exactly_one_peer_opens_nothing(tmp_path: Path, names: Names, said: str) -> None:
    authority = create_authority(tmp_path / "ca", TRUST_DOMAIN, datetime.now(UTC))
    with pytest.raises(IdentityError, match=said):
        read_peer(certified(authority, names).chain, TRUST_DOMAIN)


def test_a_control_plane_is_no_workload_of_an_application(tmp_path: Path) -> None:
    """Nobody who can ask for workloads' certificates can get one that passes for the control plane's."""
    authority = create_authority(tmp_path / "ca", TRUST_DOMAIN, datetime.now(UTC))
    workload = workload_id(
        trust_domain=TRUST_DOMAIN, namespace="gossamer-system", service_account="control-plane", name="control-plane"
    )
    (leaf,) = load_chain(certified(authority, workload_names(workload)).chain, "chain")
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert CONTROL_PLANE not in names.get_values_for_type(x509.DNSName)
