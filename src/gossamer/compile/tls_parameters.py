"""Versions, ciphers and curves of TLS, for both sides of the mesh's mutual TLS and of all other TLS.

Invariant: TLS 1.2 at least, unless a Gateway asks for less by name. What is chosen nearest counts: a Gateway's own
word, else MeshConfig's, else ours.
"""

from __future__ import annotations

from typing import Final

from envoy.extensions.transport_sockets.tls.v3.common_pb2 import TlsParameters

from gossamer.api.gateway import ServerTLSSettings, TLSProtocol
from gossamer.api.mesh_config import MeshTLSConfig, MeshTLSProtocol
from gossamer.api.rules.tls import CIPHER_SUITES, CURVES

_CIPHERS: Final = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
)
"""For TLS 1.2: forward secrecy and AEAD only. TLS 1.3 has none to choose."""
_VERSIONS: Final = {
    TLSProtocol.TLS_AUTO: TlsParameters.TLS_AUTO,
    TLSProtocol.TLSV1_0: TlsParameters.TLSv1_0,
    TLSProtocol.TLSV1_1: TlsParameters.TLSv1_1,
    TLSProtocol.TLSV1_2: TlsParameters.TLSv1_2,
    TLSProtocol.TLSV1_3: TlsParameters.TLSv1_3,
}
_MINIMA: Final = {
    MeshTLSProtocol.TLS_AUTO: TlsParameters.TLSv1_2,
    MeshTLSProtocol.TLSV1_2: TlsParameters.TLSv1_2,
    MeshTLSProtocol.TLSV1_3: TlsParameters.TLSv1_3,
}


def chosen_parameters(config: MeshTLSConfig) -> TlsParameters:
    """What MeshConfig chooses for one of the two kinds of TLS."""
    return TlsParameters(
        tls_minimum_protocol_version=_MINIMA[config.min_protocol_version],
        tls_maximum_protocol_version=TlsParameters.TLSv1_3,
        cipher_suites=config.cipher_suites or _CIPHERS,
        ecdh_curves=config.ecdh_curves,
    )


def mesh_client_parameters(config: MeshTLSConfig) -> TlsParameters:
    """What a client of the mesh's mutual TLS offers. As Istio documents it, the minimum is the server's to demand: one
    that is no Envoy may speak TLS 1.2 alone. Without a choice Envoy's own list of ciphers, which is as strict, is left
    unsaid: it would be a twentieth of all that is sent."""
    return TlsParameters(
        tls_minimum_protocol_version=TlsParameters.TLSv1_2,
        tls_maximum_protocol_version=TlsParameters.TLSv1_3,
        cipher_suites=config.cipher_suites,
        ecdh_curves=config.ecdh_curves,
    )


def server_parameters(settings: ServerTLSSettings, defaults: MeshTLSConfig) -> TlsParameters:
    """A Gateway's own choice of versions, ciphers and curves. A default minimum is no more than its own maximum."""
    maximum = _VERSIONS[settings.max_protocol_version] or TlsParameters.TLSv1_3
    minimum = _VERSIONS[settings.min_protocol_version] or min(_MINIMA[defaults.min_protocol_version], maximum)
    ciphers = tuple(name for name in dict.fromkeys(settings.cipher_suites) if name in CIPHER_SUITES)
    curves = tuple(name for name in dict.fromkeys(settings.ecdh_curves) if name in CURVES)
    return TlsParameters(
        tls_minimum_protocol_version=minimum,
        tls_maximum_protocol_version=maximum,
        cipher_suites=ciphers or defaults.cipher_suites or _CIPHERS,
        ecdh_curves=curves or defaults.ecdh_curves,
    )
