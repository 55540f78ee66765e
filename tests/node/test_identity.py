"""A host joins, gets certificates for its workloads and keeps them fresh, whatever the control plane does meanwhile."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import grpc
import grpc.aio
import pytest

from gossamer.ca.authority import Authority, control_plane_names
from gossamer.ca.certificates import chain_pem, check_public_key, key_pem, load_chain, new_key
from gossamer.ca.folder import create_authority
from gossamer.ca.spiffe import WorkloadId, workload_id
from gossamer.ca.tokens import Refusal, TokenError
from gossamer.core.errors import IdentityError, StateError, UnavailableError
from gossamer.core.latest import Latest
from gossamer.node.identity import HostIdentity, WorkloadIdentity, renewal_time, retry_delay
from gossamer.node.identity_client import join, open_channel
from gossamer.node.identity_files import IdentityFiles
from gossamer.node.identity_renewal import Identities, Surroundings, open_host
from gossamer.rpc import calls
from gossamer.rpc import gossamer_pb2 as pb
from tests.ca.plane import TRUST_DOMAIN, Clock, Plane, serve_plane

T = TypeVar("T")


def reviews(namespace: str = "default") -> WorkloadId:
    return workload_id(trust_domain=TRUST_DOMAIN, namespace=namespace, service_account="bookinfo", name="reviews-v1")


@pytest.fixture
def files(tmp_path: Path) -> IdentityFiles:
    return IdentityFiles(tmp_path / "agent")


async def joined(plane: Plane, files: IdentityFiles, *grants: str) -> HostIdentity:
    return await join(plane.join, plane.token("vm-1", *(grants or ("default/*",))), files)


@asynccontextmanager
async def renewing(identities: Identities) -> AsyncIterator[Identities]:
    """Identities that are kept fresh meanwhile."""
    task = asyncio.create_task(identities.serve())
    await asyncio.sleep(0)
    try:
        yield identities
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(latest: Latest[T], holds: Callable[[T], bool]) -> T:
    """The first value that fits, within five seconds."""
    changed = asyncio.Event()
    unsubscribe = latest.subscribe(lambda _: changed.set())
    async with asyncio.timeout(5):
        while not holds(latest.value):
            await changed.wait()
            changed.clear()
    unsubscribe()
    return latest.value


def soon(clock: Callable[[], datetime] | None = None) -> Surroundings:
    """As early as chance can have it."""
    return Surroundings(clock=clock or (lambda: datetime.now(UTC)), chance=lambda: 1.0)


def test_a_host_joins_once_and_starts_from_disk_ever_after(tmp_path: Path, files: IdentityFiles) -> None:
    async def scenario() -> None:
        async with serve_plane(tmp_path) as plane:
            token = plane.token("vm-1", "default/*", "prod/reviews")
            host = await open_host(plane.join, files, token, plane.clock())
            address = plane.join
        assert (host.host, host.trust_domain, host.grants) == ("vm-1", TRUST_DOMAIN, ("default/*", "prod/reviews"))
        assert await open_host(address, files, token, datetime.now(UTC)) == host
        assert await open_host(address, files, None, datetime.now(UTC)) == host
        with pytest.raises(IdentityError, match="ended on"):
            await open_host(address, files, None, host.not_after)
        assert files.joining_key() is None
        for path in (tmp_path / "agent").rglob("*"):
            assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)

    asyncio.run(scenario())


def test_a_host_that_never_joined_is_told_what_to_do(files: IdentityFiles) -> None:
    with pytest.raises(IdentityError, match="has not joined"):
        asyncio.run(open_host("127.0.0.1:1", files, None, datetime.now(UTC)))


def test_a_host_moves_to_another_mesh_with_that_meshs_token(tmp_path: Path, files: IdentityFiles) -> None:
    async def scenario() -> None:
        async with serve_plane(tmp_path / "one") as one, serve_plane(tmp_path / "two") as two:
            first = await open_host(one.join, files, one.token("vm-1", "*/*"), one.clock())
            second = await open_host(two.join, files, two.token("vm-2", "*/*"), two.clock())
            assert (first.host, second.host) == ("vm-1", "vm-2")
            assert files.load_host() == second

    asyncio.run(scenario())


def test_the_token_is_given_to_nobody_but_its_control_plane(tmp_path: Path, files: IdentityFiles) -> None:
    async def scenario() -> None:
        async with serve_plane(tmp_path / "one") as one, serve_plane(tmp_path / "two") as two:
            token = one.token("vm-1", "*/*")
            with pytest.raises(IdentityError, match="is not the one that made this join token"):
                await join(two.join, token, files)
            async with impostor(one.authority.value, two.authority.value) as (address, received):
                with pytest.raises(UnavailableError):
                    await join(address, token, files)
                assert received == []
            assert (await join(one.join, token, files)).host == "vm-1"

    asyncio.run(scenario())


@asynccontextmanager
async def impostor(mesh: Authority, own: Authority) -> AsyncIterator[tuple[str, list[pb.JoinRequest]]]:
    """A server that shows the mesh's root at the end of a chain that is not the mesh's; and what it is told."""
    received: list[pb.JoinRequest] = []

    async def listen(request: pb.JoinRequest, context: calls.Context) -> pb.JoinResponse:
        received.append(request)
        return pb.JoinResponse()

    key = new_key()
    names = control_plane_names(TRUST_DOMAIN, (), ())
    public = check_public_key(key.public_key(), "key")
    chain = own.sign(public, names, now=datetime.now(UTC), lifetime=timedelta(hours=1), serial=1)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([calls.service("Join", {calls.JOIN: calls.JOIN.serve(listen)})])
    shown = chain + chain_pem([own.root, mesh.root])
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key_pem(key), shown)]))
    await server.start()
    try:
        yield f"127.0.0.1:{port}", received
    finally:
        await server.stop(0)


def test_a_join_whose_answer_was_lost_is_repeated_with_its_key(tmp_path: Path, files: IdentityFiles) -> None:
    async def scenario() -> None:
        async with serve_plane(tmp_path) as plane:
            token = plane.token("vm-1", "*/*")
            lost = await join(plane.join, token, files)
            (tmp_path / "agent" / "host.json").unlink()
            files.save_joining_key(lost.key_pem)  # the agent died before it had the answer
            again = await join(plane.join, token, files)
            assert again.key_pem == lost.key_pem
            with pytest.raises(TokenError) as refused:
                await join(plane.join, token, IdentityFiles(tmp_path / "thief"))
            assert refused.value.reason is Refusal.USED

    asyncio.run(scenario())


def test_nobody_there_is_told_apart_from_a_refusal(tmp_path: Path, files: IdentityFiles) -> None:
    async def scenario() -> None:
        async with serve_plane(tmp_path) as plane:
            token = plane.token("vm-1", "*/*")
        with pytest.raises(UnavailableError, match="cannot reach the control plane"):
            await join(plane.join, token, files)

    asyncio.run(scenario())


def test_a_workload_gets_an_identity_of_its_own_key(tmp_path: Path, files: IdentityFiles) -> None:
    async def scenario() -> None:
        async with serve_plane(tmp_path) as plane:
            identities = Identities(plane.mutual, files, await joined(plane, files))
            async with renewing(identities):
                latest = await identities.add(reviews())
                identity = latest.value
                assert identity.spiffe_id == "spiffe://cluster.local/ns/default/sa/bookinfo"
                assert identity.dns_name == "reviews-v1.default.workload.cluster.local"
                assert identity.roots_pem == plane.authority.value.roots_pem
                assert await identities.add(reviews()) is latest
                with pytest.raises(
                    IdentityError, match=r"may not run prod/bookinfo: its join token grants it default/\*"
                ):
                    await identities.add(reviews("prod"))
                async with open_channel(plane.mutual, identity) as channel:
                    with pytest.raises(grpc.aio.AioRpcError, match="is a workload") as refused:
                        await calls.SIGN.call(channel)(pb.SignRequest(), timeout=5)
                assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED

    asyncio.run(scenario())


def test_an_agent_restarts_without_a_control_plane(tmp_path: Path, files: IdentityFiles) -> None:
    async def scenario() -> None:
        async with serve_plane(tmp_path) as plane:
            host = await joined(plane, files)
            before = (await Identities(plane.mutual, files, host).add(reviews())).value
        restarted = IdentityFiles(tmp_path / "agent")
        known = restarted.load_host()
        assert known == host
        async with renewing(Identities(plane.mutual, restarted, known)) as identities:
            assert (await identities.add(reviews())).value == before

    asyncio.run(scenario())


def test_an_identity_is_renewed_at_half_life(tmp_path: Path, files: IdentityFiles) -> None:
    async def scenario() -> None:
        clock = Clock()
        async with serve_plane(tmp_path, clock=clock) as plane:
            host = await joined(plane, files)
            before = (await Identities(plane.mutual, files, host).add(reviews())).value
            clock.ahead = timedelta(hours=9)
            async with renewing(Identities(plane.mutual, files, host, soon(clock))) as identities:
                latest = await identities.add(reviews())
                await asyncio.sleep(0.2)
                assert latest.value == before, "renewed too early"
            clock.ahead = timedelta(hours=10)
            async with renewing(Identities(plane.mutual, files, host, soon(clock))) as identities:
                latest = await identities.add(reviews())
                after = await until(latest, lambda identity: identity.not_after > before.not_after)
                assert after.key_pem != before.key_pem
                assert files.load_workload(after.dns_name) == after

    asyncio.run(scenario())


def test_the_host_itself_is_renewed_and_goes_on_with_its_new_key(tmp_path: Path, files: IdentityFiles) -> None:
    async def scenario() -> None:
        async with serve_plane(tmp_path) as plane:
            host = await joined(plane, files)
            old = replace(host, not_before=host.not_before - timedelta(days=20), not_after=datetime.now(UTC))
            async with renewing(Identities(plane.mutual, files, old, soon())) as identities:
                after = await until(identities.host, lambda identity: identity.not_after > old.not_after)
                assert after.key_pem != host.key_pem
                assert files.load_host() == after
                await identities.add(reviews())
                record = plane.ledger.host("vm-1")
                assert record is not None
                assert len(record.keys) == 2

    asyncio.run(scenario())


def test_a_workload_waits_for_a_control_plane_that_is_away(tmp_path: Path, files: IdentityFiles) -> None:
    async def scenario() -> None:
        async with serve_plane(tmp_path) as plane:
            host = await joined(plane, files)
            port = int(plane.mutual.rpartition(":")[2])
        async with renewing(Identities(plane.mutual, files, host, soon())) as identities:
            waiting = asyncio.create_task(identities.add(reviews()))
            await asyncio.sleep(0.3)
            assert not waiting.done()
            async with serve_plane(tmp_path, port=port), asyncio.timeout(10):
                assert (await waiting).value.dns_name == reviews().dns_name

    asyncio.run(scenario())


def test_an_identity_that_has_ended_is_not_used(tmp_path: Path, files: IdentityFiles) -> None:
    async def scenario() -> None:
        async with serve_plane(tmp_path) as plane:
            host = await joined(plane, files)
            before = (await Identities(plane.mutual, files, host).add(reviews())).value
            late = Surroundings(clock=lambda: before.not_after, chance=lambda: 0.5)
            after = (await Identities(plane.mutual, files, host, late).add(reviews())).value
            assert after.key_pem != before.key_pem

    asyncio.run(scenario())


def test_another_service_account_needs_another_certificate(tmp_path: Path, files: IdentityFiles) -> None:
    async def scenario() -> None:
        async with serve_plane(tmp_path) as plane:
            identities = Identities(plane.mutual, files, await joined(plane, files))
            await identities.add(reviews())
            other = replace(reviews(), spiffe_id=replace(reviews().spiffe_id, service_account="other"))
            assert (await identities.add(other)).value.spiffe_id.endswith("/sa/other")

    asyncio.run(scenario())


def test_a_new_authority_reaches_everyone_at_once(tmp_path: Path, files: IdentityFiles) -> None:
    async def scenario() -> None:
        async with serve_plane(tmp_path) as plane:
            old = plane.authority.value
            at_once = Surroundings(chance=lambda: 0.0)
            async with renewing(Identities(plane.mutual, files, await joined(plane, files), at_once)) as identities:
                latest = await identities.add(reviews())
                before = latest.value
                await asyncio.sleep(0.2)  # the host follows the mesh's roots now
                new = create_authority(tmp_path / "new", TRUST_DOMAIN, datetime.now(UTC))
                both = (old.root, new.root)
                plane.authority.publish(replace(old, roots=both))  # first the new root is trusted
                after = await until(latest, lambda identity: identity.roots_pem == chain_pem(both))
                assert after.key_pem == before.key_pem
                assert identities.host.value.roots_pem == chain_pem(both)
                plane.authority.publish(replace(new, roots=both))  # then the new key signs
                await until(latest, lambda identity: identity.signer_key_id == new.signer_key_id)
                await until(identities.host, lambda identity: identity.signer_key_id == new.signer_key_id)
                load_chain(latest.value.chain_pem, "chain")[0].verify_directly_issued_by(new.root)
                plane.authority.publish(new)  # at last the old root is trusted no more
                await until(latest, lambda identity: identity.roots_pem == new.roots_pem)
                await identities.add(replace(reviews(), name="another"))

    asyncio.run(scenario())


def test_a_workload_that_is_removed_leaves_no_key(tmp_path: Path, files: IdentityFiles) -> None:
    async def scenario() -> None:
        async with serve_plane(tmp_path) as plane:
            identities = Identities(plane.mutual, files, await joined(plane, files))
            async with renewing(identities):
                await identities.add(reviews())
                assert list((tmp_path / "agent" / "workloads").iterdir())
                identities.remove(reviews())
                assert not list((tmp_path / "agent" / "workloads").iterdir())

    asyncio.run(scenario())


def test_damage_on_disk_costs_a_workload_a_new_certificate_and_a_host_a_clear_word(
    tmp_path: Path, files: IdentityFiles
) -> None:
    async def scenario() -> None:
        async with serve_plane(tmp_path) as plane:
            host = await joined(plane, files)
            await Identities(plane.mutual, files, host).add(reviews())
            (kept,) = (tmp_path / "agent" / "workloads").iterdir()
            kept.write_text("{")
            assert (await Identities(plane.mutual, files, host).add(reviews())).value.dns_name == reviews().dns_name
        (tmp_path / "agent" / "host.json").write_text("{}")
        with pytest.raises(StateError, match=r"host\.json is damaged"):
            files.load_host()

    asyncio.run(scenario())


START = datetime(2030, 1, 1, tzinfo=UTC)


def identity(lifetime: timedelta) -> WorkloadIdentity:
    return WorkloadIdentity(
        key_pem=b"",
        chain_pem=b"",
        roots_pem=b"",
        not_before=START,
        not_after=START + lifetime,
        signer_key_id="",
        spiffe_id="",
        dns_name="",
    )


@pytest.mark.parametrize(("chance", "hours"), [(0.0, 12.0), (0.5, 10.8), (1.0, 9.6)])
def test_renewal_comes_at_half_life_or_a_little_earlier(chance: float, hours: float) -> None:
    assert renewal_time(identity(timedelta(hours=24)), chance) == START + timedelta(hours=hours)


def test_retries_become_rarer_but_never_too_rare_for_the_lifetime() -> None:
    day, minute = identity(timedelta(days=1)), identity(timedelta(minutes=1))
    assert [retry_delay(day, tries, 0) for tries in (1, 2, 3, 7, 99)] == [1, 2, 4, 60, 60]
    assert [retry_delay(day, tries, 1) for tries in (1, 2, 99)] == [0.5, 1, 30]
    assert [retry_delay(minute, tries, 0) for tries in (1, 2, 99)] == [1, 2, 6]
    assert retry_delay(None, 99, 0) == 60
