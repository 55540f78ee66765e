"""What MeshConfig chooses for TLS, as clients of a real gateway find it."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest

from tests.compile.certificates import Issuer
from tests.compile.compiled import istio
from tests.compile.gateway_world import gateway
from tests.compile.sidecar import issue, new_authority
from tests.node.tls_envoy import context_of

pytestmark = pytest.mark.envoy

MESH = """
meshMTLS: {minProtocolVersion: TLSV1_3}
tlsDefaults: {minProtocolVersion: TLSV1_3, ecdhCurves: [P-384]}
"""
SERVERS = """
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 443, name: by-mesh, protocol: HTTPS}, hosts: ['*'], tls: {mode: SIMPLE, credentialName: web}}
  - port: {number: 8443, name: of-its-own, protocol: HTTPS}
    hosts: ['*']
    tls: {mode: SIMPLE, credentialName: web, minProtocolVersion: TLSV1_2, ecdhCurves: [P-256]}
  - {port: {number: 9443, name: mutual, protocol: HTTPS}, hosts: ['*'], tls: {mode: ISTIO_MUTUAL}}
"""


def agreed(port: int, context: ssl.SSLContext) -> str | None:
    """The version that a handshake settles on; None if there is none to agree on."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        try:
            with context.wrap_socket(plain, server_hostname="web.test") as wrapped:
                return wrapped.version()
        except (ssl.SSLError, OSError):
            return None


def test_versions_and_curves_are_those_that_are_chosen(envoy: Path, tmp_path: Path) -> None:
    issuer, authority = Issuer(), new_authority(tmp_path / "ca")
    (tmp_path / "lent").mkdir()
    documents = (istio("Gateway", "gw", SERVERS), issuer.issue("web.test").secret("web", "istio-system"))

    def stranger(*, newest: ssl.TLSVersion, curve: str) -> ssl.SSLContext:
        context = issuer.client(tmp_path, None, ())
        context.maximum_version = newest
        context.set_ecdh_curve(curve)
        return context

    def friend(newest: ssl.TLSVersion) -> ssl.SSLContext:
        context = context_of(issue(authority, "default", "web", "web"))
        context.check_hostname, context.maximum_version = False, newest
        return context

    old, new = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
    with gateway(envoy, tmp_path, authority, *documents, numbers=(443, 8443, 9443), mesh_config=MESH) as world:
        by_mesh, own, mutual = (world.port(number) for number in (443, 8443, 9443))
        assert agreed(by_mesh, stranger(newest=new, curve="secp384r1")) == "TLSv1.3"
        assert agreed(by_mesh, stranger(newest=old, curve="secp384r1")) is None
        assert agreed(by_mesh, stranger(newest=new, curve="prime256v1")) is None
        assert agreed(own, stranger(newest=old, curve="prime256v1")) == "TLSv1.2"
        assert agreed(own, stranger(newest=new, curve="secp384r1")) is None
        assert agreed(mutual, friend(new)) == "TLSv1.3"
        assert agreed(mutual, friend(old)) is None
