"""Hosts that are looked up as they are asked for: DYNAMIC_DNS services, and ALLOW_ANY_DYNAMIC_DNS for all others."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from gossamer.compile.static import Stub
from gossamer.core.resources import CLUSTER
from gossamer.model.proxy import Capture, CaptureMode
from gossamer.simulate.outcome import Verdict
from gossamer.simulate.request import Address, Arrival, Tls
from tests.compile.compiled import GATEWAY, SIDECAR, Compiled, compiled, istio, service
from tests.compile.test_sidecars import call
from tests.compile.validated import validated

HTTP = "{number: 80, name: http, protocol: HTTP}"
TLS = "{number: 443, name: tls, protocol: TLS}"
AUTO = "{number: 8443, name: any, targetPort: 443}"
ANY = "outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS}"
CLOSED = "outboundTrafficPolicy: {mode: REGISTRY_ONLY}"


def wild(*ports: str) -> str:
    spec = f"  hosts: ['*.wild.com']\n  resolution: DYNAMIC_DNS\n  ports: [{', '.join(ports)}]"
    return istio("ServiceEntry", "wild", spec)


def greet(name: str) -> Tls:
    return Tls(server_name=name, alpn=("h2",))


def test_a_wildcard_service_is_called_by_the_name_in_the_request() -> None:
    found = compiled(wild(HTTP), mesh_config=CLOSED)
    outcome = call(found, "en.wild.com")
    assert outcome.cluster == "outbound|80||*.wild.com"
    assert [endpoint.address for endpoint in outcome.endpoints] == [Address(ip="en.wild.com", port=80)]
    assert call(found, "en.other.com").verdict is not Verdict.SERVED


@pytest.mark.parametrize(("port", "dialled"), [(TLS, 443), (AUTO, 8443)])
def test_or_by_the_name_in_the_handshake(port: str, dialled: int) -> None:
    found = compiled(wild(port), mesh_config=CLOSED)
    outcome = call(found, "", dialled, tls=greet("de.wild.com"), http=False)
    assert outcome.cluster == f"outbound|{dialled}||*.wild.com"
    assert [endpoint.address for endpoint in outcome.endpoints] == [Address(ip="de.wild.com", port=443)]
    assert call(found, "", dialled, tls=greet("de.other.com"), http=False).cluster == "BlackHoleCluster"
    assert call(found, "", dialled, http=False).cluster == "BlackHoleCluster", "it names no host at all"


def test_what_nobody_declared_is_looked_up_if_it_is_http() -> None:
    found = compiled(service("a"), mesh_config=ANY)
    for port in (80, 9999):
        outcome = call(found, "x.com:9999", port)
        assert (outcome.verdict, outcome.cluster) == (Verdict.SERVED, "DynamicForwardProxyCluster")
        assert outcome.endpoints[0].address == Address(ip="x.com", port=9999)
    assert call(found, "", 9999, http=False).cluster == "PassthroughCluster"
    assert call(found, "", 9999, tls=greet("x.com"), http=False).cluster == "PassthroughCluster"
    assert call(found, "a").cluster == "outbound|80||a.default.svc.cluster.local"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8080", "[::1]:8080", "0.0.0.0"])
def test_the_proxys_own_host_is_nobodys_to_call(host: str) -> None:
    outcome = call(compiled(service("a"), mesh_config=ANY), host)
    assert (outcome.verdict, outcome.policies[0].policy) == (Verdict.DENIED, "own-host")


def test_tls_to_unknown_hosts() -> None:
    found = compiled(
        service("a"), mesh_config="outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS, tls: {mode: SIMPLE}}"
    )
    outcome = call(found, "x.com")
    assert outcome.endpoints[0].tls is not None
    assert (outcome.endpoints[0].address.port, outcome.endpoints[0].tls.server_name) == (443, "x.com")


def test_a_servers_first_word_is_not_waited_for() -> None:
    listener = compiled(service("a"), mesh_config=ANY).listener("virtualOutbound")
    assert listener["listener_filters_timeout"] == "5s", "protocolDetectionTimeout says nothing: for ever is too long"
    disabled = listener["listener_filters"][0]["filter_disabled"]["or_match"]["rules"]
    ports = {rule["destination_port_range"]["start"] for rule in disabled}
    assert 3306 in ports


def test_a_mesh_that_looks_up_nothing_opens_no_resolver() -> None:
    assert "dynamic_forward_proxy" not in str(compiled(service("a")).json())


EXPLICIT = replace(SIDECAR, capture=Capture(mode=CaptureMode.EXPLICIT, address="127.0.0.9", http_proxy_port=18080))
GATEWAY_OF_WILD = istio(
    "Gateway",
    "gw",
    "  selector: {istio: ingressgateway}\n  servers: [{port: {number: 443, name: tls, protocol: TLS}, "
    "hosts: ['*.wild.com'], tls: {mode: PASSTHROUGH}}]",
) + "---" + istio(
    "VirtualService",
    "v",
    "  hosts: ['*.wild.com']\n  gateways: [gw]\n"
    "  tls: [{match: [{sniHosts: ['*.wild.com']}], route: [{destination: {host: '*.wild.com', port: {number: 443}}}]}]",
)  # fmt: skip
ORIGINATES = istio("DestinationRule", "d", "  host: '*.wild.com'\n  trafficPolicy: {tls: {mode: SIMPLE}}")
SUBJECTS: dict[str, Compiled] = {
    "services": compiled(wild(HTTP, TLS, AUTO)),
    "originating TLS": compiled(wild(HTTP), ORIGINATES),
    "anything": compiled(service("a"), mesh_config=ANY),
    "anything over TLS": compiled(
        service("a"), mesh_config="outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS, tls: {mode: SIMPLE}}"
    ),
    "explicit": compiled(service("a"), wild(HTTP, TLS), proxy=EXPLICIT, mesh_config=ANY),
    "an HTTP proxy": compiled(service("a"), mesh_config=f"{ANY}\nproxyHttpPort: 15007"),
    "gateway": compiled(wild(TLS), GATEWAY_OF_WILD, proxy=GATEWAY),
}


def test_a_sidecar_serves_as_an_http_proxy_too() -> None:
    proxy = replace(SIDECAR, capture=Capture(network_namespace="/run/ns"))
    found = compiled(service("a"), proxy=proxy, mesh_config="proxyHttpPort: 15007")
    address = found.listener("127.0.0.1_15007")["address"]["socket_address"]
    assert address == {"address": "127.0.0.1", "port_value": 15007, "network_namespace_filepath": "/run/ns"}
    asked = partial(call, found, port=15007, to="127.0.0.1", arrival=Arrival.DIRECT)
    assert asked("a").cluster == "outbound|80||a.default.svc.cluster.local"
    assert asked("x.com").cluster == "DynamicForwardProxyCluster"
    assert asked("localhost:8080").verdict is Verdict.DENIED


@pytest.mark.envoy
@pytest.mark.parametrize("case", SUBJECTS)
def test_envoy_takes_it(case: str, envoy: Path, stub: Stub, tmp_path: Path) -> None:
    assert validated(envoy, SUBJECTS[case].resources, stub, tmp_path) == ""


def test_a_gateway_looks_up_too() -> None:
    found = SUBJECTS["gateway"]
    (name,) = [listener["name"] for listener in found.json()["listeners"]]
    address = found.listener(name)["address"]["socket_address"]["address"]
    outcome = call(found, "", 443, to=address, arrival=Arrival.DIRECT, tls=greet("a.wild.com"), http=False)
    assert outcome.endpoints[0].address == Address(ip="a.wild.com", port=443)
    assert "outbound|443||*.wild.com" in found.names(CLUSTER)
