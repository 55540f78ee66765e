"""Foreign trust domains: their callers are let in, their roots told apart, and no server is taken for one of ours."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from gossamer.api.mesh_config import CertificateData, MeshConfig
from gossamer.compile.static import Stub
from gossamer.core.frozen import FrozenMap
from gossamer.core.resources import SECRET
from gossamer.model.anchors import build_anchors, build_foreign, bundle_urls, with_bundles
from tests.compile.compiled import Compiled, compiled, istio
from tests.compile.test_mesh_tls import APP, REVIEWS
from tests.compile.validated import validated

OWN = "trustDomain: a.test"
ABROAD = istio(
    "ServiceEntry",
    "abroad",
    "  hosts: [abroad.test]\n  location: MESH_INTERNAL\n  resolution: STATIC\n"
    "  ports: [{number: 80, name: http, protocol: HTTP}]\n  endpoints: [{address: 10.9.9.9}]\n",
)


def _mesh(stub: Stub, *domains: str) -> str:
    authorities = [{"pem": stub.authority, "trustDomains": [domain]} for domain in domains]
    return json.dumps({"trustDomain": "a.test", "trustDomainAliases": ["old.test"], "caCertificates": authorities})


def _let_in(found: Compiled) -> set[tuple[str, ...]]:
    """The beginnings of names that chains with mutual TLS let in."""
    chains = found.listener("virtualInbound")["filter_chains"]
    return {tuple(_prefixes(chain["transport_socket"])) for chain in chains if "transport_socket" in chain}


def _prefixes(socket: dict[str, Any]) -> list[str]:
    context = socket["typed_config"]["common_tls_context"]["combined_validation_context"]
    matchers = context["default_validation_context"].get("match_typed_subject_alt_names", ())
    return [one["matcher"].get("prefix", one["matcher"].get("exact")) for one in matchers]


def _roots(found: Compiled, name: str) -> dict[str, int]:
    config = found.one(SECRET, name)["validation_context"]["custom_validator_config"]["typed_config"]
    return {
        one["name"]: base64.b64decode(one.get("trust_bundle", {}).get("inline_bytes", "")).count(b"BEGIN CERTIFICATE")
        for one in config["trust_domains"]
    }


def test_callers_of_a_foreign_domain_are_let_in_by_its_own_roots(stub: Stub) -> None:
    found = compiled(REVIEWS, proxy=APP, mesh_config=_mesh(stub, "b.test", "old.test"))
    assert _let_in(found) == {("spiffe://a.test/", "spiffe://old.test/", "spiffe://b.test/")}
    assert _roots(found, "ROOTCA-foreign") == {"b.test": 1}
    assert _roots(found, "ROOTCA-anchors") == {"a.test": 0, "old.test": 1}


def test_a_server_of_unknown_identity_is_one_of_ours(stub: Stub) -> None:
    def names(mesh: str) -> list[str]:
        cluster = compiled(ABROAD, proxy=APP, mesh_config=mesh).cluster("outbound|80||abroad.test")
        matches = cluster.get("transport_socket_matches", ())
        sockets = [one["transport_socket"] for one in matches if one["name"] == "tlsMode-istio"]
        return _prefixes((sockets or [cluster["transport_socket"]])[0])

    assert names(OWN) == []
    assert names(_mesh(stub, "b.test")) == ["spiffe://a.test/", "spiffe://old.test/"]


def test_a_bundle_that_is_fetched_counts_for_its_domain(stub: Stub) -> None:
    url = "https://b.test/bundle"
    mesh = MeshConfig(ca_certificates=(CertificateData(spiffe_bundle_url=url, trust_domains=("b.test",)),))
    assert bundle_urls(mesh) == (url,)
    assert [(one.domain, one.roots) for one in build_foreign(mesh, ("a",))] == [("b.test", "")]
    assert build_anchors(mesh, ("a",)) == (), "nothing is there yet"
    there = with_bundles(mesh, FrozenMap({url: stub.authority}))
    assert build_foreign(there, ("a",))[0].roots.strip() == stub.authority.strip()
    assert [one.domain for one in build_anchors(there, ("a",))] == ["a"]
    assert with_bundles(mesh, FrozenMap()) is mesh


@pytest.mark.envoy
def test_envoy_takes_it(envoy: Path, stub: Stub, tmp_path: Path) -> None:
    found = compiled(REVIEWS + "---" + ABROAD, proxy=APP, mesh_config=_mesh(stub, "b.test"))
    assert validated(envoy, found.resources, stub, tmp_path) == ""
