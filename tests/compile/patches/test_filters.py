"""Patches of filters go where Istio documents, and never take a policy away."""

from __future__ import annotations

from typing import Any

import pytest

from gossamer.core.frozen import FrozenMap
from gossamer.model.proxy import Capture, Proxy, ProxyType
from tests.compile.compiled import GATEWAY, SIDECAR, Compiled, compiled, istio, service
from tests.compile.patches.documents import LUA, MANAGER, MANAGER_TYPE, ROUTER, envoy_filter, http_filter, lua, patch

SERVICES = (
    service("reviews"),
    service("app", "{name: http, port: 80, targetPort: 8080}"),
    service("db", "{name: tcp, port: 3306}", extra="clusterIP: 10.0.0.5"),
)
GATEWAY_DOCUMENT = istio(
    "Gateway",
    "gw",
    "  selector: {istio: ingressgateway}\n"
    "  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]\n",
    namespace="istio-system",
)


def managers(found: Compiled, listener: str) -> list[dict[str, Any]]:
    """The connection managers of a listener, by chain."""
    chains = found.listener(listener)["filter_chains"]
    return [one["typed_config"] for chain in chains for one in chain["filters"] if one["name"] == MANAGER]


def http_filters(found: Compiled, listener: str) -> list[list[str]]:
    return [[one["name"] for one in manager["http_filters"]] for manager in managers(found, listener)]


def network_filters(found: Compiled, listener: str) -> list[list[str]]:
    listed = found.listener(listener)
    chains = [*listed.get("filter_chains", []), *filter(None, [listed.get("default_filter_chain")])]
    return [[one["name"] for one in chain["filters"]] for chain in chains]


def patched(*patches: dict[str, Any], proxy: Proxy = SIDECAR) -> Compiled:
    return compiled(*SERVICES, GATEWAY_DOCUMENT, envoy_filter(*patches), proxy=proxy)


@pytest.mark.parametrize(
    ("operation", "anchor", "before", "after"),
    [
        ("INSERT_BEFORE", ROUTER, "gossamer.mesh_alpn", ROUTER),
        ("INSERT_BEFORE", "envoy.router", "gossamer.mesh_alpn", ROUTER),
        ("INSERT_AFTER", "envoy.filters.http.cors", "envoy.filters.http.cors", "envoy.filters.http.fault"),
        ("INSERT_BEFORE", "istio.alpn", "envoy.filters.http.fault", "gossamer.mesh_alpn"),
        ("INSERT_FIRST", ROUTER, None, "envoy.filters.http.cors"),
        ("INSERT_BEFORE", "", None, "envoy.filters.http.cors"),
        ("INSERT_AFTER", "", "gossamer.mesh_alpn", ROUTER),
        ("ADD", "", "gossamer.mesh_alpn", ROUTER),
    ],
)
def test_an_http_filter_is_put_where_its_operation_says(
    operation: str, anchor: str, before: str | None, after: str
) -> None:
    found = patched(patch("HTTP_FILTER", operation, lua(), context="SIDECAR_OUTBOUND", listener=http_filter(anchor)))
    (names,) = http_filters(found, "0.0.0.0_80")
    at = names.index("mine")
    assert (names[at - 1] if at else None) == before
    assert names[at + 1] == after
    for inbound in http_filters(found, "virtualInbound"):
        assert "mine" not in inbound


@pytest.mark.parametrize("operation", ["INSERT_BEFORE", "INSERT_AFTER", "INSERT_FIRST", "REPLACE", "REMOVE"])
def test_a_filter_that_is_not_there_anchors_nothing(operation: str) -> None:
    found = patched(patch("HTTP_FILTER", operation, lua(), listener=http_filter("envoy.filters.http.nothing")))
    assert found.listener("0.0.0.0_80") == compiled(*SERVICES).listener("0.0.0.0_80")


@pytest.mark.parametrize(
    ("filter_class", "before", "after"),
    [
        ("AUTHN", "policy.http.jwt", "policy.http.audit"),
        ("AUTHZ", "policy.http.allow", ROUTER),
        ("STATS", "policy.http.allow", ROUTER),
    ],
)
def test_a_filter_of_a_class_stands_beside_the_policies(filter_class: str, before: str, after: str) -> None:
    found = patched(patch("HTTP_FILTER", "ADD", lua(), context="SIDECAR_INBOUND", filter_class=filter_class))
    inbound = http_filters(found, "virtualInbound")
    assert inbound
    for names in inbound:
        at = names.index("mine")
        assert (names[at - 1], names[at + 1]) == (before, after)


@pytest.mark.parametrize(
    ("anchor", "operation", "before", "after"),
    [
        ("envoy.filters.http.rbac", "INSERT_BEFORE", "policy.http.custom-authorizer", "policy.http.deny"),
        ("envoy.filters.http.rbac", "INSERT_AFTER", "policy.http.allow", ROUTER),
        ("envoy.filters.http.jwt_authn", "INSERT_BEFORE", "gossamer.path-of-two-meanings", "policy.http.jwt"),
        ("istio_authn", "INSERT_AFTER", "policy.http.jwt", "policy.http.audit"),
    ],
)
def test_policies_are_anchors_under_istios_names(anchor: str, operation: str, before: str | None, after: str) -> None:
    found = patched(patch("HTTP_FILTER", operation, lua(), context="SIDECAR_INBOUND", listener=http_filter(anchor)))
    for names in http_filters(found, "virtualInbound"):
        at = names.index("mine")
        assert ((names[at - 1] if at else None), names[at + 1]) == (before, after)


@pytest.mark.parametrize("anchor", ["envoy.filters.http.rbac", "policy.http.deny", "envoy.filters.http.jwt_authn"])
@pytest.mark.parametrize("operation", ["REMOVE", "REPLACE", "MERGE", "MERGE_AND_REPLACE_LIST"])
def test_no_patch_takes_a_policy_away(anchor: str, operation: str) -> None:
    value = {"name": anchor, "typed_config": {"@type": LUA, "inline_code": "function envoy_on_request(h) end"}}
    found = patched(patch("HTTP_FILTER", operation, value, listener=http_filter(anchor)))
    assert found.listener("virtualInbound") == compiled(*SERVICES).listener("virtualInbound")


def test_merge_opens_the_configuration_of_a_filter() -> None:
    value = {
        "name": MANAGER,
        "typed_config": {
            "@type": MANAGER_TYPE,
            "common_http_protocol_options": {"idle_timeout": "30s"},
            "stream_idle_timeout": "7s",
            "use_remote_address": False,
        },
    }
    match = {"filterChain": {"filter": {"name": MANAGER}}}
    found = patched(patch("NETWORK_FILTER", "MERGE", value, context="GATEWAY", listener=match), proxy=GATEWAY)
    (manager,) = managers(found, "0.0.0.0_80")
    assert manager["common_http_protocol_options"] == {"idle_timeout": "30s"}
    assert manager["stream_idle_timeout"] == "7s"
    assert manager["use_remote_address"] is False, "a value that its author writes counts, though it is the default"
    assert manager["rds"]["route_config_name"] == "http.80"
    assert manager["http_filters"][-1]["name"] == ROUTER


def test_merge_adds_to_lists_and_its_other_form_replaces_them() -> None:
    value = {
        "name": MANAGER,
        "typed_config": {"@type": MANAGER_TYPE, "upgrade_configs": [{"upgrade_type": "CONNECT"}]},
    }
    added = patched(patch("NETWORK_FILTER", "MERGE", value, context="SIDECAR_OUTBOUND"))
    replaced = patched(patch("NETWORK_FILTER", "MERGE_AND_REPLACE_LIST", value, context="SIDECAR_OUTBOUND"))
    (first,), (second,) = managers(added, "0.0.0.0_80"), managers(replaced, "0.0.0.0_80")
    assert [one["upgrade_type"] for one in first["upgrade_configs"]] == ["websocket", "CONNECT"]
    assert [one["upgrade_type"] for one in second["upgrade_configs"]] == ["CONNECT"]


def test_a_network_filter_comes_before_what_ends_the_chain() -> None:
    value = {
        "name": "limit",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit",
            "stat_prefix": "limit",
            "max_connections": 5,
        },
    }
    match = {"portNumber": 3306, "filterChain": {"filter": {"name": "envoy.filters.network.tcp_proxy"}}}
    found = patched(patch("NETWORK_FILTER", "INSERT_BEFORE", value, context="SIDECAR_OUTBOUND", listener=match))
    assert network_filters(found, "10.0.0.5_3306") == [["limit", "envoy.filters.network.tcp_proxy"]]
    assert "limit" not in str(found.listener("virtualOutbound"))
    assert "limit" not in str(found.listener("0.0.0.0_80"))


def test_replace_and_remove_take_the_named_filter() -> None:
    replaced = patched(patch("HTTP_FILTER", "REPLACE", lua(), listener=http_filter("envoy.filters.http.fault")))
    removed = patched(patch("HTTP_FILTER", "REMOVE", listener=http_filter("envoy.filters.http.fault")))
    (names,) = http_filters(replaced, "0.0.0.0_80")
    assert names == ["envoy.filters.http.cors", "mine", "gossamer.mesh_alpn", ROUTER]
    (names,) = http_filters(removed, "0.0.0.0_80")
    assert names == ["envoy.filters.http.cors", "gossamer.mesh_alpn", ROUTER]


@pytest.mark.parametrize("port", [80, 8080])
def test_an_inbound_port_is_the_services_or_the_workloads(port: int) -> None:
    match = {"portNumber": port, **http_filter(ROUTER)}
    proxy = SIDECAR
    found = compiled(
        *SERVICES,
        """
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: app, namespace: default}
spec: {address: 1.1.1.1, labels: {app: app}}
""",
        envoy_filter(patch("HTTP_FILTER", "INSERT_BEFORE", lua(), context="SIDECAR_INBOUND", listener=match)),
        proxy=proxy,
    )
    chains = {
        chain["name"]: [one["name"] for one in chain["filters"][0].get("typed_config", {}).get("http_filters", [])]
        for chain in found.listener("virtualInbound")["filter_chains"]
    }
    assert "mine" in chains["0.0.0.0_8080"]
    assert "mine" not in chains["virtualInbound-catchall-http"]


def test_patches_of_one_context_leave_the_others_alone() -> None:
    found = patched(patch("HTTP_FILTER", "INSERT_FIRST", lua(), context="GATEWAY"))
    assert found.json() == compiled(*SERVICES, GATEWAY_DOCUMENT).json()


@pytest.mark.parametrize(
    "match", [{}, {"name": "virtualInbound"}, {"portNumber": 15006}, {"portNumber": 80}, {"portNumber": 8080}]
)
def test_a_listener_for_other_sidecars_is_the_inbound_one_too(match: dict[str, Any]) -> None:
    capture = Capture(mesh_ports=FrozenMap({8080: 20001}), mesh_address="127.0.0.1")
    proxy = Proxy(type=ProxyType.SIDECAR, namespace="default", name="app", addresses=("1.1.1.1",), capture=capture)
    entry = """
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: app, namespace: default}
spec: {address: 1.1.1.1, labels: {app: app}}
"""
    change = patch(
        "HTTP_FILTER", "INSERT_BEFORE", lua(), context="SIDECAR_INBOUND", listener={**match, **http_filter(ROUTER)}
    )
    found = compiled(*SERVICES, entry, envoy_filter(change), proxy=proxy)
    inner = http_filters(found, "meshInbound|8080")
    assert inner
    assert all("mine" in names for names in inner)
    other = patch("HTTP_FILTER", "INSERT_BEFORE", lua(), listener={"portNumber": 81, **http_filter(ROUTER)})
    elsewhere = compiled(*SERVICES, entry, envoy_filter(other), proxy=proxy)
    assert not any("mine" in names for names in http_filters(elsewhere, "meshInbound|8080"))


def test_the_listener_of_names_is_nobodys_to_patch_but_by_its_name() -> None:
    value = {
        "name": "proxy",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol"
        },
    }
    proxy = Proxy(
        type=ProxyType.SIDECAR, namespace="default", name="app", addresses=("1.1.1.1",), capture=Capture(dns=True)
    )
    found = compiled(*SERVICES, envoy_filter(patch("LISTENER_FILTER", "ADD", value)), proxy=proxy)
    assert [one["name"] for one in found.listener("dns")["listener_filters"]] == ["envoy.filters.udp.dns_filter"]
    assert "proxy_protocol" in str(found.listener("virtualOutbound"))
