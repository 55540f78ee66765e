"""What a revocation ends at once, and what it lets come back."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest

from gossamer.ca.certificates import load_chain
from gossamer.ca.revocation import Kind, serials_on
from gossamer.ca.spiffe import WorkloadId, workload_id
from gossamer.core.errors import IdentityError
from gossamer.core.resources import CLUSTER, LISTENER
from gossamer.node.identity import HostIdentity, WorkloadIdentity
from gossamer.node.identity_client import CertificateClient
from gossamer.node.identity_files import IdentityFiles
from gossamer.rpc import calls
from gossamer.rpc import gossamer_pb2 as rpc
from tests.plane.running import SELECTED, TRUST_DOMAIN, Mesh, Running, eventually, refused, reviews, run

NAME = "reviews-v1"


def _serial(identity: WorkloadIdentity) -> int:
    return load_chain(identity.chain_pem, "it")[0].serial_number


def _revised(running: Running) -> str:
    return running.plane.pipeline.built[0].settings.revoked if running.plane.pipeline.built else ""


def _reviews(name: str = NAME) -> WorkloadId:
    return workload_id(trust_domain=TRUST_DOMAIN, namespace="default", service_account="reviews", name=name)


def _host(tmp_path: Path) -> HostIdentity:
    found = IdentityFiles(tmp_path / "h").load_host()
    assert found is not None
    return found


def test_a_revoked_workload_is_gone_at_once_and_may_come_back(tmp_path: Path) -> None:
    mesh = Mesh(tmp_path)
    mesh.write(reviews=SELECTED)

    async def test() -> None:
        async with mesh.run() as running, running.host("h", "default/*") as channel:
            plane = running.plane
            client = CertificateClient(running.bound.xds, _host(tmp_path))
            identity, trust = await client.sign(_reviews())
            assert not trust.verify_pem
            register = calls.REGISTER.call(channel)()
            await register.write(rpc.RegisterRequest(sequence=1, workloads=[reviews(), reviews("other")]))
            await register.read()
            async with running.proxy(NAME, "reviews") as proxy, running.proxy("other", "reviews") as other:
                await proxy.ask(CLUSTER)
                await proxy.next()
                await other.ask(LISTENER)
                await other.next()
                revoked = plane.revoking.revoke(Kind.WORKLOAD, f"default/{NAME}")
                assert [serial for serial, _ in revoked.serials] == [_serial(identity)]
                with refused(grpc.StatusCode.UNAUTHENTICATED, f"workload default/{NAME} is revoked"):
                    await asyncio.wait_for(proxy.call.read(), 5)
                with refused(grpc.StatusCode.UNAUTHENTICATED, "connect again"):
                    await asyncio.wait_for(register.read(), 5)
                assert [name for _, name in plane.registry.snapshot] == ["other"]
                assert _revised(running) == "", "lists go first"
                await eventually(lambda: _revised(running) != "")
                assert b"revoked" in (await other.await_type(LISTENER)).changed[0].body, "who was let in is asked anew"
                assert len(plane.xds.status()) == 1, "the stream of the other goes on"
            async with running.proxy(NAME, "reviews") as proxy:
                await proxy.ask(CLUSTER)
                with refused(grpc.StatusCode.PERMISSION_DENIED, "is revoked"):
                    await proxy.next()
            with pytest.raises(IdentityError, match="is revoked"):
                await client.sign(_reviews())
            register = calls.REGISTER.call(channel)()
            await register.write(rpc.RegisterRequest(sequence=1, workloads=[reviews(), reviews("other")]))
            answer = await register.read()
            assert isinstance(answer, rpc.RegisterResponse)
            assert [(one.workload.name, "revoked" in one.reason) for one in answer.rejected] == [(NAME, True)]
            _, trust = await client.sign(_reviews("other"))
            assert serials_on(trust.verify_pem) == {serial for serial, _ in revoked.serials}
            plane.revoking.undo(Kind.WORKLOAD, f"default/{NAME}")
            _, trust = await client.sign(_reviews())
            assert not trust.verify_pem
            await client.close()

    run(test)


def test_a_revoked_host_is_sent_away_with_its_workloads(tmp_path: Path) -> None:
    """And stays away after a restart of the control plane, until it joins with a new token."""
    mesh = Mesh(tmp_path)
    mesh.write(reviews=SELECTED)

    async def test() -> None:
        async with mesh.run() as running, running.host("h", "default/*") as channel:
            register, watch = calls.REGISTER.call(channel)(), calls.WATCH_TRUST.call(channel)(rpc.WatchTrustRequest())
            await watch.read()
            await register.write(rpc.RegisterRequest(sequence=1, workloads=[reviews()]))
            await register.read()
            running.plane.revoking.revoke(Kind.HOST, "h")
            assert not running.plane.registry.snapshot
            for call in (register, watch):
                with refused(grpc.StatusCode.UNAUTHENTICATED, "revoked"):
                    while True:
                        await asyncio.wait_for(call.read(), 5)
        async with mesh.run() as running:
            old = CertificateClient(running.bound.xds, _host(tmp_path))
            with pytest.raises(IdentityError, match="revoked"):
                await old.renew_host()
            await old.close()
            async with running.host("h", "default/*") as channel:
                register = calls.REGISTER.call(channel)()
                await register.write(rpc.RegisterRequest(sequence=1, workloads=[reviews()]))
                answer = await register.read()
                assert isinstance(answer, rpc.RegisterResponse)
                assert not answer.rejected
                await eventually(lambda: len(running.plane.registry.snapshot) == 1)

    run(test)


def test_one_certificate(tmp_path: Path) -> None:
    """Its holder may have another."""
    mesh = Mesh(tmp_path)
    mesh.write(reviews=SELECTED)

    async def test() -> None:
        async with mesh.run() as running, running.host("h", "default/*"):
            client = CertificateClient(running.bound.xds, _host(tmp_path))
            first = _serial((await client.sign(_reviews()))[0])
            running.plane.revoking.revoke(Kind.SERIAL, f"{first:x}")
            identity, trust = await client.sign(_reviews())
            assert serials_on(trust.verify_pem) == {first}
            assert _serial(identity) != first
            await client.close()

    run(test)
