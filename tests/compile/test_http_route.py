"""HTTPRoutes attached to Services: rules of the Gateway API in a sidecar's route tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gossamer.compile.static import Stub
from tests.compile.compiled import SIDECAR, Compiled, compiled, istio, service
from tests.compile.validated import validated

HOST = "a.default.svc.cluster.local"
TO_A = "backendRefs: [{name: a, port: 80}]"
SERVICES = (service("a", "{name: http, port: 80}, {name: http-b, port: 81}"), service("b"))


def http_route(rules: str, *, name: str = "r", namespace: str = "default", parent: str = "", created: str = "") -> str:
    return f"""
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: "{created or "2024"}-01-01T00:00:00Z"}}
spec:
  parentRefs: [{parent or '{group: "", kind: Service, name: a, namespace: default}'}]
  rules: [{rules}]
"""


def routes(*rules: str, table: str = "80") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = compiled(*SERVICES, http_route(", ".join(rules))).host(table, HOST)["routes"]
    return found


def only(rule: str) -> dict[str, Any]:
    (route,) = routes(rule)
    return route


def cluster(found: Compiled, table: str = "80") -> str:
    return str(found.host(table, HOST)["routes"][0]["route"]["cluster"])


def to(host: str) -> str:
    return f"{{backendRefs: [{{group: networking.istio.io, kind: Hostname, name: {host}, port: 80}}]}}"


def test_matches_of_whole_path_segments_in_the_gateway_apis_order() -> None:
    found = routes(
        f"{{name: many, matches: [{{path: {{value: /a}}}}, {{path: {{value: /a/b/}}}}], {TO_A}}}",
        f"{{name: everything, {TO_A}}}",
        f"{{name: exact, matches: [{{path: {{type: Exact, value: /a}}}}], {TO_A}}}",
        f"{{name: regex, matches: [{{path: {{type: RegularExpression, value: '/x.*'}}}}], {TO_A}}}",
        f"{{name: method, matches: [{{method: GET, path: {{value: /a}}}}], {TO_A}}}",
        f"{{name: header, matches: [{{headers: [{{name: X, value: 'v'}}], path: {{value: /a}}}}], {TO_A}}}",
        f"{{name: query, matches: [{{queryParams: [{{name: q, value: 'v'}}], path: {{value: /a}}}}], {TO_A}}}",
    )
    assert [route["name"] for route in found] == [
        *("exact", "regex", "many", "method", "header", "query", "many", "everything"),
    ]
    assert found[2]["match"] == {"path_separated_prefix": "/a/b"}
    assert found[-1]["match"] == {"prefix": "/"}
    assert found[4]["match"]["headers"] == [{"name": "x", "string_match": {"exact": "v"}}]


def test_weights_and_backends_that_may_not_be_referred_to() -> None:
    clusters = only(
        "{backendRefs: [{name: a, port: 80, weight: 3}, {name: b, port: 80, weight: 0}, {name: c, namespace: other, "
        "port: 80}, {name: b, port: 80, filters: [{type: RequestHeaderModifier, requestHeaderModifier: "
        "{set: [{name: x, value: 10%}]}}]}]}"
    )["route"]
    assert clusters["cluster_not_found_response_code"] == "INTERNAL_SERVER_ERROR"
    first, refused, last = clusters["weighted_clusters"]["clusters"]
    assert (first["name"], first["weight"]) == (f"outbound|80||{HOST}", 3)
    assert (refused["name"], refused["weight"]) == ("outbound|80||invalid-backend", 1)
    assert last["request_headers_to_add"][0]["header"] == {"key": "x", "value": "10%%"}


GRANT = """
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {name: g, namespace: other}
spec:
  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: %s}]
  to: [{group: "", kind: Service}]
"""


@pytest.mark.parametrize(("namespace", "works"), [("default", True), ("elsewhere", False)])
def test_a_grant_lets_a_route_refer_into_another_namespace(namespace: str, works: bool) -> None:
    text = http_route("{backendRefs: [{name: c, namespace: other, port: 80}]}")
    (route,) = compiled(*SERVICES, text, GRANT % namespace).host("80", HOST)["routes"]
    if works:
        assert route["route"]["cluster"] == "outbound|80||c.other.svc.cluster.local"
    else:
        assert route["direct_response"]["status"] == 500


@pytest.mark.parametrize(
    "rule", ["{name: none}", "{backendRefs: [{name: a, port: 80, weight: 0}]}", "{backendRefs: [{kind: X, name: a}]}"]
)
def test_nothing_to_forward_to_is_a_500(rule: str) -> None:
    assert only(rule)["direct_response"]["status"] == 500


def test_header_changes_mirrors_and_cors() -> None:
    route = only(
        "{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: A, value: b}], remove: [c]}}, "
        "{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: d, value: e}]}}, "
        "{type: RequestMirror, requestMirror: {backendRef: {name: b, port: 80}, fraction: {numerator: 1, "
        "denominator: 4}}}, {type: RequestMirror, requestMirror: {backendRef: {name: b, port: 80}}}, "
        "{type: CORS, cors: {allowOrigins: ['http://*.a.com', 'http://b'], allowMethods: [GET], maxAge: 60}}], "
        f"{TO_A}}}"
    )
    assert route["request_headers_to_add"][0]["header"] == {"key": "a", "value": "b"}
    assert route["request_headers_to_remove"] == ["c"]
    assert route["response_headers_to_add"][0]["header"] == {"key": "d", "value": "e"}
    shares = [mirror["runtime_fraction"]["default_value"] for mirror in route["route"]["request_mirror_policies"]]
    assert [share["numerator"] for share in shares] == [250_000, 1_000_000]
    cors = route["typed_per_filter_config"]["envoy.filters.http.cors"]
    assert cors["allow_origin_string_match"] == [
        {"safe_regex": {"regex": r"http\:\/\/.*\.a\.com"}},
        {"exact": "http://b"},
    ]
    assert cors["max_age"] == "60"


PREFIX = "matches: [{path: {value: %s}}]"


@pytest.mark.parametrize(
    ("matched", "new", "expected"),
    [
        ("/a", "/x", {"prefix_rewrite": "/x"}),
        ("/a", "/x/", {"prefix_rewrite": "/x"}),
        ("/", "/x", {"prefix_rewrite": "/x/"}),
        ("/a", "/", {"regex_rewrite": {"pattern": {"regex": "^/a/*"}, "substitution": "/"}}),
    ],
)
def test_a_prefix_is_replaced_by_whole_segments(matched: str, new: str, expected: dict[str, Any]) -> None:
    path = f"path: {{type: ReplacePrefixMatch, replacePrefixMatch: {new}}}"
    rewrite = f"filters: [{{type: URLRewrite, urlRewrite: {{hostname: h.com, {path}}}}}]"
    action = only(f"{{{PREFIX % matched}, {rewrite}, {TO_A}}}")["route"]
    assert action["host_rewrite_literal"] == "h.com"
    assert {name: value for name, value in action.items() if name in ("prefix_rewrite", "regex_rewrite")} == expected
    redirect = f"filters: [{{type: RequestRedirect, requestRedirect: {{{path}}}}}]"
    found = only(f"{{{PREFIX % matched}, {redirect}}}")["redirect"]
    assert {name: found.get(name) for name in expected} == expected
    assert found["response_code"] == "FOUND"


def test_a_whole_path_is_replaced() -> None:
    path = "path: {type: ReplaceFullPath, replaceFullPath: '/x\\y'}"
    action = only(f"{{filters: [{{type: URLRewrite, urlRewrite: {{{path}}}}}], {TO_A}}}")["route"]
    assert action["regex_rewrite"] == {"pattern": {"regex": "^/.*$"}, "substitution": r"/x\\y"}
    found = only(f"{{filters: [{{type: RequestRedirect, requestRedirect: {{{path}}}}}]}}")["redirect"]
    assert found["path_redirect"] == "/x\\y"


@pytest.mark.parametrize(
    ("redirect", "port"),
    [
        ("{scheme: https}", None),
        ("{hostname: h.com}", None),
        ("{hostname: h.com, port: 8443}", 8443),
        ("{scheme: https, port: 443}", None),
    ],
)
def test_the_port_of_a_redirect(redirect: str, port: int | None) -> None:
    found = only(f"{{filters: [{{type: RequestRedirect, requestRedirect: {redirect}}}]}}")["redirect"]
    assert found.get("port_redirect") == port


def test_timeouts_and_retries() -> None:
    action = only(f"{{timeouts: {{request: 2s, backendRequest: 1s}}, {TO_A}}}")["route"]
    assert (action["timeout"], action["retry_policy"]["per_try_timeout"]) == ("2s", "1s")
    assert action["retry_policy"]["num_retries"] == 2, "the mesh's own"
    retries = only(f"{{retry: {{codes: [500, 503], attempts: 4, backoff: 100ms}}, {TO_A}}}")["route"]["retry_policy"]
    assert (retries["num_retries"], retries["retriable_status_codes"]) == (4, [500, 503])


def test_a_port_limits_a_route_to_it() -> None:
    parent = '{group: "", kind: Service, name: a, port: 81}'
    found = compiled(*SERVICES, http_route(to("x.com"), parent=parent))
    assert cluster(found, "81") == "outbound|80||x.com"
    assert cluster(found, "80") == f"outbound|80||{HOST}"


def test_a_consumers_route_is_for_callers_of_its_namespace_and_comes_before_the_producers() -> None:
    producer = http_route(to("producer.com"), created="2020")
    consumer = http_route(to("consumer.com"), namespace="other", created="2024")
    documents = (*SERVICES, producer, consumer)
    assert cluster(compiled(*documents)) == "outbound|80||producer.com"
    assert cluster(compiled(*documents, proxy=replace(SIDECAR, namespace="other"))) == "outbound|80||consumer.com"
    assert cluster(compiled(*documents, proxy=replace(SIDECAR, namespace="third"))) == "outbound|80||producer.com"


def test_of_a_route_and_a_virtual_service_the_older_speaks() -> None:
    def virtual_service(created: str) -> str:
        spec = "  hosts: [a]\n  http: [{route: [{destination: {host: v.com}}]}]"
        return istio("VirtualService", "v", spec, metadata=f', creationTimestamp: "{created}-01-01T00:00:00Z"')

    route = http_route(to("r.com"), created="2022")
    assert cluster(compiled(*SERVICES, route, virtual_service("2021"))) == "outbound|80||v.com"
    assert cluster(compiled(*SERVICES, route, virtual_service("2023"))) == "outbound|80||r.com"


def test_several_routes_of_a_service_are_one() -> None:
    documents = (
        http_route(f"{{{PREFIX % '/long/path'}, {TO_A}}}", name="younger", created="2024"),
        http_route(f"{{{PREFIX % '/long'}, {TO_A}}}, {{{TO_A}}}", name="older", created="2020"),
        http_route(f"{{name: never, {TO_A}}}", name="z", created="2021"),
    )
    found = compiled(*SERVICES, *documents).host("80", HOST)["routes"]
    assert [next(iter(route["match"].values())) for route in found] == ["/long/path", "/long", "/", "/"]
    origins = [route["metadata"]["filter_metadata"]["gossamer"]["origins"] for route in found]
    assert origins[0] == ["HTTPRoute default/younger spec.rules[0]"]
    assert origins[2:] == [["HTTPRoute default/older spec.rules[1]"], ["HTTPRoute default/z spec.rules[0]"]]


def test_a_service_entry_is_a_parent_too() -> None:
    entry = istio("ServiceEntry", "e", "  hosts: [e.com]\n  ports: [{number: 80, name: http, protocol: HTTP}]")
    parent = "{group: networking.istio.io, kind: ServiceEntry, name: e}"
    found = compiled(*SERVICES, entry, http_route(to("x.com"), parent=parent))
    assert found.host("80", "e.com")["routes"][0]["route"]["cluster"] == "outbound|80||x.com"


def test_a_route_of_no_service_serves_no_host() -> None:
    parent = '{group: "", kind: Service, name: missing}'
    found = compiled(*SERVICES, http_route(to("x.com"), parent=parent)).table("80")["virtual_hosts"]
    assert "missing" not in str(found)


@pytest.mark.envoy
def test_envoy_takes_it(envoy: Path, stub: Stub, tmp_path: Path) -> None:
    filters = "filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}]"
    cors = "filters: [{type: CORS, cors: {allowOrigins: ['*', 'http://*.a'], allowHeaders: ['*']}}]"
    redirect = "type: RequestRedirect, requestRedirect: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}"
    rules = (
        f"{{{PREFIX % '/a'}, {filters}, {TO_A}}}",
        f"{{{PREFIX % '/r'}, filters: [{{{redirect}}}]}}",
        f"{{matches: [{{path: {{type: RegularExpression, value: '/x.*'}}, method: GET}}], {cors}, {TO_A}}}",
        "{backendRefs: [{name: a, port: 80}, {kind: X, name: c}], timeouts: {request: 0s, backendRequest: 1s}}",
    )
    found = compiled(*SERVICES, http_route(", ".join(rules)))
    assert validated(envoy, found.resources, stub, tmp_path) == ""
