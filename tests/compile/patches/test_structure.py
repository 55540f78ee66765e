"""Patches of listeners, chains, routes, clusters and extension configs; their order, and who shares what they give."""

from __future__ import annotations

from typing import Any

import pytest

from gossamer.core.frozen import FrozenMap
from gossamer.core.memo import Memo
from gossamer.core.resources import CLUSTER, EXTENSION, LISTENER, ROUTE, TYPES, Table
from gossamer.model.proxy import Proxy, ProxyType
from tests.compile.compiled import SIDECAR, Compiled, compiled, istio, service
from tests.compile.patches.documents import LUA, ROUTER, envoy_filter, http_filter, lua, patch
from tests.compile.patches.test_filters import GATEWAY_DOCUMENT, SERVICES, http_filters

ROUTES = istio(
    "VirtualService",
    "reviews",
    "  hosts: [reviews]\n"
    "  http:\n"
    "  - {name: old, match: [{uri: {prefix: /old}}], redirect: {uri: /new}}\n"
    "  - {name: rest, route: [{destination: {host: reviews}}]}\n",
)
REVIEWS = "reviews.default.svc.cluster.local"
TAG = {"request_headers_to_add": [{"header": {"key": "x-tag", "value": "1"}}]}


def patched(*patches: dict[str, Any], proxy: Proxy = SIDECAR, memo: Memo | None = None) -> Compiled:
    return compiled(*SERVICES, ROUTES, GATEWAY_DOCUMENT, envoy_filter(*patches), proxy=proxy, memo=memo)


def tagged(found: Compiled, table: str = "80") -> list[tuple[str, str]]:
    """(virtual host, route) of the routes that carry the tag."""
    return [
        (host["name"], route.get("name", ""))
        for host in found.table(table)["virtual_hosts"]
        for route in host.get("routes", [])
        if "request_headers_to_add" in route and "x-tag" in str(route["request_headers_to_add"])
    ]


def test_listeners_are_merged_added_and_removed() -> None:
    new = {
        "name": "mine",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 7777}},
        "filter_chains": [{"filters": []}],
    }
    found = patched(
        patch("LISTENER", "MERGE", {"per_connection_buffer_limit_bytes": 4096}, listener={"portNumber": 80}),
        patch("LISTENER", "ADD", new, context="SIDECAR_OUTBOUND"),
        patch("LISTENER", "REMOVE", listener={"name": "10.0.0.5_3306"}),
    )
    assert found.listener("0.0.0.0_80")["per_connection_buffer_limit_bytes"] == 4096
    assert "per_connection_buffer_limit_bytes" not in found.listener("virtualInbound")
    assert found.listener("mine")["address"]["socket_address"]["port_value"] == 7777
    assert "10.0.0.5_3306" not in found.names(LISTENER)


def test_a_chain_is_found_by_what_its_match_asks_for() -> None:
    value = {"transport_socket_connect_timeout": "3s"}
    by_tls = patched(patch("FILTER_CHAIN", "MERGE", value, listener={"filterChain": {"transportProtocol": "tls"}}))
    by_name = patched(
        patch("FILTER_CHAIN", "MERGE", value, listener={"filterChain": {"name": "virtualInbound-blackhole"}})
    )
    by_protocol = patched(
        patch("FILTER_CHAIN", "MERGE", value, listener={"filterChain": {"applicationProtocols": "h2c, http/1.1"}})
    )
    by_port = patched(patch("FILTER_CHAIN", "MERGE", value, listener={"filterChain": {"destinationPort": 15006}}))

    def hit(found: Compiled) -> list[dict[str, Any]]:
        chains = found.listener("virtualInbound")["filter_chains"]
        return [
            chain["filter_chain_match"] for chain in chains if chain.get("transport_socket_connect_timeout") == "3s"
        ]

    assert {match["transport_protocol"] for match in hit(by_tls)} == {"tls"}
    assert len(hit(by_name)) == len(hit(by_port)) == 1
    assert hit(by_name) == hit(by_port) == [{"destination_port": 15006}]
    assert all({"h2c", "http/1.1"} <= set(match["application_protocols"]) for match in hit(by_protocol))
    assert hit(by_protocol)


def test_chains_are_added_and_removed_the_default_one_among_them() -> None:
    chain = {"name": "mine", "filter_chain_match": {"server_names": ["a.example"]}, "filters": []}
    added = patched(patch("FILTER_CHAIN", "ADD", chain, listener={"portNumber": 3306}))
    removed = patched(patch("FILTER_CHAIN", "REMOVE", listener={"portNumber": 3306}))
    assert [one["name"] for one in added.listener("10.0.0.5_3306")["filter_chains"]] == ["mine"]
    assert "default_filter_chain" in added.listener("10.0.0.5_3306")
    assert "default_filter_chain" not in removed.listener("10.0.0.5_3306")


def test_listener_filters_are_inserted_by_name() -> None:
    value = {
        "name": "proxy",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol"
        },
    }
    found = patched(
        patch(
            "LISTENER_FILTER",
            "INSERT_BEFORE",
            value,
            context="SIDECAR_INBOUND",
            listener={"listenerFilter": "envoy.filters.listener.tls_inspector"},
        )
    )
    names = [one["name"] for one in found.listener("virtualInbound")["listener_filters"]]
    assert names[names.index("proxy") + 1] == "envoy.filters.listener.tls_inspector"
    assert "proxy_protocol" not in str(found.listener("0.0.0.0_80"))


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ({"vhost": {"name": f"{REVIEWS}:80"}}, {"old", "rest"}),
        ({"vhost": {"domainName": "reviews"}}, {"old", "rest"}),
        ({"vhost": {"name": f"{REVIEWS}:80", "route": {"name": "rest"}}}, {"rest"}),
        ({"vhost": {"name": f"{REVIEWS}:80", "route": {"action": "REDIRECT"}}}, {"old"}),
        ({"name": "80", "vhost": {"name": f"{REVIEWS}:80", "route": {"action": "ROUTE"}}}, {"rest"}),
        ({"portNumber": 80, "vhost": {"route": {"name": "old"}}}, {"old"}),
        ({"portNumber": 81}, set()),
        ({"name": "81"}, set()),
        ({"vhost": {"name": "nobody:80"}}, set()),
        ({"vhost": {"route": {"action": "DIRECT_RESPONSE"}}}, set()),
    ],
)
def test_routes_are_found_by_table_host_name_and_action(match: dict[str, Any], expected: set[str]) -> None:
    found = patched(patch("HTTP_ROUTE", "MERGE", TAG, context="SIDECAR_OUTBOUND", routeConfiguration=match))
    assert {name for _, name in tagged(found)} - {"allow_any", "default"} == expected


def test_routes_are_inserted_and_removed_in_their_order() -> None:
    host = {"vhost": {"name": f"{REVIEWS}:80"}}
    named = {"vhost": {"name": f"{REVIEWS}:80", "route": {"name": "rest"}}}
    mine = {"name": "mine", "match": {"path": "/mine"}, "direct_response": {"status": 200}}

    def names(found: Compiled) -> list[str]:
        return [route["name"] for route in found.host("80", REVIEWS)["routes"]]

    one = patched(patch("HTTP_ROUTE", "INSERT_BEFORE", mine, routeConfiguration=named))
    first = patched(patch("HTTP_ROUTE", "INSERT_FIRST", mine, routeConfiguration=host))
    gone = patched(patch("HTTP_ROUTE", "REMOVE", routeConfiguration=named))
    assert names(one) == ["old", "mine", "rest"]
    assert names(first) == ["mine", "old", "rest"]
    assert names(gone) == ["old"]


def test_virtual_hosts_and_tables_are_patched() -> None:
    host = {"name": "mine", "domains": ["mine.example"], "routes": []}
    found = patched(
        patch("VIRTUAL_HOST", "ADD", host, context="SIDECAR_OUTBOUND", routeConfiguration={"name": "80"}),
        patch("VIRTUAL_HOST", "REMOVE", routeConfiguration={"vhost": {"name": "allow_any"}}),
        patch("ROUTE_CONFIGURATION", "MERGE", {"max_direct_response_body_size_bytes": 9, "name": "renamed"}),
    )
    table = found.table("80")
    names = [one["name"] for one in table["virtual_hosts"]]
    assert "mine" in names
    assert "allow_any" not in names
    assert (table["name"], table["max_direct_response_body_size_bytes"]) == ("80", 9)


def test_inbound_routes_stand_inline_and_are_patched_there() -> None:
    found = patched(patch("HTTP_ROUTE", "MERGE", TAG, context="SIDECAR_INBOUND"))
    assert "x-tag" in str(found.listener("virtualInbound"))
    assert not tagged(found)


@pytest.mark.parametrize(("port", "hit"), [(80, True), (8080, True), (81, False)])
def test_an_inbound_virtual_host_is_named_by_the_services_port_or_the_workloads(port: int, hit: bool) -> None:
    entry = """
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: app, namespace: default}
spec: {address: 1.1.1.1, labels: {app: app}}
"""
    host = {"vhost": {"name": f"inbound|http|{port}"}}
    change = patch("VIRTUAL_HOST", "MERGE", TAG, context="SIDECAR_INBOUND", routeConfiguration=host)
    found = compiled(*SERVICES, entry, envoy_filter(change))
    assert ("x-tag" in str(found.listener("virtualInbound"))) is hit


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ({"service": REVIEWS}, {f"outbound|80||{REVIEWS}"}),
        ({"portNumber": 3306}, {"outbound|3306||db.default.svc.cluster.local"}),
        ({"name": "PassthroughCluster"}, {"PassthroughCluster"}),
        ({"service": REVIEWS, "portNumber": 81}, set()),
        ({"service": REVIEWS, "subset": "v1"}, set()),
    ],
)
def test_clusters_are_found_by_their_name(match: dict[str, Any], expected: set[str]) -> None:
    found = patched(patch("CLUSTER", "MERGE", {"connect_timeout": "7.5s"}, context="SIDECAR_OUTBOUND", cluster=match))
    assert {name for name in found.names(CLUSTER) if found.cluster(name)["connect_timeout"] == "7.500s"} == expected


def test_clusters_are_added_and_removed() -> None:
    value = {"name": "mine", "type": "STATIC", "connect_timeout": "1s"}
    found = patched(
        patch("CLUSTER", "ADD", value),
        patch("CLUSTER", "MERGE", {"connect_timeout": "2s"}, cluster={"name": "mine"}),
        patch("CLUSTER", "REMOVE", cluster={"service": REVIEWS}),
    )
    assert found.cluster("mine")["connect_timeout"] == "2s"
    assert f"outbound|80||{REVIEWS}" not in found.names(CLUSTER)


def test_a_name_that_is_taken_stays_whose_it_is() -> None:
    found = patched(patch("CLUSTER", "ADD", {"name": "BlackHoleCluster", "type": "LOGICAL_DNS"}))
    assert found.cluster("BlackHoleCluster") == compiled(*SERVICES).cluster("BlackHoleCluster")


def test_an_extension_config_is_added_and_names_its_filter() -> None:
    config = {"name": "mine", "typed_config": {"@type": LUA, "inline_code": "function envoy_on_request(h) end"}}
    asking = {
        "name": "mine",
        "config_discovery": {"config_source": {"ads": {}}, "type_urls": [LUA]},
    }
    found = patched(
        patch("EXTENSION_CONFIG", "ADD", config),
        patch("HTTP_FILTER", "INSERT_BEFORE", asking, context="SIDECAR_OUTBOUND", listener=http_filter(ROUTER)),
        patch("EXTENSION_CONFIG", "REMOVE", {"name": "policy.http.deny"}),
    )
    assert "mine" in found.names(EXTENSION)
    assert "policy.http.deny" in found.names(EXTENSION)
    (names,) = http_filters(found, "0.0.0.0_80")
    assert names[-2] == "mine"
    listener = found.resources.get(LISTENER, "0.0.0.0_80")
    extension = found.resources.get(EXTENSION, "mine")
    assert listener is not None
    assert extension is not None
    assert {ref.name for ref in listener.references or ()} >= {"mine", "80"}
    assert [str(origin) for origin in extension.origins] == ["EnvoyFilter istio-system/patch spec.configPatches[0]"]


def order_of(*documents: str, proxy: Proxy = SIDECAR) -> list[str]:
    (names,) = http_filters(compiled(*SERVICES, *documents, proxy=proxy), "0.0.0.0_80")
    return [name for name in names if len(name) == 1]


def appended(name: str, filter_name: str, **more: Any) -> str:
    return envoy_filter(
        patch("HTTP_FILTER", "INSERT_BEFORE", lua(filter_name), listener=http_filter(ROUTER)), name=name, **more
    )


def test_patches_are_applied_root_first_then_by_priority_age_and_name() -> None:
    documents = (
        appended("z", "d", namespace="default", priority=-10),
        appended("a", "f", namespace="default"),
        appended("y", "e", namespace="default", created="2020-01-01T00:00:00Z"),
        appended("c", "b"),
        appended("b", "a", priority=-5),
        appended("a", "c", priority=7),
    )
    # without a time a resource counts as the oldest, as everywhere
    assert order_of(*documents) == ["a", "b", "c", "d", "f", "e"]
    assert order_of(*reversed(documents)) == order_of(*documents)


def test_a_filter_selects_by_namespace_and_labels() -> None:
    labelled = Proxy(
        type=ProxyType.SIDECAR, namespace="default", addresses=("1.1.1.1",), labels=FrozenMap({"app": "reviews"})
    )
    selector = {"labels": {"app": "reviews"}}
    own = appended("x", "a", namespace="default", workloadSelector=selector)
    everywhere = appended("x", "b", workloadSelector=selector)
    foreign = appended("x", "c", namespace="other")
    assert order_of(own, everywhere, foreign, proxy=labelled) == ["b", "a"]
    assert order_of(own, everywhere, foreign) == []


@pytest.mark.parametrize(
    ("proxy", "expected"),
    [
        ({"proxyVersion": r"^1\.30.*"}, ["a"]),
        ({"proxyVersion": r"^1\.9.*"}, []),
        ({"metadata": {"NAMESPACE": "default"}}, ["a"]),
        ({"metadata": {"NAMESPACE": "other"}}, []),
        ({"metadata": {"CLUSTER_ID": "Kubernetes", "NAME": "app"}}, ["a"]),
    ],
)
def test_a_patch_asks_for_a_version_and_metadata(proxy: dict[str, Any], expected: list[str]) -> None:
    change = patch("HTTP_FILTER", "INSERT_BEFORE", lua("a"), listener=http_filter(ROUTER), proxy=proxy)
    assert order_of(envoy_filter(change)) == expected


def test_who_has_equal_patches_shares_the_patched_tables_and_who_has_none_the_others() -> None:
    memo = Memo()
    document = envoy_filter(
        patch("HTTP_FILTER", "INSERT_FIRST", lua(), context="SIDECAR_OUTBOUND"),
        patch("CLUSTER", "MERGE", {"connect_timeout": "7s"}, context="SIDECAR_OUTBOUND"),
        patch("CLUSTER", "ADD", {"name": "mine"}),
        workloadSelector={"labels": {"app": "reviews"}},
    )

    added: list[Table] = []

    def tables(name: str, app: str) -> dict[str, Any]:
        proxy = Proxy(
            type=ProxyType.SIDECAR,
            namespace="default",
            name=name,
            addresses=("1.1.1.1",),
            labels=FrozenMap({"app": app}),
        )
        found = compiled(*SERVICES, document, proxy=proxy, memo=memo).resources
        added.extend(table for table in found.of_type(CLUSTER) if "mine" in table)
        return {type_url: found.of_type(type_url)[0] for type_url in (LISTENER, CLUSTER, ROUTE)}

    one, two = tables("a", "reviews"), tables("b", "reviews")
    plain, other = tables("c", "ratings"), tables("d", "ratings")
    assert len(added) == 2
    assert added[0] is added[1]
    for type_url in one:
        assert one[type_url] is two[type_url]
        assert plain[type_url] is other[type_url]
    assert one[ROUTE] is plain[ROUTE], "no patch is for routes"
    assert one[LISTENER] is not plain[LISTENER]
    unpatched = one[LISTENER]["10.0.0.5_3306"]
    assert unpatched is plain[LISTENER]["10.0.0.5_3306"], "a listener that no patch changes is the same resource"


def test_memory_changes_nothing() -> None:
    change = patch("HTTP_FILTER", "INSERT_FIRST", lua())
    fresh, known = Memo(enabled=False), Memo()
    patched(change, memo=known)
    for type_url in TYPES:
        one = {r.name: r.version for r in patched(change, memo=fresh).resources.all_of(type_url)}
        other = {r.name: r.version for r in patched(change, memo=known).resources.all_of(type_url)}
        assert one == other


def test_an_extension_whose_type_is_unknown_here_travels_as_a_typed_struct() -> None:
    kind = "type.googleapis.com/envoy.extensions.filters.http.brand_new.v3.BrandNew"
    value = {"name": "mine", "typed_config": {"@type": kind, "some": {"thing": 1}}}
    found = patched(patch("HTTP_FILTER", "INSERT_FIRST", value, context="SIDECAR_OUTBOUND"))
    text = str(found.listener("0.0.0.0_80"))
    assert "xds.type.v3.TypedStruct" in text
    assert kind in text


def test_a_service_of_the_mesh_is_untouched_by_a_patch_for_nobody() -> None:
    assert patched(patch("CLUSTER", "MERGE", {"connect_timeout": "7s"}, cluster={"name": "nobody"})).json() == (
        compiled(*SERVICES, ROUTES, GATEWAY_DOCUMENT).json()
    )
    assert service("x")
