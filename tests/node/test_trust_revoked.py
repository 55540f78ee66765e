"""Whom a real Envoy believes while certificates are revoked and foreign trust domains are trusted.

Each root vouches for its own domain, and lists are heeded whichever of Envoy's validators looks.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gossamer.ca.authority import Authority
from gossamer.ca.bundle import anchors_of
from gossamer.ca.certificates import chain_pem
from gossamer.ca.folder import create_authority, load_authority
from gossamer.ca.issued import Issued
from gossamer.ca.revocation import Kind, Revocations, build_list, revoke
from gossamer.node.identity import Trust, WorkloadIdentity
from gossamer.node.sds import SecretSet
from tests.ca.test_folder import Plugged, certificate
from tests.node.test_trust import anchors
from tests.node.tls_envoy import connect, context_of, new_identity, serial_of, serving

NOW = datetime.now(UTC)


def _intermediate(folder: Path) -> Authority:
    """An authority that signs by an intermediate, as companies plug theirs in."""
    plugged = Plugged(folder)
    root, signing = plugged.keys["root"], plugged.keys["signing"]
    plugged.root = certificate(root, "root", root, "root", days=(-1900, 100), path_length=2)
    plugged.signing = certificate(signing, "signing", root, "root", days=(-1900, 100), path_length=0)
    plugged.chain, plugged.roots = (plugged.signing, plugged.root), (plugged.root,)
    return load_authority(plugged.write(), "cluster.local", NOW)


def _verify(authority: Authority, *revoked: WorkloadIdentity) -> bytes:
    """What certificates of this authority are verified by while these are revoked."""
    ends = NOW + timedelta(days=1)
    issued = [
        Issued(serial=serial_of(one), workload="default/web", host="h", signer="", not_after=ends) for one in revoked
    ]
    revocations = revoke(Revocations(), Kind.WORKLOAD, "default/web", issued, NOW)
    return chain_pem(anchors_of(authority, NOW)) + build_list(authority.issuer, revocations, NOW, 1)


class Callers:
    """Clients of each kind, asked again and again whether they are served."""

    def __init__(self, port: int, identities: dict[str, WorkloadIdentity]) -> None:
        self._port = port
        self._contexts = {name: context_of(identity) for name, identity in identities.items()}
        for context in self._contexts.values():
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    async def served(self) -> set[str]:
        return {name for name, context in self._contexts.items() if await self._is_served(context)}

    async def _is_served(self, context: ssl.SSLContext) -> bool:
        try:
            client = await connect(self._port, context)
        except (OSError, ssl.SSLError):
            return False
        try:
            return await client.get() == 200
        except (OSError, ssl.SSLError, asyncio.IncompleteReadError):
            return False
        finally:
            client.close()

    async def until(self, *expected: str) -> None:
        """Return when these alone are served; AssertionError if they are not within five seconds."""
        for _ in range(100):
            if await self.served() == set(expected):
                return
            await asyncio.sleep(0.05)
        assert await self.served() == set(expected)


@pytest.mark.envoy
def test_whom_envoy_believes(envoy: Path, tmp_path: Path) -> None:
    own, new = (create_authority(tmp_path / name, "cluster.local", NOW) for name in ("own", "new"))
    below, foreign = _intermediate(tmp_path / "below"), create_authority(tmp_path / "foreign", "foreign.test", NOW)
    ours, gone, theirs = new_identity(own), new_identity(own), new_identity(foreign, trust_domain="foreign.test")
    under, under_gone, renewed = new_identity(below), new_identity(below), new_identity(new)
    kinds = {"ours": ours, "gone": gone, "theirs": theirs, "under": under, "under_gone": under_gone, "new": renewed}
    kinds |= {"forged": new_identity(foreign), "minted": new_identity(own, trust_domain="foreign.test")}

    async def scenario() -> None:
        secrets = SecretSet()
        secrets.set_identity(ours)
        async with serving(envoy, secrets) as port:
            callers = Callers(port, kinds)
            trust = Trust(roots_pem=own.roots_pem, signer_key_id="", version="1")
            secrets.set_trust(trust)
            await callers.until("ours", "gone", "minted")  # names are asked for by what is compiled, not here
            secrets.set_trust(replace(trust, version="2", verify_pem=_verify(own, gone) + _verify(new)))
            await callers.until("ours", "new", "minted")
            secrets.set_trust(replace(trust, version="3", verify_pem=_verify(below, under_gone)))
            await callers.until("under")
            secrets.set_named(anchors(("cluster.local", "")))  # by the other validator of Envoy's
            secrets.set_trust(replace(trust, version="4", verify_pem=_verify(own, gone) + _verify(below, under_gone)))
            await callers.until("ours", "under")
            # of every issuer Envoy wants a list: whom an anchor vouches for is refused, rather than believed unlisted
            secrets.set_named(anchors(("cluster.local", foreign.roots_pem.decode())))
            await asyncio.sleep(0.5)
            await callers.until("ours", "under")
            abroad = (("foreign.test", foreign.roots_pem.decode()),)
            secrets.set_named(anchors(("cluster.local", ""), foreign=abroad))
            await callers.until("ours", "under", "theirs")
            secrets.set_trust(replace(trust, version="5"))
            await callers.until("ours", "gone", "theirs")
            secrets.set_named(anchors(("cluster.local", foreign.roots_pem.decode())))
            await callers.until("ours", "gone", "forged")

    asyncio.run(scenario())
