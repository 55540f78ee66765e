"""A host that somebody else vouches for: it joins, comes again, and is known for as long as that is said of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gossamer.api.attestors import AllowedAccount, AllowedClaims, Attestor, IssuerKeys, KubernetesTokens, OpenIdTokens
from gossamer.api.common import Exact
from gossamer.ca.issued_tokens import TokenAttestors
from gossamer.ca.spiffe import WorkloadId, workload_id
from gossamer.ca.tokens import Refusal, TokenError
from gossamer.core.errors import IdentityError, UsageError
from gossamer.core.frozen import FrozenMap
from gossamer.node.evidence import Attestation, parse_attestation, token_folder
from gossamer.node.identity_client import CertificateClient, join_attested
from gossamer.node.identity_files import IdentityFiles
from gossamer.node.identity_renewal import Identities, Surroundings, Vouching, open_host
from gossamer.plane.attestors import IssuerKeyReader
from tests.ca.plane import TRUST_DOMAIN, Clock, Plane, serve_plane
from tests.jws import Issuer, pod_claims

ISSUER = Issuer("https://issuer.example")
POD = Attestor(
    name="prod",
    issuer=ISSUER.name,
    audiences=("mesh",),
    keys=IssuerKeys(inline=ISSUER.jwks),
    kubernetes=KubernetesTokens(allow=(AllowedAccount(namespace="shop", service_account="*"),)),
)
JOB = Attestor(
    name="ci",
    issuer=ISSUER.name,
    audiences=("ci",),
    keys=IssuerKeys(inline=ISSUER.jwks),
    oidc=OpenIdTokens(allow=(AllowedClaims(claims=FrozenMap({"repo": Exact("a")}), grants=("ci/deployer",)),)),
)


class Host:
    """A host's folder, and the file in which its token is."""

    def __init__(self, folder: Path, plane: Plane, kind: str = "kubernetes") -> None:
        folder.mkdir()
        self.files = IdentityFiles(folder / "identity")
        self.file = folder / "token"
        self.attestation = Attestation(
            kind=kind, file=self.file, root_fingerprint=plane.authority.value.root_fingerprint
        )

    def given(self, account: str = "cart", **claims: Any) -> Host:
        """The same, with a new token."""
        said = pod_claims("shop", account) if self.attestation.kind == "kubernetes" else {"repo": "a", "aud": "ci"}
        self.file.write_text(ISSUER.token(**{"aud": "mesh", **said, **claims}) + "\n")
        return self


def with_attestors(
    scenario: Callable[[Plane], Awaitable[None]], folder: Path, *attestors: Attestor, clock: Clock | None = None
) -> None:
    async def run() -> None:
        chosen = attestors or (POD, JOB)
        attest = TokenAttestors(attestors=lambda: chosen, keys=IssuerKeyReader(folder=folder))
        async with serve_plane(folder / "plane", attest=attest, clock=clock) as plane:
            await scenario(plane)

    asyncio.run(run())


def cart(name: str = "cart-1") -> WorkloadId:
    return workload_id(trust_domain=TRUST_DOMAIN, namespace="shop", service_account="cart", name=name)


def test_a_pod_joins_with_its_token_and_runs_what_it_is(tmp_path: Path) -> None:
    async def scenario(plane: Plane) -> None:
        host = Host(tmp_path / "a", plane).given()
        identity = await open_host(plane.join, host.files, host.attestation, plane.clock())
        assert identity.grants == ("shop/cart",)
        assert identity.host.startswith("prod-web-0-")
        assert identity.not_after - identity.not_before <= timedelta(hours=24, minutes=2)
        client = CertificateClient(plane.mutual, identity)
        workload, _ = await client.sign(cart())
        assert workload.spiffe_id == "spiffe://cluster.local/ns/shop/sa/cart"
        other = workload_id(trust_domain=TRUST_DOMAIN, namespace="shop", service_account="other", name="o")
        with pytest.raises(
            IdentityError, match=r"attestor prod \(system:serviceaccount:shop:cart pod web-0\) grants it"
        ):
            await client.sign(other)
        await client.close()
        host.file.unlink()
        again = await open_host(plane.join, host.files, host.attestation, plane.clock())
        assert again == identity, "from disk: nothing is shown"

    with_attestors(scenario, tmp_path)


def test_certificates_end_with_what_is_believed(tmp_path: Path) -> None:
    async def scenario(plane: Plane) -> None:
        host = Host(tmp_path / "a", plane).given()
        identity = await join_attested(plane.join, host.attestation, host.files)
        client = CertificateClient(plane.mutual, identity)
        workload, _ = await client.sign(cart())
        await client.close()
        for certificate in (identity, workload):
            assert certificate.not_after <= datetime.now(UTC) + timedelta(minutes=10)

    with_attestors(scenario, tmp_path, replace(POD, lifetime=timedelta(minutes=10)))


def test_a_token_brings_in_one_key(tmp_path: Path) -> None:
    async def scenario(plane: Plane) -> None:
        first, thief = Host(tmp_path / "a", plane).given(), Host(tmp_path / "b", plane)
        thief.file.write_text(first.file.read_text())
        joined = await join_attested(plane.join, first.attestation, first.files)
        with pytest.raises(
            TokenError, match=f"brought in host {joined.host} on .* from 127.0.0.1, with another key"
        ) as e:
            await join_attested(plane.join, thief.attestation, thief.files)
        assert e.value.reason is Refusal.USED
        later = await join_attested(plane.join, thief.given(jti="new").attestation, thief.files)
        assert later.host == joined.host, "the same pod, with its next token"
        client = CertificateClient(plane.mutual, joined)
        with pytest.raises(IdentityError, match="joined anew elsewhere"):
            await client.sign(cart())
        await client.close()

    with_attestors(scenario, tmp_path)


def test_a_token_that_may_be_shown_again_brings_in_several_jobs(tmp_path: Path) -> None:
    async def scenario(plane: Plane) -> None:
        one, two = Host(tmp_path / "a", plane, "oidc").given(), Host(tmp_path / "b", plane, "oidc")
        two.file.write_text(one.file.read_text())
        hosts = {(await join_attested(plane.join, job.attestation, job.files)).host for job in (one, two)}
        assert len(hosts) == 2

    with_attestors(scenario, tmp_path, replace(JOB, reuse=True))


def test_an_answer_that_was_lost_can_be_asked_for_again(tmp_path: Path) -> None:
    async def scenario(plane: Plane) -> None:
        host = Host(tmp_path / "a", plane).given()
        first = await join_attested(plane.join, host.attestation, host.files)
        host.files.save_joining_key(first.key_pem)
        assert (await join_attested(plane.join, host.attestation, host.files)).host == first.host

    with_attestors(scenario, tmp_path)


def test_a_revoked_pod_does_not_come_back(tmp_path: Path) -> None:
    async def scenario(plane: Plane) -> None:
        host = Host(tmp_path / "a", plane).given()
        joined = await join_attested(plane.join, host.attestation, host.files)
        plane.ledger.revoke_host(joined.host)
        with pytest.raises(IdentityError, match="was revoked"):
            await join_attested(plane.join, host.given(jti="2").attestation, host.files)

    with_attestors(scenario, tmp_path)


def test_a_host_shows_a_token_anew_when_it_renews(tmp_path: Path) -> None:
    async def scenario(plane: Plane) -> None:
        host = Host(tmp_path / "a", plane).given()
        client = CertificateClient(plane.mutual, await join_attested(plane.join, host.attestation, host.files))
        for refused in (None, ISSUER.token(lifetime_s=-60, aud="mesh", **pod_claims("shop", "cart"))):
            if refused is None:
                host.file.unlink()
            else:
                host.file.write_text(refused)
            with pytest.raises(IdentityError, match="cannot read the token" if refused is None else "has expired"):
                await client.renew_host(host.attestation)
        with pytest.raises(IdentityError, match=r"was attested as .*:cart pod web-0 by prod, and is not"):
            await client.renew_host(host.given(account="other").attestation)
        renewed, _ = await client.renew_host(host.given(jti="2").attestation)
        await client.close()
        after = CertificateClient(plane.mutual, renewed)
        again, _ = await after.renew_host(host.attestation)
        assert again.host == renewed.host, "the same token, from the host that it is of"
        await after.close()

    with_attestors(scenario, tmp_path)


def test_a_name_that_somebody_has_is_not_given_away(tmp_path: Path) -> None:
    async def scenario(plane: Plane) -> None:
        host = Host(tmp_path / "a", plane).given()
        joined = await join_attested(plane.join, host.attestation, host.files)
        record = plane.ledger.host(joined.host)
        assert record is not None
        plane.ledger.save_host(replace(record, attestor="", subject="", lifetime=None))
        with pytest.raises(IdentityError, match=f"there is a host {joined.host} already, by its join token"):
            await join_attested(plane.join, host.given(jti="2").attestation, host.files)

    with_attestors(scenario, tmp_path)


def test_a_later_pod_of_the_same_name_renews_nothing(tmp_path: Path) -> None:
    async def scenario(plane: Plane) -> None:
        host = Host(tmp_path / "a", plane).given()
        client = CertificateClient(plane.mutual, await join_attested(plane.join, host.attestation, host.files))
        host.file.write_text(ISSUER.token(aud="mesh", **pod_claims("shop", "cart", uid="u2")))
        with pytest.raises(IdentityError, match="was attested as"):
            await client.renew_host(host.attestation)
        await client.close()

    with_attestors(scenario, tmp_path)


def test_a_host_whose_time_is_over_joins_again_by_itself(tmp_path: Path) -> None:
    clock = Clock()

    async def scenario(plane: Plane) -> None:
        host = Host(tmp_path / "a", plane, "oidc").given()
        first = await join_attested(plane.join, host.attestation, host.files)
        vouching = Vouching(attestation=host.given(jti="2").attestation, join=plane.join)
        ended = Surroundings(clock=lambda: first.not_after + timedelta(seconds=1), chance=lambda: 1.0)
        identities = Identities(plane.mutual, host.files, first, ended, vouching)
        changed = asyncio.Event()
        identities.host.subscribe(lambda _: changed.set())
        serving = asyncio.create_task(identities.serve())
        async with asyncio.timeout(5):
            await changed.wait()
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving
        assert identities.host.value.key_pem != first.key_pem

    with_attestors(scenario, tmp_path, clock=clock)


def test_a_mesh_without_attestors_believes_nobody(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serve_plane(tmp_path / "plane") as plane:
            host = Host(tmp_path / "a", plane).given()
            with pytest.raises(TokenError, match="start its control plane with --attestors"):
                await join_attested(plane.join, host.attestation, host.files)

    asyncio.run(scenario())


def test_the_token_is_shown_to_nobody_but_the_pinned_mesh(tmp_path: Path) -> None:
    async def scenario(plane: Plane) -> None:
        async with serve_plane(tmp_path / "other") as other:
            host = Host(tmp_path / "a", plane).given()
            with pytest.raises(IdentityError, match="is not the one that --root pins"):
                await join_attested(other.join, host.attestation, host.files)
            pinned = Attestation(kind="kubernetes", file=host.file, roots_pem=plane.authority.value.roots_pem)
            assert (await join_attested(plane.join, pinned, host.files)).grants == ("shop/cart",)
            assert pinned.is_of(plane.authority.value.roots_pem)
            assert not pinned.is_of(other.authority.value.roots_pem)

    with_attestors(scenario, tmp_path)


def test_how_a_host_is_attested_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = "AB" * 32
    file = parse_attestation(f"kubernetes:{tmp_path}/t", f"SHA-256 {root}")
    assert (file.kind, file.file, file.root_fingerprint) == ("kubernetes", tmp_path / "t", root.lower())
    variable = parse_attestation("oidc:env:ID_TOKEN", root)
    monkeypatch.setenv("ID_TOKEN", "abc")
    assert variable.evidence().token == "abc"
    monkeypatch.delenv("ID_TOKEN")
    with pytest.raises(IdentityError, match="no token in the variable ID_TOKEN"):
        variable.evidence()
    for text, pin in (("tpm:x", root), ("kubernetes", root), ("kubernetes:", root), ("oidc:/t", ""), ("oidc:/t", "ab")):
        with pytest.raises(UsageError):
            parse_attestation(text, pin)
    assert token_folder(file, (Path("/"), tmp_path.parent)) == (tmp_path,)
    with pytest.raises(UsageError, match="in a folder of its own"):
        token_folder(file, (tmp_path / "state",))
    assert token_folder(variable, (Path("/"),)) == ()
