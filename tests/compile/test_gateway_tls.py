"""What a gateway's servers ask of TLS, and which Secrets and files they get for it."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import pytest
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from google.protobuf.any_pb2 import Any as AnyMessage

from gossamer.core.resources import CLUSTER, ENDPOINT, LISTENER, SECRET
from gossamer.simulate.outcome import Outcome, Verdict
from gossamer.simulate.request import Address, Arrival, Certificate, HttpRequest, Request, Tls
from gossamer.simulate.simulator import Simulator
from tests.compile.compiled import GATEWAY, Compiled, compiled, istio, service, workload

PEER_ALPN = ["istio-peer-exchange", "istio", "istio-http/1.0", "istio-http/1.1", "istio-h2"]


def server(tls: str, *, port: str = "{number: 443, name: https, protocol: HTTPS}", hosts: str = "['*']") -> str:
    spec = f"  selector: {{istio: ingressgateway}}\n  servers: [{{port: {port}, hosts: {hosts}, tls: {tls}}}]"
    return istio("Gateway", "gw", spec, namespace="istio-system")


def secret(name: str, namespace: str = "istio-system", **keys: str) -> str:
    data = ", ".join(
        f"{key.replace('_', '.')}: {base64.b64encode(value.encode()).decode()}" for key, value in keys.items()
    )
    return f"apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {namespace}}}\ndata: {{{data}}}\n"


def secrets_of(found: Compiled) -> dict[str, Secret]:
    resources = found.resources.all_of(SECRET)
    return {one.name: Secret.FromString(AnyMessage.FromString(one.body).value) for one in resources}


def context(found: Compiled, listener: str = "0.0.0.0_443") -> dict[str, Any]:
    (chain,) = found.listener(listener)["filter_chains"]
    config: dict[str, Any] = chain["transport_socket"]["typed_config"]
    return config


def roots(found: Compiled) -> str:
    common = context(found)["common_tls_context"]
    name: str = common["combined_validation_context"]["validation_context_sds_secret_config"]["name"]
    return name


def test_the_keys_of_both_forms_of_secrets_and_a_ca_of_its_own() -> None:
    generic = secret("one", cert="chain", key="key", cacert="ca", crl="revoked")
    found = compiled(server("{mode: MUTUAL, credentialName: one}"), generic, proxy=GATEWAY)
    given = secrets_of(found)
    assert given["kubernetes://one"].tls_certificate.private_key.inline_bytes == b"key"
    assert given["kubernetes://one-cacert"].validation_context.trusted_ca.inline_bytes == b"ca"
    assert given["kubernetes://one-cacert"].validation_context.crl.inline_bytes == b"revoked"

    beside = secret("one-cacert", ca_crt="other")
    given = secrets_of(compiled(server("{mode: MUTUAL, credentialName: one}"), generic, beside, proxy=GATEWAY))
    assert given["kubernetes://one-cacert"].validation_context.trusted_ca.inline_bytes == b"other", "it speaks first"
    assert len(given) == 2


@pytest.mark.parametrize(
    ("tls", "wanted"),
    [
        ("{mode: MUTUAL, credentialName: one}", "kubernetes://one-cacert"),
        ("{mode: MUTUAL, credentialNames: [one, two]}", "kubernetes://one-cacert"),
        ("{mode: OPTIONAL_MUTUAL, credentialName: one, caCertCredentialName: two}", "kubernetes://two-cacert"),
        ("{mode: MUTUAL, serverCertificate: /c, privateKey: /k, caCertificates: /ca}", "file-root:/ca"),
        (
            "{mode: MUTUAL, serverCertificate: /c, privateKey: /k, caCertificates: /ca, caCrl: /crl}",
            "file-root:/ca~/crl",
        ),
        (
            "{mode: MUTUAL, tlsCertificates: [{serverCertificate: /c, privateKey: /k, caCertificates: /ca}]}",
            "file-root:/ca",
        ),
    ],
)
def test_whose_ca_verifies_clients(tls: str, wanted: str) -> None:
    assert roots(compiled(server(tls), proxy=GATEWAY)) == wanted


def test_certificates_of_files_go_by_their_names_to_the_gateways_own_host() -> None:
    one, two = "{serverCertificate: /a, privateKey: /b}", "{serverCertificate: /c, privateKey: /d}"
    pairs = f"{{mode: SIMPLE, tlsCertificates: [{one}, {two}]}}"
    common = context(compiled(server(pairs), proxy=GATEWAY))["common_tls_context"]
    names = [config["name"] for config in common["tls_certificate_sds_secret_configs"]]
    assert names == ["file-cert:/a~/b", "file-cert:/c~/d"]


def test_no_name_leads_to_a_secret_of_another_namespace() -> None:
    theirs = secret("theirs", "payments", tls_crt="chain", tls_key="key")
    for name in ("theirs", "payments/theirs", "kubernetes://payments/theirs", "kubernetes-gateway://payments/theirs"):
        found = compiled(server(f"{{mode: SIMPLE, credentialName: '{name}'}}"), theirs, proxy=GATEWAY)
        assert found.names(SECRET) == [], name


def test_no_destination_rule_leads_there_either() -> None:
    theirs = secret("theirs", "payments", tls_crt="chain", tls_key="key", ca_crt="ca")
    rule = "  host: reviews\n  trafficPolicy: {tls: {mode: MUTUAL, credentialName: 'NAME'}}"
    for name in ("theirs", "payments/theirs", "kubernetes-gateway://payments/theirs"):
        found = compiled(REVIEWS, istio("DestinationRule", "r", rule.replace("NAME", name)), theirs, proxy=GATEWAY)
        assert found.names(SECRET) == [], name


def test_a_ca_may_stand_in_a_config_map_where_it_is_named_as_one() -> None:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: roots, namespace: istio-system}\ndata: {ca.crt: ca}\n"
    own = secret("one", tls_crt="chain", tls_key="key")
    named = server("{mode: MUTUAL, credentialName: one, caCertCredentialName: roots}")
    given = secrets_of(compiled(named, own, text, proxy=GATEWAY))
    assert sorted(given) == ["kubernetes://one", "kubernetes://roots-cacert"]
    assert given["kubernetes://roots-cacert"].validation_context.trusted_ca.inline_bytes == b"ca"
    stolen = text.replace("name: roots", "name: one")
    given = secrets_of(compiled(server("{mode: MUTUAL, credentialName: one}"), own, stolen, proxy=GATEWAY))
    assert sorted(given) == ["kubernetes://one"], "a credential's own CA is a Secret's"
    elsewhere = text.replace("istio-system", "default")
    assert "kubernetes://roots-cacert" not in secrets_of(compiled(named, own, elsewhere, proxy=GATEWAY))


def test_what_is_asked_of_clients() -> None:
    tls = (
        "{mode: MUTUAL, credentialName: one, subjectAltNames: [a.com, 'spiffe://x/y'], insecureSkipVerify: true, "
        "verifyCertificateHash: ['AB:CD'], verifyCertificateSpki: [YWI=]}"
    )
    common = context(compiled(server(tls), proxy=GATEWAY))["common_tls_context"]
    asked = common["combined_validation_context"]["default_validation_context"]
    assert [one["matcher"]["exact"] for one in asked["match_typed_subject_alt_names"]] == ["a.com", "spiffe://x/y"]
    assert asked["verify_certificate_hash"] == ["AB:CD"]
    assert asked["verify_certificate_spki"] == ["YWI="]
    assert asked["trust_chain_verification"] == "ACCEPT_UNTRUSTED"


def test_ciphers_that_envoy_does_not_know_are_left_out() -> None:
    tls = (
        "{mode: SIMPLE, credentialName: one, minProtocolVersion: TLSV1_2, "
        "cipherSuites: [NO-SUCH, AES128-SHA, AES128-SHA]}"
    )
    parameters = context(compiled(server(tls), proxy=GATEWAY))["common_tls_context"]["tls_params"]
    assert parameters["cipher_suites"] == ["AES128-SHA"]


def test_tls_that_carries_no_http_settles_on_no_http() -> None:
    port = "{number: 443, name: tls, protocol: TLS}"
    routes = "  hosts: ['*']\n  gateways: [gw]\n  tcp: [{route: [{destination: {host: a.com, port: {number: 1}}}]}]"
    found = compiled(
        server("{mode: SIMPLE, credentialName: one}", port=port),
        istio("VirtualService", "v", routes, namespace="istio-system"),
        proxy=GATEWAY,
    )
    assert "alpn_protocols" not in context(found)["common_tls_context"]


def test_unix_sockets() -> None:
    def at(bind: str, *, binds_paths: bool) -> Compiled:
        spec = (
            "  selector: {istio: ingressgateway}\n  servers: [{port: {number: 0, name: http, protocol: HTTP}, "
            f"bind: '{bind}', hosts: ['*']}}]"
        )
        return compiled(istio("Gateway", "gw", spec), proxy=replace(GATEWAY, binds_paths=binds_paths))

    found = at("unix:///run/web.sock", binds_paths=True).listener("unix:///run/web.sock_0")
    assert found["address"] == {"pipe": {"path": "/run/web.sock"}}
    assert at("unix:///run/web.sock", binds_paths=False).names(LISTENER) == [], "it may be another's"
    found = at("unix://@web", binds_paths=False).listener("unix://@web_0")
    assert found["address"] == {"pipe": {"path": "@web"}}


AUTO = server("{mode: AUTO_PASSTHROUGH}", port="{number: 15443, name: tls, protocol: TLS}", hosts="['*.local']")
REVIEWS = service("reviews", "{name: http, port: 80}")
SUBSETS = istio("DestinationRule", "r", "  host: reviews\n  subsets: [{name: v1, labels: {version: v1}}]")


def test_the_meshs_own_tls_is_passed_on_by_its_server_name() -> None:
    external = istio(
        "ServiceEntry",
        "out",
        "  hosts: [x.local]\n  location: MESH_EXTERNAL\n  resolution: STATIC\n"
        "  ports: [{number: 80, name: http, protocol: HTTP}]\n  endpoints: [{address: 9.9.9.9}]",
    )
    one = workload("reviews-1", app="reviews", address="10.1.0.1")
    plain = replace(workload("reviews-2", app="reviews", address="10.1.0.2"), tls=False)
    found = compiled(AUTO, REVIEWS, SUBSETS, external, proxy=GATEWAY, registrations=(one, plain))
    chains = found.listener("0.0.0.0_15443")["filter_chains"]
    names = [chain["filter_chain_match"]["server_names"] for chain in chains]
    host = "reviews.default.svc.cluster.local"
    assert names == [[f"outbound_.80_._.{host}"], [f"outbound_.80_.v1_.{host}"]]
    for chain, (name,) in zip(chains, names, strict=True):
        assert chain["filter_chain_match"]["application_protocols"] == PEER_ALPN, "nothing else gets in"
        assert "transport_socket" not in chain
        assert chain["filters"][-1]["typed_config"]["cluster"] == name
        assert "transport_socket_matches" not in found.cluster(name)
        assert "transport_socket" not in found.cluster(name)
        (group,) = found.assignment(name)["endpoints"]
        addresses = [one["endpoint"]["address"]["socket_address"]["address"] for one in group["lb_endpoints"]]
        assert addresses == ["10.1.0.1"], "who speaks no mutual TLS is not reached this way"


def test_only_that_gateway_has_such_clusters_and_only_for_the_services_that_it_names() -> None:
    other = server("{mode: AUTO_PASSTHROUGH}", port="{number: 15443, name: tls, protocol: TLS}", hosts="['other/*']")
    found = compiled(other, REVIEWS, proxy=GATEWAY)
    assert found.names(LISTENER) == []
    assert not any(name.startswith("outbound_") for kind in (CLUSTER, ENDPOINT) for name in found.names(kind))


def test_the_simulator_knows_what_is_asked_of_clients() -> None:
    def outcome(more: str, *, trusted: bool) -> Outcome:
        found = compiled(server(f"{{mode: MUTUAL, credentialName: one{more}}}"), proxy=GATEWAY)
        shown = Certificate(dns_names=("a.com",), trusted=trusted)
        request = Request(
            arrival=Arrival.DIRECT,
            destination=Address(ip="2.2.2.2", port=443),
            tls=Tls(server_name="a.com", alpn=("http/1.1",), certificate=shown),
            http=HttpRequest(authority="a.com"),
        )
        return Simulator(found.resources).simulate(request)

    assert outcome("", trusted=True).verdict is Verdict.NOT_FOUND
    assert outcome("", trusted=False).verdict is Verdict.REFUSED
    assert outcome(", insecureSkipVerify: true", trusted=False).verdict is Verdict.NOT_FOUND
    assert outcome(", subjectAltNames: [b.com]", trusted=True).verdict is Verdict.REFUSED
    unseen = outcome(", insecureSkipVerify: true, subjectAltNames: [b.com]", trusted=False)
    assert unseen.verdict is Verdict.NOT_FOUND, "Envoy looks at no name then"
    (note,) = outcome(f", verifyCertificateHash: ['{'ab' * 32}']", trusted=True).notes
    assert "hash" in note
