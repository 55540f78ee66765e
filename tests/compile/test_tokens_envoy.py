"""A real Envoy takes signed tokens, refuses the others, and lets policies read what they say."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gossamer.api.authorization_policy import Action, Condition, From, Rule, Source
from gossamer.api.request_authentication import ClaimToHeader, JWTHeader, JWTRule, Presence
from gossamer.ca.authority import Authority
from gossamer.compile.inbound import compile_inbound
from gossamer.core.ids import Origin, ResourceId
from gossamer.core.memo import Memo
from gossamer.model.policy import SelectedPolicy, WorkloadPolicies
from gossamer.model.tokens import TokenRule
from tests.compile.sidecar import get, until
from tests.compile.test_inbound_envoy import Sidecar, authority, running, selected
from tests.jws import Issuer

pytestmark = pytest.mark.envoy
ISSUER, OTHER = Issuer("https://issuer.example"), Issuer("https://other.example", kid="two")
__all__ = ["authority"]


@pytest.fixture
def sidecar(envoy: Path, tmp_path: Path, authority: Authority) -> Iterator[Sidecar]:
    with running(envoy, tmp_path, authority, frozenset()) as found:
        yield found


def under(rule: JWTRule, keys: str = "") -> TokenRule:
    origin = Origin(resource=ResourceId(kind="RequestAuthentication", namespace="foo", name="tokens"))
    return TokenRule(origin=origin, rule=rule, keys=keys)


BOTH = (
    under(JWTRule(issuer=ISSUER.name, jwks=ISSUER.jwks, audiences=("app", "api"))),
    under(JWTRule(issuer=OTHER.name), OTHER.jwks),
)


def offer(sidecar: Sidecar, *rules: TokenRule, allow: tuple[SelectedPolicy, ...] = ()) -> None:
    policies = WorkloadPolicies(tokens=rules, allow=allow)
    sidecar.agent.publish(compile_inbound(replace(sidecar.view, policies=policies), Memo()))


def ask(sidecar: Sidecar, token: str = "", path: str = "/", **headers: str) -> tuple[int, str, dict[str, str]]:
    if token:
        headers["authorization"] = f"Bearer {token}"
    connection = sidecar.web.http(sidecar.http_port)
    try:
        return get(connection, path, **headers)
    finally:
        connection.close()


def refuses(sidecar: Sidecar) -> None:
    until(lambda: ask(sidecar, "no.to.ken")[0] == 401, "the rules")


def test_a_good_token_passes_and_a_bad_one_does_not(sidecar: Sidecar) -> None:
    offer(sidecar, *BOTH)
    refuses(sidecar)
    assert ask(sidecar)[0] == 200, "no token is no bad token"
    code, body, _ = ask(sidecar, ISSUER.token(aud="app"))
    assert code == 200
    assert "authorization:" not in body, "the token is not handed on"
    assert ask(sidecar, path=f"/?access_token={OTHER.token()}")[0] == 200
    bad = {
        "expired": ISSUER.token(aud="app", lifetime_s=-600),
        "audience": ISSUER.token(aud="others"),
        "key": Issuer(ISSUER.name).token(aud="app"),
        "issuer": Issuer("https://nobody.example").token(aud="app"),
        "signature": ISSUER.token(aud="app")[:-4] + "AAAA",
    }
    assert {what: ask(sidecar, token)[0] for what, token in bad.items()} == dict.fromkeys(bad, 401) | {"audience": 403}
    log = sidecar.folder / "access.log"
    for reason in ("Jwt_is_expired", "Audiences_in_Jwt_are_not_allowed", "Jwt_issuer_is_not_configured"):
        until(lambda: f"jwt_authn_access_denied{{{reason}" in log.read_text(), "the reason in the log")  # noqa: B023
    assert ask(sidecar, bad["expired"])[1] == "", "which is not told to the caller"


def test_without_keys_every_token_is_refused(sidecar: Sidecar) -> None:
    offer(sidecar, under(JWTRule(issuer=ISSUER.name, jwks_uri="https://issuer.example/keys")))
    refuses(sidecar)
    assert ask(sidecar, ISSUER.token())[0] == 401
    assert ask(sidecar)[0] == 200
    connection = sidecar.web.http(sidecar.http_port)
    assert get(connection)[0] == 200
    offer(sidecar, under(JWTRule(issuer=ISSUER.name, jwks_uri="https://issuer.example/keys"), ISSUER.jwks))
    bearer = f"Bearer {ISSUER.token()}"
    until(lambda: get(connection, authorization=bearer)[0] == 200, "keys, on the connection that was open before")
    connection.close()


def test_keys_that_are_none_deny(sidecar: Sidecar) -> None:
    offer(sidecar, under(JWTRule(issuer=ISSUER.name, jwks='{"keys":[{"kty":"EC","crv":"P-256","x":"!","y":"!"}]}')))
    refuses(sidecar)
    assert ask(sidecar, ISSUER.token())[0] == 401


def test_a_required_token_is_required(sidecar: Sidecar) -> None:
    required = under(JWTRule(issuer=ISSUER.name, jwks=ISSUER.jwks, presence=Presence.REQUIRED))
    offer(sidecar, required, BOTH[1])
    refuses(sidecar)
    assert ask(sidecar)[0] == 401
    assert ask(sidecar, OTHER.token())[0] == 401
    assert ask(sidecar, ISSUER.token())[0] == 200


def test_where_tokens_are_looked_for_and_what_is_handed_on(sidecar: Sidecar) -> None:
    rule = JWTRule(
        issuer=ISSUER.name,
        jwks=ISSUER.jwks,
        from_headers=(JWTHeader(name="x-token", prefix="Token "),),
        from_params=("tok",),
        from_cookies=("session",),
        forward_original_token=True,
        output_payload_to_header="x-payload",
        output_claim_to_headers=(ClaimToHeader(header="x-team", claim="org.team"),),
    )
    offer(sidecar, under(rule))
    until(lambda: ask(sidecar, x_token="Token no.to.ken")[0] == 401, "the rule")
    token = ISSUER.token(org={"team": "blue"})
    assert ask(sidecar, path="/?tok=no.to.ken")[0] == 401
    assert ask(sidecar, cookie="session=no.to.ken")[0] == 401
    assert ask(sidecar, "no.to.ken")[0] == 200, "nobody looks there"
    code, body, _ = ask(sidecar, x_token=f"Token {token}", x_team="forged")
    assert code == 200
    lines = dict(line.split(": ", 1) for line in body.splitlines())
    assert lines["x-team"] == "blue"
    assert lines["x-token"] == f"Token {token}"
    payload = lines["x-payload"]
    assert json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["sub"] == "me"
    assert "x-team" not in ask(sidecar, x_team="forged")[1], "what only a token may say is taken off"


def test_policies_read_claims(sidecar: Sidecar) -> None:
    principal = Rule(from_=(From(source=Source(request_principals=(f"{ISSUER.name}/me",))),))
    in_group = Rule(when=(Condition(key="request.auth.claims[groups]", values=("admin",)),))
    in_scope = Rule(when=(Condition(key="request.auth.claims[scope]", values=("write",)),))
    nested = Rule(when=(Condition(key="request.auth.claims[org][team]", values=("b*",)),))
    rules = tuple(replace(found, rule=replace(found.rule, audiences=())) for found in BOTH)
    for rule, good, bad in (
        (principal, ISSUER.token(), OTHER.token()),
        (in_group, ISSUER.token(groups=["user", "admin"]), ISSUER.token(groups=["user"])),
        (in_scope, OTHER.token(scope="read write"), OTHER.token(scope="read")),
        (nested, ISSUER.token(org={"team": "blue"}), ISSUER.token(org={"team": "red"})),
    ):
        offer(sidecar, *rules, allow=(selected("who", Action.ALLOW, rule),))
        until(lambda: ask(sidecar, good)[0] == 200 and ask(sidecar, bad)[0] == 403, "the policy")  # noqa: B023
        assert ask(sidecar)[0] == 403
