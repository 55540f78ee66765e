"""Roots of foreign trust domains, published by one control plane and fetched by another: kept, refused, followed."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from gossamer.ca.certificates import chain_pem
from gossamer.ca.folder import create_authority
from gossamer.ca.spiffe_bundle import dump_bundle, load_bundle
from gossamer.core.errors import IdentityError, UsageError
from gossamer.core.latest import Latest
from gossamer.plane.bundle_endpoint import BundleEndpoint, serving_bundle
from gossamer.plane.bundles import BundleStore
from gossamer.plane.settings import clock
from tests.certificates import write_server_certificate
from tests.plane.running import SELECTED, Mesh, eventually, run

MESH = "caCertificates: [{spiffeBundleUrl: URL, trustDomains: [foreign.test]}]"


def test_what_is_published_is_what_is_read(tmp_path: Path) -> None:
    authority = create_authority(tmp_path / "ca", "foreign.test", clock())
    found = load_bundle(dump_bundle(authority.roots, sequence=3, refresh=timedelta(seconds=40)))
    assert found.roots == authority.roots
    assert found.refresh == timedelta(seconds=40)


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (b"<html>", "no SPIFFE bundle"),
        (b"[]", "no SPIFFE bundle"),
        (b'{"keys": []}', "no key of use x509-svid"),
        (b'{"keys": [{"use": "jwt-svid", "kty": "EC"}]}', "no key of use x509-svid"),
        (b'{"keys": [{"use": "x509-svid", "x5c": []}]}', "exactly one certificate"),
        (b'{"keys": [{"use": "x509-svid", "x5c": ["AAAA"]}]}', "damaged"),
        (b'{"keys": [], "spiffe_refresh_hint": "soon"}', "no SPIFFE bundle"),
    ],
)
def test_what_is_no_bundle_is_said(document: bytes, why: str) -> None:
    with pytest.raises(IdentityError, match=why):
        load_bundle(document)


def test_a_foreign_mesh_is_followed_and_its_last_bundle_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its endpoint is verified as the web's are; when it is down, what it said last holds, also after a restart."""
    pem = write_server_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    first, second = (create_authority(tmp_path / name, "foreign.test", clock()) for name in ("one", "two"))
    authority = Latest(first)
    mesh = Mesh(tmp_path)
    mesh.write(reviews=SELECTED)

    async def test() -> None:
        async with serving_bundle(BundleEndpoint(listen="127.0.0.1:0", certificate=pem, key=pem), authority) as port:
            mesh_config = tmp_path / "mesh.yaml"
            mesh_config.write_text(MESH.replace("URL", f"https://127.0.0.1:{port}/bundle"))
            async with mesh.run(mesh_config=mesh_config) as running:
                plane = running.plane

                def roots() -> str:
                    assert plane.pipeline.built is not None
                    (foreign,) = plane.pipeline.built[0].settings.foreign
                    return foreign.roots.strip()

                await eventually(lambda: roots() == first.roots_pem.decode().strip())
                authority.publish(second)
                plane.bundles.refresh()
                await eventually(lambda: roots() == second.roots_pem.decode().strip())
                assert plane.view_federated()[0]["problem"] == ""
        async with mesh.run(mesh_config=mesh_config) as running:
            plane = running.plane
            await eventually(lambda: roots() == second.roots_pem.decode().strip())
            await eventually(lambda: plane.view_federated()[0]["problem"] != "")
            assert plane.view_federated()[0]["roots"] == 1

    run(test)


def test_an_endpoint_that_cannot_be_verified_gives_nothing(tmp_path: Path) -> None:
    pem = write_server_certificate(tmp_path)
    authority = Latest(create_authority(tmp_path / "ca", "foreign.test", clock()))

    async def test() -> None:
        async with serving_bundle(BundleEndpoint(listen="127.0.0.1:0", certificate=pem, key=pem), authority) as port:
            store = BundleStore(folder=tmp_path / "bundles", changed=lambda: None)
            urls = (f"https://127.0.0.1:{port}/", f"http://127.0.0.1:{port}/")
            store.want(urls)
            following = asyncio.create_task(store.follow())
            await eventually(lambda: all(store.problem(url) not in ("", "not fetched yet") for url in urls))
            assert "certificate" in store.problem(urls[0]).lower()
            assert not store.bundles
            following.cancel()

    run(test)


def test_what_cannot_be_served_is_said(tmp_path: Path) -> None:
    authority = Latest(create_authority(tmp_path / "ca", "foreign.test", clock()))
    (tmp_path / "bad.pem").write_bytes(chain_pem(authority.value.roots))
    endpoints = (
        BundleEndpoint(listen="nowhere", certificate=tmp_path / "x", key=tmp_path / "x"),
        BundleEndpoint(listen="127.0.0.1:0", certificate=tmp_path / "bad.pem", key=tmp_path / "bad.pem"),
    )

    async def test() -> None:
        for endpoint in endpoints:
            with pytest.raises(UsageError):
                async with serving_bundle(endpoint, authority):
                    pass

    run(test)
