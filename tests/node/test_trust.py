"""Anchors of trust beside the mesh's own roots: whom a real Envoy lets in for them."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from gossamer.compile.anchors import compile_anchors
from gossamer.core.memo import Memo
from gossamer.core.resources import Resource
from gossamer.model.anchors import Anchors
from gossamer.node.identity import WorkloadIdentity, with_roots
from gossamer.node.sds import SecretSet
from tests.node.tls_envoy import connect, connect_when_ready, context_of, new_authority, new_identity, serving

pytestmark = pytest.mark.envoy
MESH = "spiffe://cluster.local/"


def anchors(*given: tuple[str, str], foreign: tuple[tuple[str, str], ...] = ()) -> tuple[Resource, ...]:
    """The control plane's secrets of these domains, the mesh's own and foreign ones, and their roots."""
    found, abroad = (
        tuple(Anchors(domain=domain, roots=roots) for domain, roots in which) for which in (given, foreign)
    )
    return tuple(one for table in compile_anchors(found, Memo(), abroad) for one in table.values())


async def is_let_in(port: int, caller: WorkloadIdentity) -> bool:
    try:
        client = await connect(port, context_of(caller))
        answer = await client.get()
    except (OSError, ssl.SSLError, asyncio.IncompleteReadError):
        return False
    client.close()
    return answer == 200


async def becomes(port: int, caller: WorkloadIdentity, wanted: bool) -> None:
    async with asyncio.timeout(10):
        while await is_let_in(port, caller) is not wanted:  # noqa: ASYNC110 - Envoy sets nothing of ours
            await asyncio.sleep(0.02)


def test_an_anchor_counts_for_its_domain_and_beside_the_meshs_own_roots(envoy: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        own, other = new_authority(tmp_path / "own"), new_authority(tmp_path / "other")
        server = new_identity(own)
        friend = new_identity(own, "friend")
        # it verifies the server by the mesh's roots, and shows a certificate of the other authority's
        stranger = with_roots(new_identity(other, "stranger"), server.roots_pem)
        root = other.roots_pem.decode()
        damaged = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
        secrets = SecretSet()
        secrets.set_identity(server)
        async with serving(envoy, secrets, peers=MESH) as port:
            (await connect_when_ready(port, context_of(friend))).close()
            assert not await is_let_in(port, stranger)
            secrets.set_named(anchors(("cluster.local", damaged + root)))
            await becomes(port, stranger, True)
            assert await is_let_in(port, friend)
            secrets.set_named(anchors(("cluster.local", ""), ("other.domain", root)))
            await becomes(port, stranger, False)
            assert await is_let_in(port, friend)
            secrets.set_named(anchors(("cluster.local", root)))
            await becomes(port, stranger, True)
            secrets.set_named(())
            await becomes(port, stranger, False)
            assert await is_let_in(port, friend)

    asyncio.run(scenario())


def test_names_are_asked_for_with_anchors_too(envoy: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        own = new_authority(tmp_path / "own")
        secrets = SecretSet()
        secrets.set_named(anchors(("cluster.local", own.roots_pem.decode())))
        secrets.set_identity(new_identity(own))
        async with serving(envoy, secrets, peers=f"{MESH}ns/default/sa/web") as port:
            (await connect_when_ready(port, context_of(new_identity(own, "friend")))).close()
        async with serving(envoy, secrets, peers=f"{MESH}ns/other/") as port:
            async with asyncio.timeout(10):
                while True:  # until it serves: a refusal by TLS, not by the kernel
                    try:
                        client = await connect(port, context_of(new_identity(own, "friend")))
                        await client.get()
                    except ConnectionRefusedError:
                        await asyncio.sleep(0.02)
                    except (OSError, ssl.SSLError, asyncio.IncompleteReadError) as error:
                        refusal = error
                        break
        assert not isinstance(refusal, ConnectionRefusedError)

    asyncio.run(scenario())
