"""A root that is replaced while hosts are connected, away, or come late; and certificates that end meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509

from gossamer.ca.certificates import PrivateKey, chain_pem, key_pem, new_key
from gossamer.ca.folder import load_authority
from gossamer.ca.issue import create_token
from gossamer.ca.rotation import Phase, advance
from gossamer.core.errors import IdentityError
from gossamer.core.resources import CLUSTER
from gossamer.node.identity_client import join
from gossamer.node.identity_files import IdentityFiles
from gossamer.node.identity_renewal import Identities, Surroundings
from gossamer.plane.settings import clock
from tests.ca.test_folder import certificate
from tests.plane.running import SELECTED, TRUST_DOMAIN, Mesh, Running, eventually, refused, run


def _certificate(key: PrivateKey, name: str, issuer_key: PrivateKey, issuer: str) -> x509.Certificate:
    return certificate(key, name, issuer_key, issuer, days=(-2500, 100))  # of 2030


class Folder:
    """A root and a signing certificate below it, in the layout in which users plug in their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.root(folder.name)

    def root(self, name: str) -> None:
        """Another root, under which is signed from now on."""
        self._key, self._name = new_key(), name
        self._root = _certificate(self._key, name, self._key, name)
        self.sign_anew()

    def sign_anew(self) -> None:
        """A new signing certificate under the root."""
        self._signing = new_key()
        self._certificate = _certificate(self._signing, "signing", self._key, self._name)

    def write(self) -> Path:
        (self.folder / "ca-cert.pem").write_bytes(chain_pem([self._certificate]))
        (self.folder / "ca-key.pem").write_bytes(key_pem(self._signing))
        (self.folder / "root-cert.pem").write_bytes(chain_pem([self._root]))
        (self.folder / "cert-chain.pem").write_bytes(chain_pem([self._certificate, self._root]))
        return self.folder


AT_ONCE = Surroundings(chance=lambda: 0.0)


async def _joined(running: Running, name: str) -> Identities:
    token = create_token(
        running.plane.authority.value, running.plane.ledger, host=name, grants=["*/*"], now=datetime.now(UTC)
    )
    files = IdentityFiles(running.folder / name)
    identity = await join(running.bound.join, token, files)
    return Identities(running.bound.xds, files, identity, AT_ONCE)


@asynccontextmanager
async def _serving(identities: Identities) -> AsyncIterator[None]:
    task = asyncio.create_task(identities.serve())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_a_plugged_in_root_is_replaced_by_another_key_and_root(tmp_path: Path) -> None:
    """The folder holds the new CA alone: the control plane keeps the old one until nobody needs it."""
    mesh = Mesh(tmp_path)
    mesh.write(reviews=SELECTED)
    folder = Folder(tmp_path / "plugged")

    async def test() -> None:
        async with mesh.run(ca_folder=folder.write()) as running, running.proxy("old") as proxy:
            await proxy.ask(CLUSTER)
            await proxy.next()
            plane = running.plane
            identities = await _joined(running, "near")
            old = plane.authority.value
            async with _serving(identities):
                folder.root("second")
                folder.write()
                await eventually(lambda: plane.authority.value.signer_key_id != old.signer_key_id)
                assert old.root in plane.authority.value.roots, "still trusted"
                await eventually(lambda: plane.custody.rotation.phase is Phase.STEADY)
                new = load_authority(folder.folder, TRUST_DOMAIN, datetime.now(UTC))
                assert plane.authority.value.roots == (new.root,)
                assert identities.host.value.signer_key_id == new.signer_key_id
                folder.sign_anew()
                folder.write()
                await eventually(lambda: identities.host.value.signer_key_id != new.signer_key_id)
                await eventually(lambda: plane.custody.rotation.phase is Phase.STEADY)
                assert plane.authority.value.roots == (new.root,)
            mesh.write(more=SELECTED.replace("name: reviews", "name: more"))
            assert (await proxy.await_type(CLUSTER)).changed, "its stream went on"

    run(test)


def test_a_rotation_goes_on_after_the_control_plane_was_killed(tmp_path: Path) -> None:
    """In each phase; whoever is away is awaited, until somebody says that it is not."""
    mesh = Mesh(tmp_path)
    mesh.write(reviews=SELECTED)

    async def test() -> None:
        async with mesh.run() as running:
            away = await _joined(running, "away")
            first = running.plane.authority.value
            running.plane.rotating.start(timedelta(hours=1))
            with pytest.raises(IdentityError, match="under way"):
                running.plane.rotating.start(None)
        async with mesh.run() as running:
            rotating = running.plane.rotating
            assert running.plane.custody.rotation.phase is Phase.DISTRIBUTING
            assert running.plane.authority.value.signer_key_id == first.signer_key_id
            assert len(running.plane.authority.value.roots) == 2
            assert rotating.awaited() == ("host away",)
            assert rotating.go_on() == ("host away",)
        async with mesh.run() as running:
            assert running.plane.custody.rotation.phase is Phase.STEADY
            assert running.plane.custody.rotation.refused == ("host away",)
            assert first.root not in running.plane.authority.value.roots
            assert not list((tmp_path / "state" / "rotation" / "parties").glob(first.signer_key_id))
            token = create_token(first, running.plane.ledger, host="x", grants=["*/*"], now=datetime.now(UTC))
            with pytest.raises(IdentityError, match="another root"):
                await join(running.bound.join, token, IdentityFiles(tmp_path / "x"))
            assert away.host.value.signer_key_id == first.signer_key_id

    run(test)


def test_who_was_away_while_the_new_root_went_out_finds_back(tmp_path: Path) -> None:
    """While the new root signs and the old one is still trusted: hosts, and tokens that name the old root. And back."""
    mesh = Mesh(tmp_path)
    mesh.write(reviews=SELECTED)

    async def test() -> None:
        async with mesh.run() as running:
            plane = running.plane
            late, first = await _joined(running, "late"), plane.authority.value
            token = create_token(first, plane.ledger, host="x", grants=["*/*"], now=datetime.now(UTC))
            plane.rotating.start(None)
            plane.custody.commit(advance(plane.custody.rotation, {}, "", clock()))  # as if nobody were there
            plane.rotating.publish()
            signing = plane.authority.value
            assert plane.custody.rotation.phase is Phase.SIGNING
            newcomer = await join(running.bound.join, token, IdentityFiles(tmp_path / "x"))
            assert newcomer.signer_key_id == signing.signer_key_id
            async with _serving(late):
                await eventually(lambda: late.host.value.signer_key_id == signing.signer_key_id)
                plane.rotating.abort()
                assert plane.authority.value.signer_key_id == first.signer_key_id
                await eventually(lambda: late.host.value.signer_key_id == first.signer_key_id)
                assert plane.custody.rotation.phase is Phase.SIGNING, "the newcomer has a certificate of the new root"
                x = Identities(running.bound.xds, IdentityFiles(tmp_path / "x"), newcomer, AT_ONCE)
                async with _serving(x):
                    await eventually(lambda: plane.custody.rotation.phase is Phase.STEADY)
            assert plane.authority.value.roots == (first.root,)

    run(test)


def test_a_stream_ends_with_its_peers_certificate(tmp_path: Path) -> None:
    mesh = Mesh(tmp_path)
    mesh.write(reviews=SELECTED)

    async def test() -> None:
        async with mesh.run() as running:
            issued = datetime.now(UTC) - timedelta(days=1) + timedelta(seconds=2.5)
            async with running.proxy("web", now=issued) as web:
                await web.ask(CLUSTER)
                assert (await web.next()).changed
                with refused(grpc.StatusCode.UNAUTHENTICATED, "the certificate has ended"):
                    await asyncio.wait_for(web.call.read(), 5)

    run(test)
