"""Keys of JWT-SVIDs follow each other so that nobody meets a token that he cannot verify."""

from __future__ import annotations

import asyncio
import json
import stat
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gossamer.ca.authority import Lifetimes
from gossamer.ca.jws import Terms, read_token, verify
from gossamer.ca.spiffe import SpiffeId, workload_id
from gossamer.ca.token_keys import (
    AHEAD,
    LIFETIME,
    SIGNS,
    following,
    key_set,
    load_keys,
    save_keys,
    sign_token,
    signing_key,
)
from gossamer.core.errors import StateError
from gossamer.node.identity_client import CertificateClient, join
from gossamer.node.identity_files import IdentityFiles
from tests.ca.plane import TRUST_DOMAIN, Clock, serve_plane

NOW = datetime(2030, 1, 1, tzinfo=UTC)
CART = SpiffeId(trust_domain=TRUST_DOMAIN, namespace="shop", service_account="cart")
STEP = timedelta(minutes=10)


def test_a_token_is_of_a_key_that_was_published_an_hour_before_and_is_until_it_ends() -> None:
    """At any moment about three turns; but for the very first key, which nobody can have heard of."""
    keys, published, signers = following((), NOW), {}, set()
    for now in (NOW + SIGNS * turn + STEP * number for turn in range(4) for number in range(18)):
        keys = following(keys, now)
        published[now] = {key.id for key in keys}
        assert len(keys) <= 2
        signer = signing_key(keys, now)
        signers.add(signer.id)
        assert signer.created == NOW or signer.id in published[max(when for when in published if when <= now - AHEAD)]
        assert signer.id in {key.id for key in following(keys, now + LIFETIME)}
    assert len(signers) == 4


def test_a_key_is_published_before_it_signs_and_after_it_has_ended_to() -> None:
    first = following((), NOW)
    assert following(first, NOW + SIGNS - STEP) == first
    turned = following(first, NOW + SIGNS)
    assert (turned[0], len(turned)) == (first[0], 2)
    assert signing_key(turned, NOW + SIGNS) == first[0]
    assert signing_key(turned, NOW + SIGNS + AHEAD) == turned[1]
    assert following(turned, NOW + SIGNS + AHEAD + AHEAD - STEP) == turned
    assert following(turned, NOW + SIGNS + AHEAD + AHEAD) == turned[1:]


def test_a_token_says_who_for_whom_and_until_when() -> None:
    keys, now = following((), datetime.now(UTC)), datetime.now(UTC)
    token = sign_token(keys, CART, ("billing",), now, LIFETIME)
    header, _ = read_token(token)
    assert header == {"alg": "ES256", "typ": "JWT", "kid": keys[0].id}
    terms = Terms(audiences=("billing",), claims=("exp", "aud", "sub"), use="jwt-svid")
    claims = verify(token, terms, key_set(keys))
    assert (claims["sub"], claims["aud"]) == (str(CART), ["billing"])
    assert claims["exp"] - claims["iat"] == LIFETIME.total_seconds()
    assert "d" not in json.loads(key_set(keys))["keys"][0], "the public half alone"


def test_keys_are_kept_for_their_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "tokens" / "keys.json"
    assert load_keys(path) == ()
    keys = following(following((), NOW), NOW + SIGNS)
    save_keys(path, keys)
    assert [(key.id, key.created) for key in load_keys(path)] == [(key.id, key.created) for key in keys]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text(json.dumps({"schema": 1, "content": {"keys": [{"key": "x", "created": NOW.isoformat()}]}}))
    with pytest.raises(StateError, match="is damaged"):
        load_keys(path)


def test_who_watches_hears_of_a_new_key(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock, lifetimes = Clock(), Lifetimes(host=timedelta(days=90))
        async with serve_plane(tmp_path / "plane", clock=clock, lifetimes=lifetimes) as plane:
            host = await join(plane.join, plane.token("vm-1", "*/*"), IdentityFiles(tmp_path / "agent"))
            client = CertificateClient(plane.mutual, host)
            async with asyncio.timeout(20), aclosing(client.watch_token_keys()) as told:
                (before,) = json.loads(await anext(told))["keys"]
                clock.ahead = SIGNS + STEP
                cart = workload_id(trust_domain=TRUST_DOMAIN, namespace="a", service_account="b", name="c")
                header, _ = read_token(await client.sign_token(cart, ["x"]))
                after = [key["kid"] for key in json.loads(await anext(told))["keys"]]
                assert header["kid"] == before["kid"] == after[0]
                assert len(after) == 2
            await client.close()

    asyncio.run(scenario())
