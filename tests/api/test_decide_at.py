"""What can be said of rules that the destination decides."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.documents import load_one

HEAD = """apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v, namespace: default, annotations: {gossamer.dev/decide-at: %s}}
spec:
"""
TO_A = "route: [{destination: {host: a}}]"
GOOD = f"  hosts: [a]\n  http: [{{match: [{{sourceNamespace: x}}], {TO_A}}}, {{{TO_A}}}]\n"


def said(spec: str, where: str = "destination") -> list[tuple[str, str, bool]]:
    found = load_one(HEAD % where + spec).diagnostics
    return [(one.code, one.path, one.is_error) for one in found]


@pytest.mark.parametrize("where", ["caller", "destination", "both"])
def test_the_three_places(where: str) -> None:
    assert said(GOOD, where) == []


def test_another_place() -> None:
    ((code, path, error),) = said(GOOD, "server")
    assert (code, error) == ("invalid-value", True)
    assert path.startswith("metadata.annotations")


def test_callers_without_a_rule_are_spoken_of() -> None:
    assert said(f"  hosts: [a]\n  http: [{{match: [{{sourceNamespace: x}}], {TO_A}}}]\n") == [
        ("no-fall-through", "spec.http", False)
    ]


@pytest.mark.parametrize(
    ("rule", "code", "path"),
    [
        ("route: [{destination: {host: b}}]", "not-at-destination", "route[0].destination.host"),
        ("route: [{destination: {host: a, subset: v1}}]", "not-at-destination", "route[0].destination"),
        (f"{TO_A}, mirror: {{host: b}}", "not-at-destination", "mirror"),
        (f"{TO_A}, fault: {{abort: {{httpStatus: 500}}}}", "not-at-destination", "fault"),
        (f"{TO_A}, match: [{{sourceLabels: {{app: b}}}}]", "not-at-destination", "match[0].sourceLabels"),
        (f"{TO_A}, match: [{{gateways: [mesh]}}]", "not-at-destination", "match[0].gateways"),
        (
            f"{TO_A}, match: [{{headers: {{'@source.account': {{exact: b}}}}}}]",
            "invalid-source",
            'match[0].headers["@source.account"]',
        ),
    ],
)
def test_what_has_no_meaning_there(rule: str, code: str, path: str) -> None:
    found = said(f"  hosts: [a]\n  http: [{{{rule}}}, {{{TO_A}}}]\n")
    assert [one for one in found if one[0] != "unreachable-rule"] == [(code, f"spec.http[0].{path}", True)]


def test_the_host_may_be_written_short_or_whole() -> None:
    rule = "route: [{destination: {host: a.default.svc.cluster.local}}]"
    assert said(f"  hosts: [a]\n  http: [{{{rule}}}]\n") == []


def test_only_the_services_namespace_decides() -> None:
    spec = (
        "  hosts: [a.other.svc.cluster.local]\n  http: [{route: [{destination: {host: a.other.svc.cluster.local}}]}]\n"
    )
    assert said(spec) == [("no-effect", "spec.hosts[0]", False)]


@pytest.mark.parametrize("where", ["caller", "both"])
def test_a_callers_proxy_does_not_know_its_certificate(where: str) -> None:
    match = "match: [{headers: {'@source.principal': {exact: b}}}]"
    found: Any = said(f"  hosts: [a]\n  http: [{{{match}, {TO_A}}}, {{{TO_A}}}]\n", where)
    assert [(code, error) for code, _, error in found] == [("invalid-source", True)]
