"""Outbound listeners: what is captured where, told apart how, and where the rest goes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gossamer.core.frozen import FrozenMap
from gossamer.core.resources import CLUSTER, LISTENER, ROUTE, Reference
from gossamer.model.proxy import Capture, CaptureMode
from tests.compile.compiled import SIDECAR, Compiled, compiled, istio, service

HOST = "reviews.default.svc.cluster.local"


def cluster_of(chain: dict[str, Any]) -> str:
    config = chain["filters"][-1]["typed_config"]
    return str(config.get("cluster") or config["rds"]["route_config_name"])


def inspectors(listener: dict[str, Any]) -> list[str]:
    return [entry["name"].rpartition(".")[2] for entry in listener.get("listener_filters", [])]


def entry(ports: str, addresses: str = "[]", host: str = "a.com", name: str = "a") -> str:
    return istio("ServiceEntry", name, f"  hosts: ['{host}']\n  addresses: {addresses}\n  ports: [{ports}]")


def test_the_capture_listener() -> None:
    listener = compiled(service("reviews")).listener("virtualOutbound")
    assert listener["address"]["socket_address"] == {"address": "0.0.0.0", "port_value": 15001}
    assert listener["use_original_dst"] is True
    loop, rest = listener["filter_chains"]
    assert loop["filter_chain_match"] == {"destination_port": 15001}
    assert (cluster_of(loop), cluster_of(rest)) == ("BlackHoleCluster", "PassthroughCluster")
    strict = compiled(service("reviews"), mesh_config="outboundTrafficPolicy: {mode: REGISTRY_ONLY}")
    assert cluster_of(strict.listener("virtualOutbound")["filter_chains"][1]) == "BlackHoleCluster"


def test_capture_listeners_are_opened_in_the_applications_network_namespace() -> None:
    proxy = replace(SIDECAR, capture=Capture(network_namespace="/run/ns", dns=True))
    found = compiled(service("reviews"), proxy=proxy)
    for name in ("virtualOutbound", "virtualInbound", "dns"):
        address = found.listener(name)["address"]["socket_address"]
        assert address["network_namespace_filepath"] == "/run/ns", name
    assert "network_namespace_filepath" not in found.listener("0.0.0.0_80")["address"]["socket_address"]


def test_captured_traffic_is_taken_where_the_kernel_redirects_it() -> None:
    proxy = replace(SIDECAR, capture=Capture(outbound_port=16001, inbound_port=16006))
    found = compiled(service("reviews"), proxy=proxy)
    for name, port in (("virtualOutbound", 16001), ("virtualInbound", 16006)):
        listener = found.listener(name)
        assert listener["address"]["socket_address"]["port_value"] == port
        (loop,) = [one for one in listener["filter_chains"] if one["name"] == f"{name}-blackhole"]
        assert loop["filter_chain_match"] == {"destination_port": port}


def test_both_families_are_captured_for_a_workload_that_has_both() -> None:
    found = compiled(service("reviews"), proxy=replace(SIDECAR, addresses=("10.0.0.1", "fd00::1")))
    for name in ("virtualOutbound", "0.0.0.0_80"):
        (more,) = found.listener(name)["additional_addresses"]
        assert more["address"]["socket_address"]["address"] == "::"
    six = compiled(service("reviews"), proxy=replace(SIDECAR, addresses=("fd00::1",)))
    assert six.listener("::_80")["address"]["socket_address"]["address"] == "::"


def test_http_is_served_at_any_address_and_all_else_is_passed_on() -> None:
    found = compiled(service("reviews"), service("ratings"))
    listener = found.listener("0.0.0.0_80")
    assert listener["bind_to_port"] is False
    assert inspectors(listener) == ["tls_inspector", "http_inspector"]
    (chain,) = listener["filter_chains"]
    assert chain["filter_chain_match"]["transport_protocol"] == "raw_buffer"
    assert cluster_of(chain) == "80"
    assert cluster_of(listener["default_filter_chain"]) == "PassthroughCluster"
    resource = found.resources.get(LISTENER, "0.0.0.0_80")
    assert resource is not None
    assert resource.references == frozenset(
        {
            Reference(type_url=ROUTE, name="80"),
            Reference(type_url=CLUSTER, name="PassthroughCluster"),
        }
    )


def test_tcp_is_told_by_its_address() -> None:
    found = compiled(entry("{number: 82, name: tcp, protocol: TCP}", "[10.0.0.1, 10.0.0.2]"))
    for address in ("10.0.0.1", "10.0.0.2"):
        listener = found.listener(f"{address}_82")
        assert cluster_of(listener["default_filter_chain"]) == "outbound|82||a.com"
        assert inspectors(listener) == []


def test_what_two_services_claim_the_older_one_has() -> None:
    port = "{number: 82, name: tcp, protocol: TCP}"
    found = compiled(entry(port, "[1.1.1.1]", "z.com", "a"), entry(port, "[2.2.2.2, 1.1.1.1]", "b.com", "b"))
    assert cluster_of(found.listener("1.1.1.1_82")["default_filter_chain"]) == "outbound|82||z.com"
    assert cluster_of(found.listener("2.2.2.2_82")["default_filter_chain"]) == "outbound|82||b.com"


def test_without_an_address_the_first_service_has_the_port_unless_dns_gave_it_one() -> None:
    document = service("db", "{name: tcp, port: 82}")
    target = "outbound|82||db.default.svc.cluster.local"
    assert cluster_of(compiled(document).listener("0.0.0.0_82")["default_filter_chain"]) == target
    knowing = compiled(document, proxy=replace(SIDECAR, capture=Capture(dns=True)))
    (given,) = [s.service.allocated for s in knowing.view.outbound.services]
    assert cluster_of(knowing.listener(f"{given}_82")["default_filter_chain"]) == target
    assert "0.0.0.0_82" not in knowing.names(LISTENER)


def test_networks_are_chains_of_the_listener_for_any_address() -> None:
    listener = compiled(entry("{number: 82, name: tcp, protocol: TCP}", "[10.0.0.0/8]")).listener("0.0.0.0_82")
    (chain,) = listener["filter_chains"]
    assert chain["filter_chain_match"]["prefix_ranges"] == [{"address_prefix": "10.0.0.0", "prefix_len": 8}]
    assert cluster_of(chain) == "outbound|82||a.com"
    assert cluster_of(listener["default_filter_chain"]) == "PassthroughCluster"


def test_tls_without_an_address_is_told_by_its_server_name() -> None:
    port = "{number: 443, name: tls, protocol: TLS}"
    listener = compiled(entry(port), entry(port, host="*.b.com", name="b")).listener("0.0.0.0_443")
    assert [
        (chain["filter_chain_match"]["server_names"], cluster_of(chain)) for chain in listener["filter_chains"]
    ] == [
        (["a.com"], "outbound|443||a.com"),
        (["*.b.com"], "outbound|443||*.b.com"),
    ]
    assert inspectors(listener) == ["tls_inspector"]
    assert cluster_of(listener["default_filter_chain"]) == "PassthroughCluster"
    addressed = compiled(entry(port, "[10.0.0.1]")).listener("10.0.0.1_443")
    assert cluster_of(addressed["default_filter_chain"]) == "outbound|443||a.com"


def test_unknown_protocols_are_found_out() -> None:
    found = compiled(service("reviews", "{name: web, port: 81}", extra="clusterIP: 10.0.0.9"))
    listener = found.listener("10.0.0.9_81")
    assert inspectors(listener) == ["tls_inspector", "http_inspector"]
    assert cluster_of(listener["filter_chains"][0]) == f"{HOST}:81"
    assert cluster_of(listener["default_filter_chain"]) == f"outbound|81||{HOST}"
    (host,) = found.table(f"{HOST}:81")["virtual_hosts"]
    assert host["domains"][-1] == "*", "who dialled this address means this service, whatever Host says"
    assert listener["continue_on_listener_filters_timeout"] is True


TLS = """
  hosts: [a.com, x.a.com]
  tls:
  - match: [{port: 443, sniHosts: [x.a.com]}]
    route: [{destination: {host: b.com}}]
  - match: [{sniHosts: [a.com]}]
    route: [{destination: {host: b.com}, weight: 1}, {destination: {host: a.com}, weight: 3}]
"""


def test_tls_routes() -> None:
    port = "{number: 443, name: tls, protocol: TLS}"
    found = compiled(
        entry(port, "[10.0.0.1]"), entry(port, host="b.com", name="b"), istio("VirtualService", "v", TLS)
    ).listener("10.0.0.1_443")
    first, second = found["filter_chains"]
    assert first["filter_chain_match"]["server_names"] == ["x.a.com"]
    assert cluster_of(first) == "outbound|443||b.com"
    weights = second["filters"][0]["typed_config"]["weighted_clusters"]["clusters"]
    assert [(part["name"], part["weight"]) for part in weights] == [
        ("outbound|443||b.com", 1),
        ("outbound|443||a.com", 3),
    ]
    assert cluster_of(found["default_filter_chain"]) == "PassthroughCluster"


def test_tcp_routes() -> None:
    spec = """
  hosts: [a.com]
  tcp:
  - match: [{port: 83}]
    route: [{destination: {host: no.com}}]
  - match: [{destinationSubnets: [10.0.0.0/24]}]
    route: [{destination: {host: subnet.com}}]
  - route: [{destination: {host: rest.com}}]
"""
    document = entry("{number: 82, name: tcp, protocol: TCP}", "[10.0.0.1]")
    listener = compiled(document, istio("VirtualService", "v", spec)).listener("10.0.0.1_82")
    (chain,) = listener["filter_chains"]
    assert cluster_of(chain) == "outbound|82||subnet.com"
    assert cluster_of(listener["default_filter_chain"]) == "outbound|82||rest.com"
    origins = listener["metadata"]["filter_metadata"]["gossamer"]["origins"]
    assert origins == ["VirtualService default/v spec.tcp[1]", "VirtualService default/v spec.tcp[2]"]


def test_tcp_routes_by_the_callers_address() -> None:
    spec = """
  hosts: [a.com]
  tcp:
  - match: [{sourceSubnet: 10.1.0.0/16}, {sourceSubnet: 10.2.0.1, destinationSubnets: [10.0.0.0/24]}]
    route: [{destination: {host: near.com}}]
  - route: [{destination: {host: rest.com}}]
  - match: [{sourceSubnet: 10.3.0.0/16}]
    route: [{destination: {host: never.com}}]
"""
    document = entry("{number: 82, name: tcp, protocol: TCP}", "[10.0.0.1]")
    listener = compiled(document, istio("VirtualService", "v", spec)).listener("10.0.0.1_82")
    first, second = [chain["filter_chain_match"] for chain in listener["filter_chains"]]
    assert first == {"source_prefix_ranges": [{"address_prefix": "10.1.0.0", "prefix_len": 16}]}
    assert second["prefix_ranges"] == [{"address_prefix": "10.0.0.0", "prefix_len": 24}]
    assert second["source_prefix_ranges"] == [{"address_prefix": "10.2.0.1", "prefix_len": 32}]
    assert cluster_of(listener["default_filter_chain"]) == "outbound|82||rest.com"


def test_dns_answers_for_what_the_workload_sees() -> None:
    proxy = replace(SIDECAR, capture=Capture(dns=True))
    alias = service("alias", extra=f"type: ExternalName\n  externalName: {HOST}")
    found = compiled(service("reviews", extra="clusterIP: 10.0.0.9"), alias, proxy=proxy).listener("dns")
    config = found["listener_filters"][0]["typed_config"]
    table = config["server_config"]["inline_dns_table"]["virtual_domains"]
    answers = {domain["name"]: domain["endpoint"]["address_list"]["address"] for domain in table}
    assert answers["reviews"] == answers[HOST] == answers["reviews.default"] == answers["alias"]
    assert answers["reviews"] == ["10.0.0.9", "::ffff:10.0.0.9"], "a name with no address of IPv6 exists all the same"
    assert config["client_config"]["resolver_timeout"] == "5s"
    assert found["address"]["socket_address"]["protocol"] == "UDP"
    assert "dns" not in compiled(service("reviews")).names(LISTENER)


def test_a_workload_without_ipv4_is_given_the_other_address() -> None:
    proxy = replace(SIDECAR, addresses=("fd00::1",), capture=Capture(dns=True))
    found = compiled(service("db", "{name: tcp, port: 82}"), proxy=proxy)
    (outbound,) = found.view.outbound.services
    given = outbound.service.allocated_six
    assert given.startswith("2001:2::")
    table = found.listener("dns")["listener_filters"][0]["typed_config"]["server_config"]["inline_dns_table"]
    assert table["virtual_domains"][0]["endpoint"]["address_list"]["address"] == [given, outbound.service.allocated]
    assert cluster_of(found.listener(f"{given}_82")["default_filter_chain"]).startswith("outbound|82||db.")


EXPLICIT = replace(
    SIDECAR,
    capture=Capture(
        mode=CaptureMode.EXPLICIT,
        address="127.0.0.9",
        http_proxy_port=18080,
        outbound_ports=FrozenMap({f"{HOST}:80": 20001, "db.default.svc.cluster.local:82": 20002, "gone.com:1": 20003}),
    ),
)


@pytest.fixture
def explicit() -> Compiled:
    return compiled(service("reviews"), service("db", "{name: tcp, port: 82}"), proxy=EXPLICIT)


def test_explicit_capture_opens_what_the_agent_chose_ports_for(explicit: Compiled) -> None:
    assert explicit.names(LISTENER) == ["127.0.0.9_18080", "127.0.0.9_20001", "127.0.0.9_20002"]
    http = explicit.listener("127.0.0.9_20001")
    assert http["bind_to_port"] is True
    assert cluster_of(http["filter_chains"][0]) == f"{HOST}:80"
    assert cluster_of(http["default_filter_chain"]) == "BlackHoleCluster", "never to where it was dialled: here"
    tcp = explicit.listener("127.0.0.9_20002")
    assert cluster_of(tcp["default_filter_chain"]) == "outbound|82||db.default.svc.cluster.local"
    assert explicit.table(f"{HOST}:80")["virtual_hosts"][0]["domains"][-1] == "*"


NAMED = replace(
    EXPLICIT,
    capture=replace(
        EXPLICIT.capture,
        outbound_ports=FrozenMap({"db.default.svc.cluster.local:82": 82, "low.default.svc.cluster.local:22": 20003}),
        service_addresses=FrozenMap(
            {"db.default.svc.cluster.local": "127.128.0.1", "low.default.svc.cluster.local": "127.128.0.2"}
        ),
        web_address="127.128.0.9",
        web_ports=(8080,),
        dns_port=20053,
    ),
)


def test_explicit_capture_answers_for_services_by_name() -> None:
    """Those that can be called by their own ports: one with an address of its own, one among those that speak HTTP."""
    found = compiled(
        service("db", "{name: tcp, port: 82}"),
        service("low", "{name: tcp, port: 22}"),
        service("web", "{name: http, port: 8080}"),
        service("both", "{name: http, port: 8080}, {name: http-low, port: 80}"),
        proxy=NAMED,
    )
    listener = found.listener("dns")
    address = listener["address"]["socket_address"]
    assert (address["address"], address["port_value"], address["protocol"]) == ("127.0.0.9", 20053, "UDP")
    domains = listener["listener_filters"][0]["typed_config"]["server_config"]["inline_dns_table"]["virtual_domains"]
    answers = {domain["name"]: domain["endpoint"]["address_list"]["address"][0] for domain in domains}
    assert answers == dict.fromkeys(_names("db"), "127.128.0.1") | dict.fromkeys(_names("web"), "127.128.0.9")
    assert cluster_of(found.listener("127.128.0.1_82")["default_filter_chain"]).startswith("outbound|82||db.")
    assert cluster_of(found.listener("127.128.0.2_20003")["default_filter_chain"]).startswith("outbound|22||low.")
    web = found.listener("127.128.0.9_8080")
    assert web["bind_to_port"] is True
    assert cluster_of(web["filter_chains"][0]) == "web:8080"
    assert [host["name"] for host in found.table("web:8080")["virtual_hosts"]] == [
        "both.default.svc.cluster.local:8080",
        "web.default.svc.cluster.local:8080",
        "block_all",
    ]


def _names(service: str) -> tuple[str, ...]:
    return (f"{service}.default.svc.cluster.local", service, f"{service}.default.svc", f"{service}.default")


def test_the_http_proxy_tells_services_apart_by_host_and_port(explicit: Compiled) -> None:
    manager = explicit.listener("127.0.0.9_18080")["filter_chains"][0]["filters"][0]["typed_config"]
    assert [entry["name"] for entry in manager["http_filters"]][-2:] == [
        "envoy.filters.http.dynamic_forward_proxy",
        "envoy.filters.http.router",
    ]
    table = explicit.table("http_proxy")
    assert "ignore_port_in_host_matching" not in table
    domains = table["virtual_hosts"][0]["domains"]
    assert {f"{HOST}:80", "reviews:80", "reviews", HOST} <= set(domains)
    (rest,) = table["virtual_hosts"][-1]["routes"]
    assert rest["route"]["cluster"] == "DynamicForwardProxyCluster"
    assert (
        explicit.cluster("DynamicForwardProxyCluster")["cluster_type"]["name"] == "envoy.clusters.dynamic_forward_proxy"
    )
