"""Every denial of a real Envoy names what decided: in its log, and, where that is switched on, to who is denied."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from gossamer.api.authorization_policy import Action
from gossamer.api.extension_provider import EnvoyExternalAuthorizationGrpcProvider
from gossamer.api.load import SourceFile, load
from gossamer.ca.authority import Authority
from gossamer.compile.denials import DENIED_BY
from gossamer.compile.inbound import compile_inbound
from gossamer.core.memo import Memo
from gossamer.model.authorizers import Authorizer
from gossamer.model.check_proxies import check_proxies
from gossamer.model.policy import WorkloadPolicies
from gossamer.model.settings import build_settings
from tests.compile.authorizers import grpc_authorizer
from tests.compile.sidecar import get, until
from tests.compile.test_ext_authz_envoy import HOST, answers, cluster, custom
from tests.compile.test_inbound_envoy import Sidecar, authority, on_path, only, running, selected
from tests.compile.test_tokens_envoy import BOTH, ISSUER

pytestmark = pytest.mark.envoy
__all__ = ["authority"]
WEB = "cluster.local/ns/web/sa/frontend"
NOPE = "rbac_access_denied_matched_policy[ns[foo]-policy[nope]-rule[0]]"
NONE = "rbac_access_denied_matched_policy[none]"
ASKED = "istio-ext-authz-authz-ns[foo]-policy[ask]-rule[0]"


@pytest.fixture
def sidecar(envoy: Path, tmp_path: Path, authority: Authority) -> Iterator[Sidecar]:
    with running(envoy, tmp_path, authority, frozenset()) as found:
        yield found


def offer(sidecar: Sidecar, port: int, *, tells: bool) -> None:
    """Policies of every kind; `port` is where an authorizer is asked."""
    spec = EnvoyExternalAuthorizationGrpcProvider(port=port, timeout=timedelta(seconds=5))
    policies = WorkloadPolicies(
        tokens=BOTH,
        custom=(custom(),),
        authorizer=Authorizer(name="authz", spec=spec, host=HOST, namespace="foo"),
        deny=(selected("nope", Action.DENY, on_path("/nope")),),
        allow=(selected("web", Action.ALLOW, only(WEB)),),
    )
    capture = replace(sidecar.view.proxy.capture, observed=True)
    settings = replace(sidecar.view.settings, tells_denials=tells)
    view = replace(
        sidecar.view, policies=policies, settings=settings, proxy=replace(sidecar.view.proxy, capture=capture)
    )
    sidecar.agent.publish([cluster(port, grpc=True), *compile_inbound(view, Memo())])


def ask(sidecar: Sidecar, path: str, token: str = "", *, other: bool = False) -> tuple[int, str, dict[str, str]]:
    connection = (sidecar.other if other else sidecar.web).http(sidecar.http_port)
    try:
        return get(connection, path, **({"authorization": f"Bearer {token}"} if token else {}))
    finally:
        connection.close()


def test_the_log_names_what_decided_and_the_caller_is_told_nothing(sidecar: Sidecar) -> None:
    with grpc_authorizer() as server:
        offer(sidecar, server.port, tells=False)
        until(lambda: ask(sidecar, "/nope")[0] == 403, "the policies")
        expired, foreign = ISSUER.token(aud="app", lifetime_s=-600), ISSUER.token(aud="others")
        denied = [
            ask(sidecar, "/nope"),
            ask(sidecar, "/", other=True),
            ask(sidecar, "/asked"),
            ask(sidecar, "/", expired),
            ask(sidecar, "/", foreign),
        ]
        assert [answer[0] for answer in denied] == [403, 403, 401, 401, 403]
        for _, body, headers in denied:
            assert DENIED_BY not in headers
            assert "xpired" not in body
            assert "udience" not in body
        assert denied[3][2]["www-authenticate"] == "Bearer", "RFC 9110 wants a challenge"
        server.admits = False
        assert not answers(sidecar)
    log = sidecar.folder / "access.log"
    for words in (
        NOPE, NONE, f"ext_authz_denied {ASKED} ", "jwt_authn_access_denied{Jwt_is_expired}",
        "jwt_authn_access_denied{Audiences_in_Jwt_are_not_allowed}",
    ):  # fmt: skip
        until(lambda: words in log.read_text(), words)  # noqa: B023
    # a connection has a line of its own too
    until(lambda: f"ext_authz_denied {ASKED} 127.0.0.1:" in log.read_text(), "the policy of a connection's denial")


def test_whoever_is_denied_is_told_why_where_that_is_switched_on(sidecar: Sidecar) -> None:
    with grpc_authorizer() as server:
        offer(sidecar, server.port, tells=True)
        until(lambda: ask(sidecar, "/nope")[2].get(DENIED_BY) == NOPE, "the policies")
        assert ask(sidecar, "/", other=True)[2][DENIED_BY] == NONE
        assert ask(sidecar, "/asked")[2][DENIED_BY] == ASKED
        code, body, headers = ask(sidecar, "/", ISSUER.token(aud="app", lifetime_s=-600))
        assert (code, body) == (401, "Jwt is expired")
        assert 'error="invalid_token"' in headers["www-authenticate"]
        assert headers[DENIED_BY] == "jwt_authn_access_denied{Jwt_is_expired}"
        assert DENIED_BY not in ask(sidecar, "/")[2], "who is not denied is told nothing"


@pytest.mark.parametrize(("value", "tells"), [("true", True), ("false", False), ("yes", False)])
def test_one_setting_of_the_mesh_switches_it(value: str, tells: bool) -> None:
    text = f'defaultConfig: {{proxyMetadata: {{GOSSAMER_TELL_DENIALS: "{value}"}}}}'
    config = load([], mesh_config=SourceFile(name="mesh.yaml", text=text)).config
    assert build_settings(config.mesh).tells_denials is tells
    assert [found.code for found in check_proxies(config)] == (["invalid-value"] if value == "yes" else [])
