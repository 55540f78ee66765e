"""A plugged-in CA folder that changes while the control plane runs; and certificates that end meanwhile."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509

from gossamer.ca.certificates import PrivateKey, chain_pem, key_pem, new_key
from gossamer.core.resources import CLUSTER
from tests.ca.test_folder import certificate
from tests.plane.running import SELECTED, Mesh, eventually, refused, run


def _certificate(key: PrivateKey, name: str, issuer_key: PrivateKey, issuer: str) -> x509.Certificate:
    return certificate(key, name, issuer_key, issuer, days=(-2500, 100))  # of 2030


class Folder:
    """A root and a signing certificate below it, in the layout in which users plug in their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.roots: list[x509.Certificate] = []
        self.root(folder.name)

    def root(self, name: str) -> None:
        """A further root, under which is signed from now on."""
        self._key, self._name = new_key(), name
        self._root = _certificate(self._key, name, self._key, name)
        self.roots.append(self._root)
        self.sign_anew()

    def sign_anew(self) -> None:
        """A new signing certificate under the root."""
        self._signing = new_key()
        self._certificate = _certificate(self._signing, "signing", self._key, self._name)

    def write(self) -> Path:
        (self.folder / "ca-cert.pem").write_bytes(chain_pem([self._certificate]))
        (self.folder / "ca-key.pem").write_bytes(key_pem(self._signing))
        (self.folder / "root-cert.pem").write_bytes(chain_pem(self.roots))
        (self.folder / "cert-chain.pem").write_bytes(chain_pem([self._certificate, self._root]))
        return self.folder


def test_a_new_intermediate_and_a_new_root(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Both are in force without a restart, and who has an old certificate goes on; a root that is left out is not."""
    mesh = Mesh(tmp_path)
    mesh.write(reviews=SELECTED)
    folder = Folder(tmp_path / "plugged")

    async def test() -> None:
        async with mesh.run(ca_folder=folder.write()) as running:
            authority = running.plane.authority
            async with running.proxy("old") as old:
                await old.ask(CLUSTER)
                await old.next()
                for change in (folder.sign_anew, lambda: folder.root("second")):
                    changed = asyncio.Event()
                    unsubscribe = authority.subscribe(lambda _, changed=changed: changed.set())  # type: ignore[misc]
                    change()
                    folder.write()
                    await asyncio.wait_for(changed.wait(), 5)
                    unsubscribe()
                    async with running.proxy("new") as new:
                        await new.ask(CLUSTER)
                        assert (await new.next()).changed
                mesh.write(more=SELECTED.replace("name: reviews", "name: more"))
                assert (await old.await_type(CLUSTER)).changed, "its stream went on"
            signer = authority.value.signer_key_id
            folder.roots.clear()
            folder.root("third")
            folder.write()
            await eventually(lambda: "leaves out the root under which the mesh runs" in str(_said(caplog)))
            assert authority.value.signer_key_id == signer

    run(test)


def _said(caplog: pytest.LogCaptureFixture) -> list[object]:
    return [vars(record).get("reason") for record in caplog.records if record.message == "ca-folder-refused"]


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
