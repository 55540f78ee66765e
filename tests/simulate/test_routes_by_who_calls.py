"""Compiled routes that ask who calls, or what a token says, as the simulator follows them."""

from __future__ import annotations

from typing import Any

import pytest

from gossamer.simulate.outcome import Outcome
from gossamer.simulate.request import Address, Arrival, Certificate, HttpRequest, Request, Tls
from gossamer.simulate.simulator import simulate
from tests.compile.compiled import GATEWAY, SIDECAR, compiled, istio, service, workload
from tests.compile.test_decided import APP, FALL_THROUGH, ME, MEMBERS, RULES, decided
from tests.compile.test_http_route import PREFIX, SERVICES, TO_A, http_route

WEB = "spiffe://cluster.local/ns/web/sa/frontend"
BATCH = "spiffe://cluster.local/ns/other/sa/batch"


def called(path: str, uri: str, *, rules: str = RULES, **headers: str) -> Outcome:
    found = compiled(APP, decided(rules), proxy=ME, registrations=MEMBERS)
    sent = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return simulate(
        found.resources,
        Request(
            arrival=Arrival.INBOUND,
            destination=Address(ip="1.1.1.1", port=9080),
            source=Address(ip="10.9.9.9", port=1234),
            tls=Tls(alpn=("istio",), certificate=Certificate(uris=(uri,))) if uri else None,
            http=HttpRequest(authority="app", path=path, headers=sent),
        ),
    )


@pytest.mark.parametrize(
    ("path", "uri", "status"),
    [
        ("/web", WEB, 0),
        ("/web", BATCH, 403),
        ("/web", "", 403),
        ("/batch", BATCH, 418),
        ("/known", BATCH, 0),
        ("/known", "", 403),
        ("/nobody", "", 0),
        ("/nobody", WEB, 403),
    ],
)
def test_the_destination_decides_by_who_calls(path: str, uri: str, status: int) -> None:
    found = called(path, uri)
    assert found.status == status
    assert found.route is not None
    assert found.route.origins[0].resource.name == "decided"


def test_a_forged_name_counts_nothing_and_is_not_passed_on() -> None:
    assert called("/web", BATCH, x_gossamer_source=WEB).status == 403
    served = called("/", WEB, rules=FALL_THROUGH, x_gossamer_source=BATCH)
    assert served.cluster == "inbound|9080||"
    assert served.forwarded is not None
    assert "x-gossamer-source" not in dict(served.forwarded.headers)


CLAIMED = istio(
    "VirtualService",
    "v",
    """  hosts: [a.com]
  gateways: [gw]
  http:
  - match: [{headers: {"@request.auth.claims[realm][roles]": {exact: admin}}}]
    directResponse: {status: 201}
  - match: [{withoutHeaders: {"@request.auth.claims.sub": {}}}]
    directResponse: {status: 202}
  - directResponse: {status: 203}
""",
)
SERVER = istio(
    "Gateway",
    "gw",
    "  selector: {istio: ingressgateway}\n  servers: [{port: {number: 80, name: h, protocol: HTTP}, hosts: ['a.com']}]",
)


@pytest.mark.parametrize(
    ("claims", "status"),
    [
        ({"sub": "x", "realm": {"roles": ["user", "admin"]}}, 201),
        ({"sub": "x", "realm": {"roles": "admin"}}, 201),
        ({"sub": "x", "realm": {"roles": ["user"]}}, 203),
        ({"sub": "x"}, 203),
        (None, 202),
    ],
)
def test_a_gateway_routes_by_claims(claims: dict[str, Any] | None, status: int) -> None:
    found = compiled(SERVER, CLAIMED, proxy=GATEWAY)
    request = Request(
        arrival=Arrival.DIRECT,
        destination=Address(ip="2.2.2.2", port=80),
        http=HttpRequest(authority="a.com"),
        metadata={"envoy.filters.http.jwt_authn": {"payload": claims}} if claims else {},
    )
    assert simulate(found.resources, request).status == status


def sent(rule: str, path: str) -> Outcome:
    documents = (*SERVICES, service("c", namespace="other"), http_route(rule))
    found = compiled(*documents, proxy=SIDECAR, registrations=(workload("a-1", app="a"),))
    request = Request(
        arrival=Arrival.OUTBOUND,
        destination=Address(ip="240.240.0.1", port=80),
        http=HttpRequest(authority="a", path=path),
    )
    return simulate(found.resources, request)


@pytest.mark.parametrize(
    ("matched", "new", "path", "expected"),
    [
        ("/a", "/x", "/a/b", "/x/b"),
        ("/a", "/x", "/a", "/x"),
        ("/a", "/", "/a/b?q=1", "/b?q=1"),
        ("/a", "/", "/a", "/"),
        ("/a", "/", "/a/", "/"),
        ("/", "/x", "/b", "/x/b"),
    ],
)
def test_a_replaced_prefix(matched: str, new: str, path: str, expected: str) -> None:
    rewrite = f"{{type: URLRewrite, urlRewrite: {{path: {{type: ReplacePrefixMatch, replacePrefixMatch: {new}}}}}}}"
    found = sent(f"{{{PREFIX % matched}, filters: [{rewrite}], {TO_A}}}", path)
    assert found.forwarded is not None
    assert found.forwarded.path == expected


def test_a_prefix_is_of_whole_segments_and_what_no_rule_takes_is_not_found() -> None:
    assert sent(f"{{{PREFIX % '/a'}, {TO_A}}}", "/ab").status == 404


def test_a_backend_that_is_not_there_answers_500() -> None:
    assert sent("{backendRefs: [{name: missing, port: 80}]}", "/").status == 500
