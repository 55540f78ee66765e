"""Tokens as Envoy takes them or not."""

from __future__ import annotations

import json
import time

import pytest

from gossamer.cli.token_check import check_token
from tests.jws import Issuer

ISSUER = Issuer("https://issuer.example")


def test_a_good_token() -> None:
    assert check_token(ISSUER.token(), ISSUER.jwks) == ""
    assert check_token(ISSUER.token(lifetime_s=-30), ISSUER.jwks) == ""  # clocks differ by a minute


@pytest.mark.parametrize(
    ("token", "why"),
    [
        (ISSUER.token(lifetime_s=-90), "expired"),
        (ISSUER.token(nbf=int(time.time()) + 600), "not valid yet"),
        (Issuer(ISSUER.name).token(), "signed by no key"),
        (Issuer(ISSUER.name, kid="two").token(), "names a key"),
        (ISSUER.token()[:-4] + "AAAA", "signed by no key"),
        ("a.b.c", "cannot be read"),
    ],
)
def test_a_bad_token(token: str, why: str) -> None:
    assert why in check_token(token, ISSUER.jwks)


def test_no_set_of_keys_vouches_for_nothing() -> None:
    assert check_token(ISSUER.token(), json.dumps({"keys": []}))
    assert check_token(ISSUER.token(), "no JSON")
