"""Routes by the claims of a verified token."""

from __future__ import annotations

from typing import Any

import pytest

from gossamer.api.claims import claim_path
from tests.api.documents import load_one, resource
from tests.compile.compiled import GATEWAY, compiled, istio

SERVER = istio(
    "Gateway",
    "gw",
    "  selector: {istio: ingressgateway}\n  servers: [{port: {number: 80, name: h, protocol: HTTP}, hosts: ['a.com']}]",
)


def matched(match: str) -> dict[str, Any]:
    text = istio(
        "VirtualService",
        "v",
        f"  hosts: [a.com]\n  gateways: [gw]\n  http: [{{match: [{match}], redirect: {{uri: /}}}}]",
    )
    found: dict[str, Any] = compiled(SERVER, text, proxy=GATEWAY).host("http.80", "a.com")["routes"][0]["match"]
    return found


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("@request.auth.claims.sub", ("sub",)),
        ("@request.auth.claims[sub]", ("sub",)),
        ("@request.auth.claims.realm.roles", ("realm", "roles")),
        ("@request.auth.claims[realm][a.b]", ("realm", "a.b")),
        ("@request.auth.claims", ()),
        ("@request.auth.claims.", ()),
        ("@request.auth.claims[]", ()),
        ("@request.auth.claims[a]b", ()),
        ("x-other", ()),
    ],
)
def test_how_a_claim_is_named(name: str, expected: tuple[str, ...]) -> None:
    assert claim_path(name) == expected


def test_a_claim_is_a_text_or_a_list_that_holds_it() -> None:
    found = matched("{headers: {'@request.auth.claims[realm][roles]': {exact: admin}, x: {exact: z}}}")
    text = {"string_match": {"exact": "admin"}}
    assert found["dynamic_metadata"] == [
        {
            "filter": "envoy.filters.http.jwt_authn",
            "path": [{"key": "payload"}, {"key": "realm"}, {"key": "roles"}],
            "value": {"or_match": {"value_matchers": [text, {"list_match": {"one_of": text}}]}},
        }
    ]
    assert [header["name"] for header in found["headers"]] == ["x"]


def test_presence_and_absence() -> None:
    (present,) = matched("{headers: {'@request.auth.claims.sub': {}}}")["dynamic_metadata"]
    assert present["value"] == {"present_match": True}
    (absent,) = matched("{withoutHeaders: {'@request.auth.claims.sub': {prefix: a}}}")["dynamic_metadata"]
    assert absent["invert"] is True


def _said(header: str, gateways: list[str]) -> list[tuple[str, bool]]:
    match = {"headers": {header: {"exact": "a"}}}
    spec = {
        "hosts": ["a.com"],
        "gateways": gateways,
        "http": [{"match": [match], "route": [{"destination": {"host": "a"}}]}],
    }
    return [(found.code, found.is_error) for found in load_one(resource("VirtualService", spec)).diagnostics]


def test_what_a_match_by_claims_is_told() -> None:
    assert _said("@request.auth.claims.sub", ["gw"]) == []
    assert _said("@request.auth.claims.sub", ["mesh"]) == [("no-effect", False)]
    assert _said("@request.auth.claims", ["gw"]) == [("invalid-claim", True)]
    assert _said("method", ["gw"]) == [("no-effect", False)]


def test_reserved_names_are_no_headers() -> None:
    assert "headers" not in matched("{headers: {uri: {exact: /a}}}")
