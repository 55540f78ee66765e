"""Which versions, ciphers and curves TLS may use where nobody else chooses, and whether servers outside the mesh are
verified: what MeshConfig says of TLS (`meshMTLS`, `tlsDefaults`, `verifyCertificateAtClient`).

Invariant: only ciphers and curves that Envoy knows are in here, so that no listener or cluster is refused for them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gossamer.api.destination_rule import ClientTLSMode, ClientTLSSettings
from gossamer.api.mesh_config import MeshConfig, MeshTLSConfig
from gossamer.api.rules.tls import CIPHER_SUITES, CURVES
from gossamer.core.frozen import Value

UNCHOSEN = MeshTLSConfig()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TlsChoices(Value):
    """`mesh` is of mutual TLS between workloads, `others` of all other TLS."""

    mesh: MeshTLSConfig = UNCHOSEN
    others: MeshTLSConfig = UNCHOSEN
    verifies: bool = True
    """Whether a server is verified by the host's trusted roots where nobody names other ones."""

    def of_client(self, tls: ClientTLSSettings) -> ClientTLSSettings:
        """What a DestinationRule, or the mesh, says of TLS to a server, with what becomes of its verification."""
        named = tls.ca_certificates or tls.credential_name
        outside = tls.mode in (ClientTLSMode.SIMPLE, ClientTLSMode.MUTUAL)
        return tls if self.verifies or named or not outside else replace(tls, insecure_skip_verify=True)


NO_CHOICES = TlsChoices()


def build_tls_choices(mesh: MeshConfig) -> TlsChoices:
    """What a MeshConfig chooses."""
    return TlsChoices(
        mesh=_known(mesh.mesh_mtls or UNCHOSEN),
        others=_known(mesh.tls_defaults or UNCHOSEN),
        verifies=mesh.verify_certificate_at_client is not False,
    )


def _known(config: MeshTLSConfig) -> MeshTLSConfig:
    return replace(
        config,
        cipher_suites=tuple(name for name in dict.fromkeys(config.cipher_suites) if name in CIPHER_SUITES),
        ecdh_curves=tuple(name for name in dict.fromkeys(config.ecdh_curves) if name in CURVES),
    )
