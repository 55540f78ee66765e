"""Gateways: listeners by port, server names and certificates, and the routes bound to them."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

from gossamer.compile.policies.slots import TCP_SLOTS
from gossamer.core.frozen import FrozenMap
from gossamer.core.memo import Memo
from gossamer.core.resources import CLUSTER, EXTENSION, LISTENER, ROUTE, SECRET, Reference
from gossamer.model.proxy import Capture, CaptureMode, Proxy
from gossamer.model.service import Workload
from gossamer.simulate.request import Address, Arrival, HttpRequest, Request
from gossamer.simulate.simulator import Simulator
from tests.compile.compiled import GATEWAY, SIDECAR, Compiled, compiled, istio, service

PRODUCT = "outbound|9080||productpage.default.svc.cluster.local"
PAGE = service("productpage", "{name: http, port: 9080}")


def gateway(
    servers: str, *, name: str = "gw", namespace: str = "default", created: str = "", selector: str = ""
) -> str:
    spec = f"  selector: {selector or '{istio: ingressgateway}'}\n  servers:\n{servers}"
    when = f', creationTimestamp: "{created}"' if created else ""
    return istio("Gateway", name, spec, namespace=namespace, metadata=when)


def routes(
    hosts: str = "['*']",
    gateways: str = "[gw]",
    http: str = "",
    *,
    name: str = "vs",
    namespace: str = "default",
    more: str = "",
) -> str:
    rule = http or "  - route: [{destination: {host: productpage.default.svc.cluster.local}}]"
    spec = f"  hosts: {hosts}\n  gateways: {gateways}\n  http:\n{rule}\n{more}"
    return istio("VirtualService", name, spec, namespace=namespace)


HTTP = "  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ['foo.bar']}"


def at_gateway(*documents: str, **changes: Any) -> Compiled:
    return compiled(PAGE, *documents, proxy=replace(GATEWAY, **changes))


def test_http() -> None:
    found = at_gateway(gateway(HTTP), routes())
    listener = found.listener("0.0.0.0_80")
    assert "bind_to_port" not in listener
    (chain,) = listener["filter_chains"]
    assert chain["filters"][0]["typed_config"]["rds"]["route_config_name"] == "http.80"
    host = found.host("http.80", "foo.bar")
    assert host["name"] == "foo.bar:80"
    assert host["routes"][0]["route"]["cluster"] == PRODUCT
    resource = found.resources.get(LISTENER, "0.0.0.0_80")
    assert resource is not None
    assert resource.references is not None
    assert Reference(type_url=ROUTE, name="http.80") in resource.references
    assert {reference.type_url for reference in resource.references} == {ROUTE, EXTENSION}
    assert all(found.resources.get(r.type_url, r.name) for r in resource.references)


def test_only_a_selected_workload_runs_it() -> None:
    assert at_gateway(gateway(HTTP, selector="{istio: egressgateway}")).names(LISTENER) == []
    assert "0.0.0.0_80" not in compiled(PAGE, gateway(HTTP)).names(LISTENER), "nor a sidecar"


def test_without_routes_it_answers_that_there_is_nothing() -> None:
    (host,) = at_gateway(gateway(HTTP)).table("http.80")["virtual_hosts"]
    assert (host["name"], host["domains"], host.get("routes", [])) == ("blackhole:80", ["*"], [])


def test_hosts_are_what_server_and_routes_agree_on() -> None:
    servers = (
        "  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*.a.com', 'b.com', 'default/c.com', './d.com']}"
    )
    found = at_gateway(
        gateway(servers),
        routes("[x.a.com, b.com, other.com]", name="one"),
        routes("[c.com, d.com]", "[default/gw]", name="two", namespace="elsewhere"),
        routes("[c.com]", "[gw]", name="three"),
    )
    domains = [host["domains"] for host in found.table("http.80")["virtual_hosts"]]
    assert domains == [["b.com"], ["c.com"], ["x.a.com"]]
    origins = found.host("http.80", "c.com")["routes"][0]["metadata"]["filter_metadata"]["gossamer"]["origins"]
    assert origins == ["VirtualService default/three spec.http[0]"]


def test_several_virtual_services_share_a_host_and_what_takes_everything_comes_last() -> None:
    everything = routes("[foo.bar]", name="a")
    narrow = routes(
        "[foo.bar]", http="  - {match: [{uri: {prefix: /n}}], route: [{destination: {host: n.com}}]}", name="b"
    )
    found = at_gateway(gateway(HTTP), everything, narrow).host("http.80", "foo.bar")["routes"]
    assert [route["match"] for route in found] == [{"prefix": "/n"}, {"prefix": "/"}]


def test_redirect_to_https() -> None:
    servers = HTTP[:-1] + ", tls: {httpsRedirect: true}}"
    host = at_gateway(gateway(servers), routes()).host("http.80", "foo.bar")
    assert host["require_tls"] == "ALL"
    assert at_gateway(gateway(servers)).host("http.80", "foo.bar")["require_tls"] == "ALL"


def test_the_port_that_is_bound() -> None:
    assert at_gateway(gateway(HTTP), gateway_ports=FrozenMap({80: 8080})).names(LISTENER) == ["0.0.0.0_8080"]
    own = Workload(name="gateway", namespace="istio-system", labels=FrozenMap({"app": "ingress"}), address="2.2.2.2")
    published = service("ingress", "{name: http, port: 80, targetPort: 8080}", namespace="istio-system")
    translated = compiled(PAGE, published, gateway(HTTP), routes(), proxy=GATEWAY, registrations=(own,))
    assert translated.names(LISTENER) == ["0.0.0.0_8080"]
    assert translated.host("http.8080", "foo.bar")["name"] == "foo.bar:80"


def secret(name: str, keys: str, namespace: str = "istio-system") -> str:
    text = base64.b64encode(b"pem").decode()
    data = ", ".join(f"{key}: {text}" for key in keys.split())
    return f"apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {namespace}}}\ndata: {{{data}}}\n"


def https(host: str, credential: str, mode: str = "SIMPLE") -> str:
    tls = f"{{mode: {mode}, credentialName: {credential}}}"
    return f"  - {{port: {{number: 443, name: https, protocol: HTTPS}}, hosts: ['{host}'], tls: {tls}}}"


def test_https_by_server_name_with_certificates_of_secrets() -> None:
    found = at_gateway(
        gateway(https("a.com", "cert-a"), name="one"),
        gateway(https("b.com", "cert-b", "MUTUAL"), name="two"),
        routes("['a.com']", "[one]"),
        secret("cert-a", "tls.crt tls.key"),
        secret("cert-b", "tls.crt tls.key ca.crt"),
        secret("cert-b", "tls.crt tls.key", namespace="default"),
        secret("unused", "tls.crt tls.key"),
    )
    listener = found.listener("0.0.0.0_443")
    first, second = listener["filter_chains"]
    assert first["filter_chain_match"] == {"server_names": ["a.com"], "transport_protocol": "tls"}
    context = first["transport_socket"]["typed_config"]["common_tls_context"]
    assert context["tls_certificate_sds_secret_configs"][0]["name"] == "kubernetes://cert-a"
    assert second["transport_socket"]["typed_config"]["require_client_certificate"] is True
    assert first["filters"][0]["typed_config"]["rds"]["route_config_name"] == "https.443.https.one.default"
    assert found.host("https.443.https.one.default", "a.com")["routes"][0]["route"]["cluster"] == PRODUCT
    assert found.names(SECRET) == ["kubernetes://cert-a", "kubernetes://cert-b", "kubernetes://cert-b-cacert"]
    assert [entry["name"] for entry in listener["listener_filters"]] == ["envoy.filters.listener.tls_inspector"]


def test_one_server_name_belongs_to_the_older_gateway() -> None:
    found = at_gateway(
        gateway(https("a.com", "old"), name="z", created="2020-01-01T00:00:00Z"),
        gateway(https("a.com", "new"), name="a", created="2021-01-01T00:00:00Z"),
    )
    (chain,) = found.listener("0.0.0.0_443")["filter_chains"]
    context = chain["transport_socket"]["typed_config"]["common_tls_context"]
    assert context["tls_certificate_sds_secret_configs"][0]["name"] == "kubernetes://old"


def test_tls_is_passed_on_by_server_name() -> None:
    servers = "  - {port: {number: 443, name: tls, protocol: TLS}, hosts: ['*.a.com'], tls: {mode: PASSTHROUGH}}"
    spec = """
  hosts: [x.a.com, b.com]
  gateways: [gw]
  tls:
  - match: [{port: 443, sniHosts: [x.a.com]}]
    route: [{destination: {host: productpage, port: {number: 9080}}}]
  - match: [{sniHosts: [b.com]}]
    route: [{destination: {host: productpage, port: {number: 9080}}}]
"""
    found = at_gateway(gateway(servers), istio("VirtualService", "v", spec))
    (chain,) = found.listener("0.0.0.0_443")["filter_chains"]
    assert chain["filter_chain_match"]["server_names"] == ["x.a.com"]
    assert "transport_socket" not in chain
    names = [entry["name"] for entry in chain["filters"]]
    assert names == [*TCP_SLOTS, "envoy.filters.network.tcp_proxy"]
    assert chain["filters"][-1]["typed_config"]["cluster"] == PRODUCT
    resource = found.resources.get(LISTENER, "0.0.0.0_443")
    assert resource is not None
    assert resource.references is not None
    assert Reference(type_url=CLUSTER, name=PRODUCT) in resource.references


def test_tcp() -> None:
    servers = "  - {port: {number: 3306, name: tcp, protocol: TCP}, hosts: ['*']}"
    spec = """
  hosts: ['*']
  gateways: [gw]
  tcp:
  - match: [{port: 1}]
    route: [{destination: {host: no.com}}]
  - match: [{port: 3306}]
    route: [{destination: {host: productpage, port: {number: 9080}}}]
"""
    found = at_gateway(gateway(servers), istio("VirtualService", "v", spec))
    (chain,) = found.listener("0.0.0.0_3306")["filter_chains"]
    assert chain["filters"][-1]["typed_config"]["cluster"] == PRODUCT
    assert at_gateway(gateway(servers)).names(LISTENER) == [], "nowhere to go: nothing is taken in"


def test_http_and_tls_share_a_port() -> None:
    servers = HTTP.replace("number: 80", "number: 443") + "\n" + https("a.com", "cert")
    plain, tls = at_gateway(gateway(servers), routes()).listener("0.0.0.0_443")["filter_chains"]
    assert "transport_socket" not in plain
    assert tls["filter_chain_match"]["transport_protocol"] == "tls"


def test_a_gateway_shares_clusters_with_sidecars_of_its_namespace() -> None:
    memo = Memo()
    one = compiled(PAGE, gateway(HTTP), proxy=GATEWAY, memo=memo).resources
    other = compiled(PAGE, gateway(HTTP), proxy=replace(SIDECAR, namespace="istio-system"), memo=memo).resources
    assert one.of_type(CLUSTER)[0] is other.of_type(CLUSTER)[0]


def test_where_nothing_is_captured_a_gateway_binds_the_address_that_its_agent_chose() -> None:
    capture = Capture(mode=CaptureMode.EXPLICIT, address="127.0.0.7")
    found = at_gateway(gateway(HTTP), routes(), capture=capture, gateway_ports=FrozenMap({80: 18000}))
    assert found.names(LISTENER) == ["127.0.0.7_18000"]
    assert found.names(ROUTE) == ["http.18000"]


def test_a_gateway_of_both_families_listens_on_both() -> None:
    found = at_gateway(gateway(HTTP), routes(), addresses=("2.2.2.2", "fd00::2"))
    listener = found.listener("0.0.0.0_80")
    (more,) = listener["additional_addresses"]
    assert more["address"]["socket_address"]["address"] == "::"
    named = HTTP.replace("hosts:", "bind: 0.0.0.0, hosts:")
    assert at_gateway(gateway(named), routes(), addresses=("2.2.2.2", "fd00::2")).names(LISTENER) == ["0.0.0.0_80"]


def test_grpc_of_browsers_is_translated_where_a_server_speaks_it() -> None:
    def filters(protocol: str) -> list[str]:
        server = HTTP.replace("protocol: HTTP", f"protocol: {protocol}").replace("name: http", "name: web")
        found = at_gateway(gateway(HTTP), gateway(server, name="other", created="2020-01-01T00:00:00Z"), routes())
        (chain,) = found.listener("0.0.0.0_80")["filter_chains"]
        return [entry["name"] for entry in chain["filters"][0]["typed_config"]["http_filters"]]

    assert "envoy.filters.http.grpc_web" in filters("GRPC-WEB")
    assert "envoy.filters.http.grpc_web" not in filters("GRPC")


def test_a_servers_name_is_that_of_its_statistics() -> None:
    server = HTTP[:-1] + ", name: shop}"
    (chain,) = at_gateway(gateway(server), routes()).listener("0.0.0.0_80")["filter_chains"]
    assert chain["filters"][0]["typed_config"]["stat_prefix"] == "shop"


TOPOLOGY = "defaultConfig: {gatewayTopology: {numTrustedProxies: 2, forwardClientCertDetails: APPEND_FORWARD}}"


def test_what_stands_before_gateways() -> None:
    def manager(proxy: Proxy, settings: str) -> Any:
        found = compiled(PAGE, gateway(HTTP), routes(), proxy=proxy, mesh_config=settings)
        for listener in found.json()["listeners"]:
            for chain in listener["filter_chains"]:
                for entry in chain["filters"]:
                    if "http_filters" in entry["typed_config"]:
                        return entry["typed_config"]
        raise AssertionError("nothing serves HTTP")

    told = manager(GATEWAY, TOPOLOGY)
    assert (told["xff_num_trusted_hops"], told["forward_client_cert_details"]) == (2, "APPEND_FORWARD")
    assert manager(GATEWAY, "{}")["forward_client_cert_details"] == "SANITIZE_SET"
    assert "xff_num_trusted_hops" not in manager(SIDECAR, TOPOLOGY)
    assert manager(SIDECAR, TOPOLOGY).get("forward_client_cert_details") is None, "an application's is dropped"


def test_who_trusts_proxies_takes_the_client_from_what_they_say() -> None:
    found = compiled(PAGE, gateway(HTTP), routes(), proxy=GATEWAY, mesh_config=TOPOLOGY)
    http = HttpRequest(authority="foo.bar", headers=(("x-forwarded-for", "1.1.1.1, 5.5.5.5, 9.9.9.9"),))
    request = Request(arrival=Arrival.DIRECT, destination=Address(ip="2.2.2.2", port=80), http=http)
    sent = Simulator(found.resources).simulate(request).forwarded
    assert sent is not None
    assert dict(sent.headers)["x-forwarded-for"].startswith("1.1.1.1,5.5.5.5,9.9.9.9,")


def test_the_proxy_protocol_before_gateways() -> None:
    settings = "defaultConfig: {gatewayTopology: {proxyProtocol: {}}}"
    found = compiled(PAGE, gateway(HTTP), routes(), proxy=GATEWAY, mesh_config=settings)
    (entry,) = found.listener("0.0.0.0_80")["listener_filters"]
    assert entry["name"] == "envoy.filters.listener.proxy_protocol"
    assert "allow_requests_without_proxy_protocol" not in entry["typed_config"]
