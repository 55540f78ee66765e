"""Which tokens of an issuer are good, and what they prove."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gossamer.api.attestors import AllowedAccount, AllowedClaims, Attestor, KubernetesTokens, OpenIdTokens
from gossamer.api.common import Exact, Prefix, StringMatch
from gossamer.ca.attestation import Attested, Evidence
from gossamer.ca.issued_tokens import TokenAttestors
from gossamer.ca.jws import knows, load_keys
from gossamer.ca.tokens import Grant, Refusal, TokenError
from gossamer.core.errors import IdentityError
from gossamer.core.frozen import FrozenMap
from tests.jws import Issuer, encoded, pod_claims

ISSUER = Issuer("https://issuer.example")
OTHER = Issuer("https://issuer.example")
RSA = rsa.generate_private_key(65537, 2048)
RULE = AllowedClaims(claims=FrozenMap({"repository": Exact("acme/shop")}), grants=("ci/deployer",))
CI = Attestor(name="ci", issuer=ISSUER.name, audiences=("mesh",), oidc=OpenIdTokens(allow=(RULE,)))
POD = Attestor(
    name="prod",
    issuer=ISSUER.name,
    audiences=("mesh",),
    kubernetes=KubernetesTokens(
        allow=(
            AllowedAccount(namespace="shop", service_account="*"),
            AllowedAccount(namespace="nodes", service_account="agent", grants=("*/*",)),
        )
    ),
)
GOOD: dict[str, Any] = {"aud": "mesh", "repository": "acme/shop"}


@dataclass
class Keys:
    """Keys that are at hand."""

    text: str

    async def keys_of(self, attestor: Attestor, kid: str) -> str:
        return self.text


def attest(token: str, attestor: Attestor = CI, keys: str = ISSUER.jwks, kind: str = "") -> Attested:
    attestors = TokenAttestors(attestors=lambda: [attestor], keys=Keys(keys))
    return asyncio.run(attestors(Evidence(kind=kind or attestor.kind, token=token)))


def refused(token: str, attestor: Attestor = CI, keys: str = ISSUER.jwks, kind: str = "") -> TokenError:
    with pytest.raises(TokenError) as error:
        attest(token, attestor, keys, kind)
    assert token not in str(error.value)
    return error.value


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def test_a_good_token_grants_what_its_rule_says() -> None:
    found = attest(ISSUER.token(**GOOD))
    assert (found.attestor, found.subject, found.grants) == ("ci", "me", (Grant.parse("ci/deployer"),))
    assert found.host_of("1") != found.host_of("2"), "a job is told apart by its key"
    assert found.host_of("1").startswith("ci-")
    assert attest(ISSUER.token(**GOOD | {"aud": ["mesh"]})).subject == "me"


def unsigned(**claims: object) -> str:
    header = encoded(json.dumps({"alg": "none"}).encode())
    body = {"iss": ISSUER.name, "sub": "me", "exp": int(time.time() + 60), **claims}
    return f"{header}.{encoded(json.dumps(body).encode())}."


def confused() -> str:
    """Signed with the issuer's public key, as if it were a shared secret."""
    body = {"iss": ISSUER.name, "sub": "me", "exp": int(time.time() + 60), **GOOD}
    signed = f"{encoded(json.dumps({'alg': 'HS256', 'kid': 'one'}).encode())}.{encoded(json.dumps(body).encode())}"
    signature = jwt.get_algorithm_by_name("HS256").sign(signed.encode(), b"k" * 64)
    return f"{signed}.{encoded(signature)}"


@pytest.mark.parametrize(
    ("token", "reason", "said"),
    [
        (lambda: "junk", Refusal.MALFORMED, "no signed token"),
        (lambda: "a.b.c", Refusal.MALFORMED, "no signed token"),
        (lambda: ISSUER.token(**GOOD, filler="x" * 20_000), Refusal.MALFORMED, "no signed token"),
        (lambda: ISSUER.token(lifetime_s=-60, **GOOD), Refusal.EXPIRED, "has expired"),
        (lambda: ISSUER.token(**GOOD | {"exp": None}), Refusal.UNTRUSTED, "exp"),
        (lambda: ISSUER.token(**GOOD | {"sub": None}), Refusal.UNTRUSTED, "sub"),
        (lambda: ISSUER.token(**GOOD | {"aud": None}), Refusal.UNTRUSTED, "for audience nobody"),
        (lambda: ISSUER.token(**GOOD | {"aud": "other"}), Refusal.UNTRUSTED, "must be for mesh alone"),
        (lambda: ISSUER.token(**GOOD | {"aud": ["mesh", "other"]}), Refusal.UNTRUSTED, "could use it here"),
        (lambda: ISSUER.token(**GOOD, nbf=int(time.time() + 300)), Refusal.UNTRUSTED, "not yet valid"),
        (lambda: ISSUER.token(**GOOD | {"iss": "https://else"}), Refusal.UNTRUSTED, "of issuer 'https://else'"),
        (lambda: ISSUER.token(header={"kid": "two"}, **GOOD), Refusal.UNTRUSTED, "by a key 'two'"),
        (lambda: OTHER.token(**GOOD), Refusal.UNTRUSTED, "not signed by its issuer"),
        (lambda: ISSUER.token(header={"alg": "RS256"}, **GOOD), Refusal.UNTRUSTED, "by a key 'one' for RS256"),
        (lambda: unsigned(**GOOD), Refusal.UNTRUSTED, "signed by 'none'"),
        (lambda: ISSUER.token(header={"alg": ["ES256"]}, **GOOD), Refusal.UNTRUSTED, "is signed by"),
        (lambda: ISSUER.token(header={"alg": {}}, **GOOD), Refusal.UNTRUSTED, "is signed by"),
        (lambda: ISSUER.token(**GOOD, sub="s" * 1025), Refusal.UNTRUSTED, "longer than 1024"),
        (lambda: ISSUER.token(**GOOD | {"iss": "x" * 9000}), Refusal.UNTRUSTED, "xx..."),
        (confused, Refusal.UNTRUSTED, "signed by 'HS256'"),
        (lambda: ISSUER.token(aud="mesh", repository="acme/shop2"), Refusal.UNTRUSTED, "allows no token of 'me'"),
        (lambda: ISSUER.token(aud="mesh", repository=["acme/shop"]), Refusal.UNTRUSTED, "allows no token"),
        (lambda: ISSUER.token(aud="mesh"), Refusal.UNTRUSTED, "allows no token"),
    ],
)
def test_tokens_that_are_refused(token: Callable[[], str], reason: Refusal, said: str) -> None:
    error = refused(token())
    assert error.reason is reason
    assert said in str(error)


def test_clocks_may_lie_a_little_apart() -> None:
    assert attest(ISSUER.token(lifetime_s=-5, **GOOD)).subject == "me"
    strict = replace(CI, leeway=CI.leeway * 0)
    assert refused(ISSUER.token(lifetime_s=-5, **GOOD), strict).reason is Refusal.EXPIRED


def test_rules_read_claims_within_claims_and_true() -> None:
    matches: dict[str, StringMatch] = {"google.zone": Prefix("europe-"), "email_verified": Exact("true")}
    claims = FrozenMap(matches)
    attestor = replace(CI, oidc=OpenIdTokens(allow=(AllowedClaims(claims=claims, grants=("a/b",)),)))
    good: dict[str, Any] = {"aud": "mesh", "google": {"zone": "europe-west1"}, "email_verified": True}
    assert attest(ISSUER.token(**good), attestor).grants == (Grant.parse("a/b"),)
    refused(ISSUER.token(**good | {"email_verified": False}), attestor)
    refused(ISSUER.token(**good | {"google": "europe-west1"}), attestor)


def test_keys_in_pem_have_no_names() -> None:
    claims = {"iss": ISSUER.name, "sub": "me", "exp": int(time.time() + 60), **GOOD}
    token = jwt.encode(claims, RSA, algorithm="RS256", headers={"kid": "anything"})
    both = pem(ISSUER.key) + pem(RSA)
    assert attest(token, keys=both).subject == "me"
    assert attest(ISSUER.token(**GOOD), keys=both).subject == "me"
    assert refused(token, keys=pem(ISSUER.key)).reason is Refusal.UNTRUSTED


def test_keys_that_are_not_used() -> None:
    (row,) = json.loads(ISSUER.jwks)["keys"]
    weak = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 1024).public_key()))
    okp = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(ed25519.Ed25519PrivateKey.generate().public_key()))
    for other in (row | {"use": "enc"}, weak, okp, {"kty": "oct", "k": "AAAA"}, {"kty": "EC", "crv": "P-256"}):
        assert load_keys(json.dumps({"keys": [other]})) == ()
        assert len(load_keys(json.dumps({"keys": [other, row]}))) == 1
    refused(ISSUER.token(**GOOD), keys=json.dumps({"keys": [row | {"alg": "ES384"}]}))
    for text in ("", "{}", '{"keys": 3}', "[]", "-----BEGIN nonsense"):
        with pytest.raises(IdentityError):
            load_keys(text)


def test_a_token_without_a_key_id_is_of_the_only_key() -> None:
    nameless = ISSUER.token(header={"kid": ""}, **GOOD)
    assert attest(nameless).subject == "me"
    (row,) = json.loads(ISSUER.jwks)["keys"]
    two = json.dumps({"keys": [row, row | {"kid": "two"}]})
    assert refused(nameless, keys=two).reason is Refusal.UNTRUSTED
    assert knows(two, "two")
    assert not knows(two, "three")
    assert not knows(two, "")


def test_a_pod_is_its_service_account_and_no_other() -> None:
    found = attest(ISSUER.token(aud="mesh", **pod_claims("shop", "cart")), POD)
    assert found.grants == (Grant.parse("shop/cart"),)
    assert found.subject == "system:serviceaccount:shop:cart pod web-0"
    assert found.host_of("1") == found.host_of("2"), "a pod is one host, whatever its key"
    assert found.host_of("1").startswith("prod-web-0-")
    again = attest(ISSUER.token(aud="mesh", **pod_claims("shop", "cart", uid="u2")), POD)
    assert again.host_of("1") != found.host_of("1"), "a pod of the same name, later"
    assert attest(ISSUER.token(aud="mesh", **pod_claims("nodes", "agent")), POD).grants == (Grant.parse("*/*"),)
    assert attest(ISSUER.token(aud="mesh", **pod_claims("shop", "cart", pod="")), POD).instance == ""


def test_pods_that_are_refused() -> None:
    other = refused(ISSUER.token(aud="mesh", **pod_claims("prod", "cart")), POD)
    assert "does not allow service account prod/cart" in str(other)
    refused(ISSUER.token(aud="mesh", **pod_claims("nodes", "other")), POD)
    lying = pod_claims("shop", "cart") | {"sub": "system:serviceaccount:prod:cart"}
    assert "is not one of a Kubernetes service account" in str(refused(ISSUER.token(aud="mesh", **lying), POD))
    assert "no attestor" in str(refused(ISSUER.token(aud="mesh", **pod_claims("shop", "cart")), POD, kind="oidc"))
    refused(ISSUER.token(aud="mesh", sub="system:serviceaccount:shop:cart"), POD)
