"""Transport sockets: which secrets they name, whom they believe, and what they offer."""

from __future__ import annotations

from typing import TypeVar

import pytest
from envoy.config.core.v3.base_pb2 import TransportSocket
from envoy.extensions.transport_sockets.tls.v3.common_pb2 import SubjectAltNameMatcher, TlsParameters
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import CommonTlsContext, DownstreamTlsContext, UpstreamTlsContext

from gossamer.api.destination_rule import ClientTLSMode, ClientTLSSettings
from gossamer.api.gateway import ServerTLSMode, ServerTLSSettings, TLSProtocol
from gossamer.compile.agent_clusters import SDS_CLUSTER
from gossamer.compile.tls import (
    PEER_ALPN,
    client_context,
    mesh_alpn,
    mesh_client_context,
    mesh_server_context,
    server_context,
)
from gossamer.model.service import Protocol

C = TypeVar("C", DownstreamTlsContext, UpstreamTlsContext)


def read(socket: TransportSocket, context: C) -> C:
    assert socket.typed_config.Unpack(context)
    return context


def client(socket: TransportSocket) -> UpstreamTlsContext:
    return read(socket, UpstreamTlsContext())


def server(socket: TransportSocket) -> DownstreamTlsContext:
    return read(socket, DownstreamTlsContext())


def certificates(common: CommonTlsContext) -> list[str]:
    return [config.name for config in common.tls_certificate_sds_secret_configs]


def roots(common: CommonTlsContext) -> str:
    return common.combined_validation_context.validation_context_sds_secret_config.name


def names(common: CommonTlsContext) -> list[tuple[int, str]]:
    matchers = common.combined_validation_context.default_validation_context.match_typed_subject_alt_names
    return [(one.san_type, one.matcher.exact or one.matcher.prefix) for one in matchers]


@pytest.mark.parametrize("protocol", list(Protocol))
def test_what_a_client_offers_is_what_a_server_knows_a_peer_by(protocol: Protocol) -> None:
    assert set(mesh_alpn(protocol)) <= set(PEER_ALPN)
    assert all(name.startswith("istio") for name in mesh_alpn(protocol)), "none that a server would settle on"


def test_mesh_identity_comes_from_the_agent_and_names_the_server() -> None:
    spiffe_id = "spiffe://cluster.local/ns/foo/sa/bar"
    context = client(mesh_client_context("outbound_.80_._.x", (spiffe_id,), ("istio",)))
    common = context.common_tls_context
    assert (certificates(common), roots(common)) == (["default"], "ROOTCA")
    assert names(common) == [(SubjectAltNameMatcher.URI, spiffe_id)]
    assert (context.sni, list(common.alpn_protocols)) == ("outbound_.80_._.x", ["istio"])
    source = common.tls_certificate_sds_secret_configs[0].sds_config
    assert source.api_config_source.grpc_services[0].envoy_grpc.cluster_name == SDS_CLUSTER
    assert source.initial_fetch_timeout.seconds == 0


def test_a_sidecar_demands_a_certificate_of_its_trust_domains() -> None:
    context = server(mesh_server_context(("cluster.local", "old"), ("h2",)))
    assert context.require_client_certificate.value
    assert [text for _, text in names(context.common_tls_context)] == ["spiffe://cluster.local/", "spiffe://old/"]
    parameters = context.common_tls_context.tls_params
    assert parameters.tls_minimum_protocol_version == TlsParameters.TLSv1_2
    assert all(name.startswith("ECDHE") for name in parameters.cipher_suites)


def test_simple_verifies_against_the_host_unless_told() -> None:
    plain = client(client_context(ClientTLSSettings(mode=ClientTLSMode.SIMPLE), "example.com"))
    assert (roots(plain.common_tls_context), plain.sni) == ("file-root:system", "example.com")
    assert not certificates(plain.common_tls_context)
    settings = ClientTLSSettings(
        mode=ClientTLSMode.SIMPLE,
        ca_certificates="/etc/ca.pem",
        subject_alt_names=("a.example", "spiffe://x/y", "10.0.0.1"),
        sni="b.example",
    )
    told = client(client_context(settings, "example.com"))
    assert (roots(told.common_tls_context), told.sni) == ("file-root:/etc/ca.pem", "b.example")
    assert names(told.common_tls_context) == [
        (SubjectAltNameMatcher.DNS, "a.example"),
        (SubjectAltNameMatcher.URI, "spiffe://x/y"),
        (SubjectAltNameMatcher.IP_ADDRESS, "10.0.0.1"),
    ]
    blind = ClientTLSSettings(mode=ClientTLSMode.SIMPLE, insecure_skip_verify=True)
    assert not client(client_context(blind, "x")).common_tls_context.HasField("combined_validation_context")


def test_mutual_by_secret_and_by_files() -> None:
    secret = client(client_context(ClientTLSSettings(mode=ClientTLSMode.MUTUAL, credential_name="c"), "x"))
    common = secret.common_tls_context
    assert (certificates(common), roots(common)) == (["kubernetes://c"], "kubernetes://c-cacert")
    assert common.tls_certificate_sds_secret_configs[0].sds_config.initial_fetch_timeout.seconds > 0
    files = ClientTLSSettings(
        mode=ClientTLSMode.MUTUAL, client_certificate="/c.pem", private_key="/k.pem", ca_certificates="/ca.pem"
    )
    common = client(client_context(files, "x")).common_tls_context
    assert (certificates(common), roots(common)) == (["file-cert:/c.pem~/k.pem"], "file-root:/ca.pem")


@pytest.mark.parametrize(
    ("mode", "verifies", "demands"),
    [
        (ServerTLSMode.SIMPLE, False, False),
        (ServerTLSMode.MUTUAL, True, True),
        (ServerTLSMode.OPTIONAL_MUTUAL, True, False),
        (ServerTLSMode.ISTIO_MUTUAL, True, True),
    ],
)
def test_a_gateways_modes(mode: ServerTLSMode, verifies: bool, demands: bool) -> None:
    context = server(server_context(ServerTLSSettings(mode=mode, credential_name="c"), ("cluster.local",)))
    common = context.common_tls_context
    assert common.HasField("combined_validation_context") == verifies
    assert context.require_client_certificate.value == demands
    assert certificates(common) == (["default"] if mode is ServerTLSMode.ISTIO_MUTUAL else ["kubernetes://c"])
    assert list(common.alpn_protocols) == ["h2", "http/1.1"]


def test_a_gateways_own_choice_of_versions() -> None:
    def versions(settings: ServerTLSSettings) -> tuple[int, int]:
        parameters = server(server_context(settings, ())).common_tls_context.tls_params
        return parameters.tls_minimum_protocol_version, parameters.tls_maximum_protocol_version

    simple = ServerTLSMode.SIMPLE
    assert versions(ServerTLSSettings(mode=simple)) == (TlsParameters.TLSv1_2, TlsParameters.TLSv1_3)
    chosen = ServerTLSSettings(
        mode=simple, min_protocol_version=TLSProtocol.TLSV1_3, cipher_suites=("ECDHE-RSA-AES128-GCM-SHA256",)
    )
    assert versions(chosen) == (TlsParameters.TLSv1_3, TlsParameters.TLSv1_3)
    parameters = server(server_context(chosen, ())).common_tls_context.tls_params
    assert list(parameters.cipher_suites) == ["ECDHE-RSA-AES128-GCM-SHA256"]
