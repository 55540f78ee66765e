"""Route tables of sidecars: hosts and domains, matches, actions, faults."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gossamer.compile.draft import references
from gossamer.core.frozen import FrozenMap
from gossamer.core.resources import CLUSTER, ROUTE, Reference
from tests.compile.compiled import SIDECAR, Compiled, compiled, istio, service

HOST = "reviews.default.svc.cluster.local"
NAME = f"outbound|80||{HOST}"
TWO = istio(
    "DestinationRule",
    "reviews",
    "  host: reviews\n  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]",
)


def virtual_service(http: str, *, hosts: str = "[reviews]", more: str = "", name: str = "reviews") -> str:
    return istio("VirtualService", name, f"  hosts: {hosts}\n  http:\n{http}\n{more}")


def routed(http: str) -> list[dict[str, Any]]:
    """Routes of reviews:80 under a VirtualService with these rules."""
    routes: list[dict[str, Any]] = compiled(service("reviews"), TWO, virtual_service(http)).host("80", HOST)["routes"]
    return routes


def only(http: str) -> dict[str, Any]:
    (route,) = routed(http)
    return route


def test_a_service_without_rules() -> None:
    found = compiled(service("reviews"))
    host = found.host("80", HOST)
    assert host["name"] == f"{HOST}:80"
    (route,) = host["routes"]
    assert route["name"] == "default"
    assert route["match"] == {"prefix": "/"}
    assert route["route"]["cluster"] == NAME
    assert route["route"]["timeout"] == "0s"
    retries = route["route"]["retry_policy"]
    assert retries["num_retries"] == 2
    assert retries["retry_on"] == "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
    assert retries["retriable_status_codes"] == [503]
    assert route["metadata"]["filter_metadata"]["gossamer"] == {"origins": ["Service default/reviews"]}
    resource = found.resources.get(ROUTE, "80")
    assert resource is not None
    assert resource.references == references(CLUSTER, (NAME, "PassthroughCluster"))


def test_names_of_a_service_depend_on_who_calls() -> None:
    near = compiled(service("reviews")).host("80", HOST)["domains"]
    assert near[:4] == [HOST, "reviews", "reviews.default.svc", "reviews.default"]
    assert near[4].startswith("240.240.")
    far = compiled(service("reviews"), proxy=replace(SIDECAR, namespace="other")).host("80", HOST)["domains"]
    assert "reviews" not in far
    assert "reviews.default" in far
    fixed = compiled(service("reviews", extra="clusterIP: 10.0.0.9")).host("80", HOST)["domains"]
    assert "10.0.0.9" in fixed


def test_no_domain_stands_twice() -> None:
    spec = "  hosts: [{}]\n  addresses: [10.0.0.9]\n  ports: [{{number: 80, name: http, protocol: HTTP}}]"
    documents = [
        istio("ServiceEntry", f"s{n}", spec.format(host)) for n, host in enumerate(("a.com", "reviews.default"))
    ]
    found = compiled(service("reviews"), *documents).table("80")["virtual_hosts"]
    domains = [domain for host in found for domain in host["domains"]]
    assert len(domains) == len(set(domains))
    owner = next(host["name"] for host in found if "reviews.default" in host["domains"])
    assert owner == "reviews.default:80", "a host has its own name by right"


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ("{uri: {exact: /a}}", {"path": "/a"}),
        ("{uri: {prefix: /a}, ignoreUriCase: true}", {"prefix": "/a", "case_sensitive": False}),
        ("{uri: {regex: '/a.*'}}", {"safe_regex": {"regex": "/a.*"}}),
        ("{}", {"prefix": "/"}),
        (
            "{headers: {X-A: {exact: b}, c: {}}}",
            {
                "prefix": "/",
                "headers": [
                    {"name": "x-a", "string_match": {"exact": "b"}},
                    {"name": "c", "present_match": True},
                ],
            },
        ),
        (
            "{method: {exact: GET}, authority: {prefix: a}, scheme: {exact: http}}",
            {
                "prefix": "/",
                "headers": [
                    {"name": ":authority", "string_match": {"prefix": "a"}},
                    {"name": ":method", "string_match": {"exact": "GET"}},
                    {"name": ":scheme", "string_match": {"exact": "http"}},
                ],
            },
        ),
        (
            "{queryParams: {q: {regex: 'v\\d'}}}",
            {"prefix": "/", "query_parameters": [{"name": "q", "string_match": {"safe_regex": {"regex": "v\\d"}}}]},
        ),
    ],
)
def test_matches(match: str, expected: dict[str, Any]) -> None:
    (first,) = routed(f"  - match: [{match}]\n    route: [{{destination: {{host: reviews}}}}]")
    assert first["match"] == expected


def test_headers_that_must_not_match_hold_when_missing() -> None:
    route = only("  - match: [{withoutHeaders: {a: {exact: b}, c: {}}}]\n    route: [{destination: {host: reviews}}]")
    assert route["match"]["headers"] == [
        {
            "name": "a",
            "string_match": {"exact": "b"},
            "invert_match": True,
            "treat_missing_header_as_empty": True,
        },
        {"name": "c", "present_match": True, "invert_match": True},
    ]


def test_alternatives_are_routes_and_nothing_follows_a_rule_without_a_match() -> None:
    routes = routed(
        "  - name: r\n    match: [{name: a, uri: {exact: /a}}, {uri: {exact: /b}}]\n"
        "    route: [{destination: {host: reviews}}]\n"
        "  - route: [{destination: {host: reviews, subset: v1}}]\n"
        "  - route: [{destination: {host: reviews, subset: v2}}]"
    )
    assert [route.get("name", "") for route in routes] == ["r.a", "r", ""]
    assert routes[2]["route"]["cluster"] == f"outbound|80|v1|{HOST}"
    origins = [route["metadata"]["filter_metadata"]["gossamer"]["origins"] for route in routes]
    assert origins == [[f"VirtualService default/reviews spec.http[{index}]"] for index in (0, 0, 1)]


def test_weights() -> None:
    route = only(
        "  - route:\n    - {destination: {host: reviews, subset: v1}, weight: 90}\n"
        "    - {destination: {host: reviews, subset: v2}, weight: 10, headers: {request: {set: {a: b}}}}"
    )
    first, second = route["route"]["weighted_clusters"]["clusters"]
    assert (first["name"], first["weight"]) == (f"outbound|80|v1|{HOST}", 90)
    assert second["request_headers_to_add"] == [
        {"header": {"key": "a", "value": "b"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
    ]


def test_timeout_and_retries() -> None:
    action = only(
        "  - timeout: 1500ms\n"
        "    retries: {attempts: 5, perTryTimeout: 2s, retryOn: 'gateway-error,404', backoff: 50ms,"
        " retryIgnorePreviousHosts: false, retryRemoteLocalities: true}\n    route: [{destination: {host: reviews}}]"
    )["route"]
    assert action["timeout"] == "1.500s"
    retries = action["retry_policy"]
    assert retries["retry_on"] == "gateway-error,retriable-status-codes"
    assert retries["retriable_status_codes"] == [404]
    assert (retries["num_retries"], retries["per_try_timeout"]) == (5, "2s")
    assert retries["retry_back_off"] == {"base_interval": "0.050s"}
    assert "retry_host_predicate" not in retries
    assert retries["retry_priority"]["name"] == "envoy.retry_priorities.previous_priorities"
    assert (
        "retry_policy" not in only("  - retries: {attempts: 0}\n    route: [{destination: {host: reviews}}]")["route"]
    )


def test_rewrites() -> None:
    action = only("  - rewrite: {uri: /x, authority: a.com}\n    route: [{destination: {host: reviews}}]")["route"]
    assert (action["prefix_rewrite"], action["host_rewrite_literal"]) == ("/x", "a.com")
    action = only(
        "  - rewrite: {uriRegexRewrite: {match: '/(.*)', rewrite: '/\\1'}}\n    route: [{destination: {host: reviews}}]"
    )["route"]
    assert action["regex_rewrite"] == {"pattern": {"regex": "/(.*)"}, "substitution": "/\\1"}
    action = only("  - headers: {request: {set: {Host: b.com}}}\n    route: [{destination: {host: reviews}}]")["route"]
    assert action["host_rewrite_literal"] == "b.com"


def test_redirects_and_direct_responses() -> None:
    assert only("  - redirect: {uri: /x, authority: a.com, scheme: https, redirectCode: 308, port: 8443}")[
        "redirect"
    ] == {
        "path_redirect": "/x",
        "host_redirect": "a.com",
        "scheme_redirect": "https",
        "response_code": "PERMANENT_REDIRECT",
        "port_redirect": 8443,
    }
    response = only("  - directResponse: {status: 418, body: {string: tea}}")["direct_response"]
    assert response == {"status": 418, "body": {"inline_string": "tea"}}


@pytest.mark.parametrize(
    ("redirect", "expected"),
    [
        ("{authority: a.com, derivePort: FROM_REQUEST_PORT}", 8080),
        ("{uri: /x, derivePort: FROM_REQUEST_PORT}", None),
        ("{authority: a.com, derivePort: FROM_PROTOCOL_DEFAULT}", 80),
        ("{scheme: https, derivePort: FROM_PROTOCOL_DEFAULT}", 443),
        ("{authority: a.com, port: 9}", 9),
        ("{authority: a.com}", None),
    ],
)
def test_the_port_of_a_redirect(redirect: str, expected: int | None) -> None:
    documents = (service("reviews", "{name: http, port: 8080}"), virtual_service(f"  - redirect: {redirect}"))
    (route,) = compiled(*documents).host("8080", HOST)["routes"]
    assert route["redirect"].get("port_redirect") == expected


def test_a_statistics_prefix_is_the_matchs() -> None:
    route = only("  - match: [{statPrefix: of-mine}]\n    route: [{destination: {host: reviews}}]")
    assert route["stat_prefix"] == "of-mine"


def test_faults() -> None:
    route = only(
        "  - fault: {delay: {fixedDelay: 7s, percentage: {value: 0.5}}, "
        "abort: {httpStatus: 555, percentage: {value: 100}}}\n"
        "    route: [{destination: {host: reviews}}]"
    )
    fault = route["typed_per_filter_config"]["envoy.filters.http.fault"]
    assert fault["delay"] == {
        "fixed_delay": "7s",
        "percentage": {"numerator": 5000, "denominator": "MILLION"},
    }
    assert fault["abort"] == {"http_status": 555, "percentage": {"numerator": 1000000, "denominator": "MILLION"}}


def test_header_changes() -> None:
    route = only(
        "  - headers: {request: {add: {a: b}, remove: [c]}, response: {set: {d: e}, remove: [f]}}\n"
        "    route: [{destination: {host: reviews}, headers: {response: {add: {g: h}}}}]"
    )
    assert route["request_headers_to_add"] == [
        {"header": {"key": "a", "value": "b"}}  # appending is Envoy's default, not shown in JSON
    ]
    assert route["request_headers_to_remove"] == ["c"]
    assert [entry["header"]["key"] for entry in route["response_headers_to_add"]] == ["d", "g"]


def test_mirrors() -> None:
    action = only(
        "  - mirror: {host: reviews, subset: v2}\n    mirrorPercentage: {value: 10}\n"
        "    route: [{destination: {host: reviews}}]"
    )["route"]
    (mirror,) = action["request_mirror_policies"]
    assert mirror["cluster"] == f"outbound|80|v2|{HOST}"
    assert mirror["runtime_fraction"]["default_value"] == {"numerator": 100000, "denominator": "MILLION"}


def test_cors() -> None:
    route = only(
        "  - corsPolicy: {allowOrigins: [{exact: 'http://a'}], allowMethods: [GET], maxAge: 1m, "
        "allowCredentials: true}\n"
        "    route: [{destination: {host: reviews}}]"
    )
    cors = route["typed_per_filter_config"]["envoy.filters.http.cors"]
    assert cors["allow_origin_string_match"] == [{"exact": "http://a"}]
    assert (cors["allow_methods"], cors["max_age"], cors["allow_credentials"]) == ("GET", "60", True)


def test_consistent_hashing_of_a_destination_reaches_its_routes() -> None:
    rule = istio(
        "DestinationRule",
        "reviews",
        "  host: reviews\n  trafficPolicy: {loadBalancer: {consistentHash: {httpCookie: {name: s, ttl: 0s}}}}",
    )
    (route,) = compiled(service("reviews"), rule).host("80", HOST)["routes"]
    assert route["route"]["hash_policy"] == [{"cookie": {"name": "s", "ttl": "0s"}}]


def test_tls_of_their_own_keeps_the_meshs_mark_away() -> None:
    rule = istio("DestinationRule", "reviews", "  host: reviews\n  trafficPolicy: {tls: {mode: SIMPLE}}")
    (route,) = compiled(service("reviews"), rule).host("80", HOST)["routes"]
    assert route["typed_per_filter_config"]["gossamer.mesh_alpn"]["disabled"] is True


def test_the_port_of_a_destination() -> None:
    two_ports = service("ratings", "{name: http, port: 81}, {name: http-b, port: 82}")

    def target(destination: str) -> str:
        text = virtual_service(f"  - route: [{{destination: {destination}}}]")
        found = compiled(service("reviews"), service("one", "{name: http, port: 99}"), two_ports, text)
        return str(found.host("80", HOST)["routes"][0]["route"]["cluster"])

    assert target("{host: ratings, port: {number: 82}}") == "outbound|82||ratings.default.svc.cluster.local"
    assert target("{host: one}") == "outbound|99||one.default.svc.cluster.local", "the only one that there is"
    assert target("{host: ratings}") == "outbound|80||ratings.default.svc.cluster.local", "else the one that was called"
    assert target("{host: unknown.com}") == "outbound|80||unknown.com"


def test_references_say_what_the_content_names_and_not_what_there_is() -> None:
    text = virtual_service("  - route: [{destination: {host: later.com}}]")
    resource = compiled(service("reviews"), text).resources.get(ROUTE, "80")
    assert resource is not None
    assert resource.references is not None
    assert Reference(type_url=CLUSTER, name="outbound|80||later.com") in resource.references


def test_matches_on_a_port_and_on_a_client() -> None:
    text = virtual_service(
        "  - match: [{port: 81}]\n    route: [{destination: {host: on-port}}]\n"
        "  - match: [{sourceLabels: {app: x}}]\n    route: [{destination: {host: labelled}}]\n"
        "  - match: [{sourceNamespace: other}]\n    route: [{destination: {host: namespaced}}]\n"
        "  - match: [{gateways: [some-gateway]}]\n    route: [{destination: {host: at-gateway}}]"
    )
    documents = (service("reviews", "{name: http, port: 80}, {name: http-b, port: 81}"), text)

    def targets(found: Compiled, table: str) -> list[str]:
        clusters = [route["route"]["cluster"] for route in found.host(table, HOST)["routes"]]
        return [cluster.rpartition("|")[2].partition(".")[0] for cluster in clusters]

    assert targets(compiled(*documents), "81") == ["on-port"]
    assert targets(compiled(*documents), "80") == ["reviews"], "no rule is left: the service itself"
    labelled = replace(SIDECAR, labels=FrozenMap({"app": "x", "more": "labels"}))
    assert targets(compiled(*documents, proxy=labelled), "80") == ["labelled"]
    assert targets(compiled(*documents, proxy=replace(SIDECAR, namespace="other")), "80") == ["namespaced"]


def test_the_most_specific_and_then_the_oldest_virtual_service_speaks() -> None:
    def rule(name: str, hosts: str, target: str, created: str) -> str:
        spec = f"  hosts: [{hosts}]\n  http: [{{route: [{{destination: {{host: {target}}}}}]}}]"
        return istio("VirtualService", name, spec, metadata=f', creationTimestamp: "{created}-01-01T00:00:00Z"')

    documents = (
        service("reviews"),
        service("ratings"),
        rule("wild", "'*.cluster.local'", "wild.com", "2019"),
        rule("younger", "reviews", "younger.com", "2022"),
        rule("older", "reviews", "older.com", "2021"),
        rule("other", "'*.other.com'", "other.com", "2021"),
    )
    found = compiled(*documents)

    def cluster(domain: str) -> str:
        return str(found.host("80", domain)["routes"][0]["route"]["cluster"])

    assert cluster(HOST) == "outbound|80||older.com"
    assert cluster("ratings.default.svc.cluster.local") == "outbound|80||wild.com"
    assert cluster("*.other.com") == "outbound|80||other.com", "a host that is no service is served on port 80"
    domains = [domain for host in found.table("80")["virtual_hosts"] for domain in host["domains"]]
    assert "*.cluster.local" not in domains


def test_a_virtual_service_that_is_not_exported_is_not_loaded() -> None:
    text = virtual_service("  - route: [{destination: {host: x.com}}]", more="  exportTo: [other]")
    assert compiled(service("reviews"), text).host("80", HOST)["routes"][0]["route"]["cluster"] == NAME


@pytest.mark.parametrize(("mode", "name"), [("ALLOW_ANY", "allow_any"), ("REGISTRY_ONLY", "block_all")])
def test_hosts_that_nobody_declared(mode: str, name: str) -> None:
    found = compiled(service("reviews"), mesh_config=f"outboundTrafficPolicy: {{mode: {mode}}}")
    last = found.host("80", "*")
    assert last["name"] == name
    (route,) = last["routes"]
    if name == "allow_any":
        assert route["route"]["cluster"] == "PassthroughCluster"
    else:
        assert route["direct_response"]["status"] == 502


def test_the_rules_for_a_service_are_for_its_aliases_too() -> None:
    alias = service("alias", extra=f"type: ExternalName\n  externalName: {HOST}")
    text = virtual_service("  - route: [{destination: {host: x.com}}]", hosts="[reviews]")
    found = compiled(service("reviews"), alias, text)
    assert found.host("80", "alias")["routes"][0]["route"]["cluster"] == "outbound|80||x.com"


def test_a_route_to_an_alias_leads_to_the_service_behind_it() -> None:
    alias = service("alias", extra=f"type: ExternalName\n  externalName: {HOST}")
    text = virtual_service("  - route: [{destination: {host: alias}}]", hosts="[x.com]")
    found = compiled(service("reviews"), alias, text)
    assert found.host("80", "x.com")["routes"][0]["route"]["cluster"] == NAME


def test_an_alias_is_served_by_the_service_behind_it() -> None:
    alias = service("alias", extra=f"type: ExternalName\n  externalName: {HOST}")
    found = compiled(service("reviews"), alias)
    assert found.host("80", "alias.default.svc.cluster.local")["routes"][0]["route"]["cluster"] == NAME
    text = virtual_service("  - route: [{destination: {host: x.com}}]", hosts="[alias]")
    routes = compiled(service("reviews"), alias, text).host("80", "alias")["routes"]
    assert routes[0]["route"]["cluster"] == "outbound|80||x.com"
