"""What MeshConfig chooses for TLS, and the names under which it has clusters counted; a real Envoy takes all of it."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from gossamer.compile.static import Stub
from gossamer.core.frozen import FrozenMap
from gossamer.core.resources import SECRET
from gossamer.model.proxy import Proxy, ProxyType
from gossamer.model.service import Workload
from tests.compile.compiled import GATEWAY, SIDECAR, Compiled, compiled, istio, service
from tests.compile.validated import validated

ECDSA, RSA, CHACHA = "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-CHACHA20-POLY1305"
MESH = f"""
meshMTLS: {{minProtocolVersion: TLSV1_3, cipherSuites: [{ECDSA}, nonsense], ecdhCurves: [P-384]}}
tlsDefaults: {{minProtocolVersion: TLSV1_3, cipherSuites: [{CHACHA}], ecdhCurves: [X25519, P-512]}}
"""
REVIEWS = service("reviews") + "---" + service("db", "{name: tcp-db, port: 3306, targetPort: 33}")
APP = Proxy(
    type=ProxyType.SIDECAR,
    namespace="default",
    name="reviews",
    addresses=("10.1.0.1",),
    labels=FrozenMap({"app": "reviews"}),
)
SERVER = "  selector: {{istio: ingressgateway}}\n  servers: [{{port: {port}, hosts: ['*'], tls: {tls}}}]"
HTTPS = "{number: 443, name: https, protocol: HTTPS}"


def gateway(tls: str) -> str:
    return istio("Gateway", "gw", SERVER.format(port=HTTPS, tls=tls), namespace="istio-system")


def parameters(socket: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = socket["typed_config"]["common_tls_context"]["tls_params"]
    return found


def of_server(found: Compiled, listener: str = "0.0.0.0_443") -> dict[str, Any]:
    (chain,) = found.listener(listener)["filter_chains"]
    return parameters(chain["transport_socket"])


def of_cluster(found: Compiled, name: str) -> dict[str, Any]:
    cluster = found.cluster(name)
    if "transport_socket" in cluster:
        return parameters(cluster["transport_socket"])
    (mesh,) = [one for one in cluster["transport_socket_matches"] if one["name"] == "tlsMode-istio"]
    return parameters(mesh["transport_socket"])


def test_sidecars_demand_what_the_mesh_chooses() -> None:
    found = compiled(REVIEWS, proxy=APP, registrations=(_reviews(),), mesh_config=MESH)
    chains = found.listener("virtualInbound")["filter_chains"]
    mutual = [parameters(chain["transport_socket"]) for chain in chains if "transport_socket" in chain]
    assert mutual
    for chosen in mutual:
        assert chosen["tls_minimum_protocol_version"] == "TLSv1_3"
        assert (chosen["cipher_suites"], chosen["ecdh_curves"]) == ([ECDSA], ["P-384"])


def test_their_clients_take_the_ciphers_and_curves_and_leave_the_minimum_to_the_server() -> None:
    chosen = of_cluster(compiled(REVIEWS, mesh_config=MESH), "outbound|80||reviews.default.svc.cluster.local")
    assert chosen["tls_minimum_protocol_version"] == "TLSv1_2"
    assert (chosen["cipher_suites"], chosen["ecdh_curves"]) == ([ECDSA], ["P-384"])


def test_without_a_choice_a_client_says_what_it_always_said() -> None:
    chosen = of_cluster(compiled(REVIEWS), "outbound|80||reviews.default.svc.cluster.local")
    assert chosen == {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"}


@pytest.mark.parametrize(
    ("tls", "minimum", "ciphers", "curves"),
    [
        ("{mode: SIMPLE, credentialName: c}", "TLSv1_3", [CHACHA], ["X25519"]),
        (f"{{mode: SIMPLE, credentialName: c, cipherSuites: [{RSA}]}}", "TLSv1_3", [RSA], ["X25519"]),
        ("{mode: SIMPLE, credentialName: c, minProtocolVersion: TLSV1_2}", "TLSv1_2", [CHACHA], ["X25519"]),
        ("{mode: SIMPLE, credentialName: c, maxProtocolVersion: TLSV1_2}", "TLSv1_2", [CHACHA], ["X25519"]),
        ("{mode: SIMPLE, credentialName: c, ecdhCurves: [P-256, P-512]}", "TLSv1_3", [CHACHA], ["P-256"]),
        ("{mode: ISTIO_MUTUAL}", "TLSv1_3", [ECDSA], ["P-384"]),
    ],
)
def test_a_gateways_own_word_goes_before_the_meshs(
    tls: str, minimum: str, ciphers: list[str], curves: list[str]
) -> None:
    chosen = of_server(compiled(gateway(tls), proxy=GATEWAY, mesh_config=MESH))
    assert chosen["tls_minimum_protocol_version"] == minimum
    assert (chosen["cipher_suites"], chosen["ecdh_curves"]) == (ciphers, curves)


OUT = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: out, namespace: default}
spec: {hosts: [out.example], ports: [{number: 443, name: https, protocol: HTTPS}], resolution: DNS}
"""
CLUSTER = "outbound|443||out.example"


def rule(tls: str) -> str:
    return istio("DestinationRule", "out", f"  host: out.example\n  trafficPolicy: {{tls: {tls}}}")


def test_tls_to_servers_outside_takes_the_defaults() -> None:
    chosen = of_cluster(compiled(OUT, rule("{mode: SIMPLE}"), mesh_config=MESH), CLUSTER)
    assert chosen["tls_minimum_protocol_version"] == "TLSv1_3"
    assert (chosen["cipher_suites"], chosen["ecdh_curves"]) == ([CHACHA], ["X25519"])


@pytest.mark.parametrize(
    ("mesh", "tls", "verified"),
    [
        ("", "{mode: SIMPLE}", True),
        ("verifyCertificateAtClient: true", "{mode: SIMPLE}", True),
        ("verifyCertificateAtClient: false", "{mode: SIMPLE}", False),
        ("verifyCertificateAtClient: false", "{mode: MUTUAL, clientCertificate: /c, privateKey: /k}", False),
        ("verifyCertificateAtClient: false", "{mode: SIMPLE, caCertificates: /ca}", True),
        ("verifyCertificateAtClient: false", "{mode: ISTIO_MUTUAL}", True),
    ],
)
def test_whether_servers_outside_are_verified(mesh: str, tls: str, verified: bool) -> None:
    socket = compiled(OUT, rule(tls), mesh_config=mesh).cluster(CLUSTER)["transport_socket"]
    assert ("combined_validation_context" in socket["typed_config"]["common_tls_context"]) is verified


STATS = """
outboundClusterStatName: "%SERVICE%_%SERVICE_NAME%_%SERVICE_PORT%_%SERVICE_PORT_NAME%_%SUBSET_NAME%"
inboundClusterStatName: "%SERVICE_FQDN%_%SERVICE_PORT%_%TARGET_PORT%_%OTHER%"
"""


def _reviews() -> Workload:
    return Workload(
        name="reviews",
        namespace="default",
        labels=FrozenMap({"app": "reviews"}),
        address="10.1.0.1",
        tls=True,
    )


def test_clusters_and_tcp_connections_are_counted_under_the_names_that_are_asked_for() -> None:
    subset = istio("DestinationRule", "r", "  host: reviews\n  subsets: [{name: v1, labels: {version: v1}}]")
    found = compiled(REVIEWS, subset, OUT, proxy=APP, registrations=(_reviews(),), mesh_config=STATS)
    host = "svc.cluster.local"
    assert (
        found.cluster(f"outbound|80|v1|reviews.default.{host}")["alt_stat_name"] == "reviews.default_reviews_80_http_v1"
    )
    assert found.cluster(CLUSTER)["alt_stat_name"] == "out.example_out.example_443_https_"
    assert found.cluster("inbound|80||")["alt_stat_name"] == f"reviews.default.{host}_80_80_%OTHER%"
    prefixes = str(found.json())
    assert "'stat_prefix': 'db.default_db_3306_tcp-db_'" in prefixes
    assert "alt_stat_name" not in str(compiled(REVIEWS, subset, OUT, proxy=APP).json())


@pytest.mark.envoy
def test_envoy_takes_all_of_it(envoy: Path, stub: Stub, tmp_path: Path) -> None:
    of_sidecar = compiled(
        REVIEWS, OUT, rule("{mode: SIMPLE}"), proxy=APP, registrations=(_reviews(),), mesh_config=MESH + STATS
    )
    assert validated(envoy, of_sidecar.resources, stub, tmp_path) == ""
    unverified = compiled(OUT, rule("{mode: SIMPLE}"), proxy=SIDECAR, mesh_config="verifyCertificateAtClient: false")
    assert validated(envoy, unverified.resources, stub, tmp_path) == ""
    of_gateway = compiled(gateway("{mode: SIMPLE, credentialName: c}"), proxy=GATEWAY, mesh_config=MESH)
    assert validated(envoy, of_gateway.resources, stub, tmp_path) == ""


def anchors(mesh: dict[str, Any], stub: Stub) -> dict[str, int]:
    """How many certificates each trust domain is told to believe beside the mesh's own roots."""
    found = compiled(mesh_config=json.dumps(mesh).replace("PEM", json.dumps(stub.authority)[1:-1]))
    secret = found.one(SECRET, "ROOTCA-anchors")
    bundles = secret["validation_context"]["custom_validator_config"]["typed_config"]["trust_domains"]
    return {
        one["name"]: base64.b64decode(one.get("trust_bundle", {}).get("inline_bytes", "")).count(b"BEGIN CERTIFICATE")
        for one in bundles
    }


def test_anchors_are_of_the_trust_domains_that_they_name(stub: Stub) -> None:
    domains = {"trustDomain": "td", "trustDomainAliases": ["old"]}
    assert anchors({"caCertificates": [{"pem": "PEM"}]}, stub) == {"cluster.local": 1}
    of_all = {"caCertificates": [{"pem": "PEM"}, {"pem": "PEM", "trustDomains": ["old", "other"]}], **domains}
    assert anchors(of_all, stub) == {"td": 1, "old": 2}
    given = {"defaultConfig": {"caCertificatesPem": ["PEM"]}, **domains}
    assert anchors(given, stub) == {"td": 1, "old": 1}
    assert anchors({"caCertificates": [{"pem": "PEM", "trustDomains": ["old"]}], **domains}, stub) == {
        "td": 0,
        "old": 1,
    }


def test_without_anchors_there_is_no_secret_of_them() -> None:
    assert compiled(mesh_config="trustDomainAliases: [old]").names(SECRET) == []
