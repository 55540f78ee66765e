"""What is left of a request behind the JWT filter: the simulator beside the Envoy that ships with the project."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from gossamer.api.request_authentication import ClaimToHeader, JWTHeader, JWTRule
from gossamer.cli.token_check import check_token
from gossamer.compile.policies.jwt import compile_tokens
from gossamer.core.ids import Origin, ResourceId
from gossamer.model.tokens import TokenRule
from gossamer.simulate.request import Address, Arrival, HttpRequest, Request
from gossamer.simulate.simulator import Simulator
from tests.jws import Issuer
from tests.simulate import build, real_envoy
from tests.simulate.build import Json, typed

pytestmark = pytest.mark.envoy

ISSUER = Issuer("https://iss")
CLAIMS: dict[str, Any] = {
    "groups": ["a", "b"],
    "age": 7,
    "admin": True,
    "share": 0.5,
    "org": {"unit": {"name": "x"}},
    "note": "",
}
TOKEN = ISSUER.token(**CLAIMS)
OUT = tuple(
    ClaimToHeader(header=f"x-{claim.replace('.', '-')}", claim=claim)
    for claim in ("sub", "groups", "age", "admin", "share", "org.unit.name", "note", "none")
)
ECHOED = ("authorization", "x-token", "cookie", "x-payload", *(one.header for one in OUT))
RULES = {
    "default": JWTRule(output_payload_to_header="x-payload", output_claim_to_headers=OUT),
    "forwarding": JWTRule(forward_original_token=True, output_claim_to_headers=OUT),
    "header": JWTRule(from_headers=(JWTHeader(name="x-token", prefix="T "),)),
    "bare": JWTRule(from_headers=(JWTHeader(name="x-token"),)),
    "param": JWTRule(from_params=("t",)),
    "cookie": JWTRule(from_cookies=("session",)),
}
REQUESTS: dict[str, tuple[str, dict[str, str]]] = {
    "none": ("/?a=1", {"x-sub": "forged", "x-payload": "forged"}),
    "bearer": ("/?a=1", {"authorization": f"Bearer {TOKEN}"}),
    "access_token": (f"/?a=1&access_token={TOKEN}&b=2", {}),
    "only": (f"/?access_token={TOKEN}", {}),
    "x-token": ("/", {"x-token": f"T {TOKEN}"}),
    "x-token bare": ("/", {"x-token": TOKEN}),
    "t": (f"/?t={TOKEN}&a=1", {"authorization": "Basic x"}),
    "session": ("/", {"cookie": f"a=b; session={TOKEN}"}),
    "twice": (f"/?access_token={TOKEN}", {"authorization": f"Bearer {TOKEN}"}),
    "one is bad": ("/?access_token=a.b.c", {"authorization": f"Bearer {TOKEN}"}),
    "basic": ("/", {"authorization": "Basic abc"}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    ports: dict[str, int]
    simulator: Simulator


def _filter(rule: JWTRule) -> Json:
    origin = Origin(resource=ResourceId(kind="RequestAuthentication", namespace="foo", name="r"))
    whole = replace(rule, issuer=ISSUER.name, jwks=ISSUER.jwks)
    config = MessageToDict(compile_tokens((TokenRule(origin=origin, rule=whole),)), preserving_proto_field_name=True)
    return {"name": "jwt", "typed_config": typed("extensions.filters.http.jwt_authn.v3.JwtAuthentication", **config)}


@pytest.fixture(scope="module")
def world(envoy: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    echoing, *ports = real_envoy.free_ports(1 + len(RULES))
    echo = [
        {"header": {"key": f"e-{name.lstrip(':')}", "value": f"%REQ({name})%"}, "append_action": "ADD_IF_ABSENT"}
        for name in (":path", *ECHOED)
    ]
    answer = build.table(build.host("all", ["*"], [build.direct("in")], response_headers_to_add=echo))
    listeners = [build.listener(echoing, [build.chain([build.manager(answer)])])]
    for port, rule in zip(ports, RULES.values(), strict=True):
        onward = build.table(build.host("all", ["*"], [build.to("echo")]))
        listeners.append(build.listener(port, [build.chain([build.manager(onward, [_filter(rule)])])]))
    clusters = [build.static("echo", [build.endpoint("127.0.0.1", echoing)])]
    simulator = Simulator(build.resources(listeners=listeners, clusters=clusters))
    with real_envoy.serving(envoy, tmp_path_factory.mktemp("envoy"), listeners, clusters):
        yield World(ports=dict(zip(RULES, ports, strict=True)), simulator=simulator)


@pytest.mark.parametrize("rule", RULES)
def test_what_is_left_of_a_request(world: World, rule: str) -> None:
    for name, (path, headers) in REQUESTS.items():
        answer = real_envoy.get(world.ports[rule], path, headers=list(headers.items()))
        outcome = world.simulator.simulate(
            Request(
                arrival=Arrival.DIRECT,
                destination=Address(ip="127.0.0.1", port=world.ports[rule]),
                http=HttpRequest(authority="a.example", path=path, headers=tuple(headers.items())),
                check=check_token,
            )
        )
        if outcome.forwarded is None:
            assert outcome.status == answer.status == 401, (name, outcome.reason)
            continue
        assert answer.status == 200, (name, answer)
        sent = {key: value for key, value in outcome.forwarded.headers if key in ECHOED and value}
        seen = {key: value for key in ECHOED if (value := answer.header(f"e-{key}")) not in ("", "-")}
        assert (outcome.forwarded.path, sent) == (answer.header("e-path"), seen), name
