"""Rules that a VirtualService delegates to another one."""

from __future__ import annotations

from typing import Any

from tests.compile.compiled import SIDECAR, compiled, istio, service

HOST = "reviews.default.svc.cluster.local"
ROOT = istio(
    "VirtualService",
    "root",
    """  hosts: [reviews]
  http:
  - name: api
    match: [{uri: {prefix: /api}}]
    timeout: 5s
    headers: {request: {set: {a: root, b: root}}}
    delegate: {name: child, namespace: team}
  - name: rest
    route: [{destination: {host: reviews}}]
""",
)
CHILD = """  http:
  - name: v2
    match: [{uri: {prefix: /api/v2}}, {uri: {prefix: /other}}]
    headers: {request: {set: {a: child}}}
    route: [{destination: {host: v2}}]
  - name: conflict
    match: [{uri: {exact: /elsewhere}}]
    route: [{destination: {host: nowhere}}]
  - name: v1
    timeout: 1s
    route: [{destination: {host: v1.team.svc.cluster.local}}]
"""


def child(spec: str = CHILD, *, namespace: str = "team") -> str:
    return istio("VirtualService", "child", spec, namespace=namespace)


def routes(*documents: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = compiled(service("reviews"), *documents, proxy=SIDECAR).host("80", HOST)["routes"]
    return found


def test_a_delegates_rules_stand_where_the_roots_stood() -> None:
    v2, v1, rest = routes(ROOT, child())
    assert [route["name"] for route in (v2, v1, rest)] == ["api-v2", "api-v1", "rest"]
    assert v2["match"] == {"prefix": "/api/v2"}
    assert v1["match"] == {"prefix": "/api"}
    assert v2["route"]["cluster"] == "outbound|80||v2.team.svc.cluster.local", "a delegate's names are its namespace's"
    assert (v2["route"]["timeout"], v1["route"]["timeout"]) == ("5s", "1s")
    set_by_v2 = {entry["header"]["key"]: entry["header"]["value"] for entry in v2["request_headers_to_add"]}
    assert set_by_v2 == {"a": "child", "b": "root"}
    assert v2["metadata"]["filter_metadata"]["gossamer"]["origins"] == [
        "VirtualService team/child spec.http[0]",
        "VirtualService default/root spec.http[0]",
    ]


def test_without_its_delegate_a_rule_takes_nothing() -> None:
    assert [route["name"] for route in routes(ROOT)] == ["rest"]


def test_a_delegate_is_used_only_where_it_is_exported() -> None:
    assert [route["name"] for route in routes(ROOT, child(CHILD + "  exportTo: ['.']"))] == ["rest"]
    assert len(routes(ROOT, child(CHILD + "  exportTo: [default]"))) == 3


def test_a_delegate_routes_nothing_by_itself() -> None:
    (route,) = routes(child(namespace="default"))
    assert route["name"] == "default"


def test_an_edit_of_the_delegate_is_an_edit_of_the_route() -> None:
    before = routes(ROOT, child("  http: [{route: [{destination: {host: one.com}}]}]"))
    after = routes(ROOT, child("  http: [{route: [{destination: {host: two.com}}]}]"))
    assert [r[0]["route"]["cluster"] for r in (before, after)] == ["outbound|80||one.com", "outbound|80||two.com"]
