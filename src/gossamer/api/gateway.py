"""Gateway: which ports, hosts and certificates a gateway serves.

Invariant: every field of Istio's API is here, under its JSON name in snake_case; nothing is interpreted.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from gossamer.api.common import STRICT, Boolean, StrMap, UInt32
from gossamer.core.frozen import EMPTY

HTTP3: Final = "gossamer.io/http3"
"""Annotation of a Gateway, `"true"`: its HTTPS servers are to be reached by HTTP/3 too."""


class ServerTLSMode(StrEnum):
    PASSTHROUGH = "PASSTHROUGH"
    SIMPLE = "SIMPLE"
    MUTUAL = "MUTUAL"
    AUTO_PASSTHROUGH = "AUTO_PASSTHROUGH"
    ISTIO_MUTUAL = "ISTIO_MUTUAL"
    OPTIONAL_MUTUAL = "OPTIONAL_MUTUAL"


class TLSProtocol(StrEnum):
    TLS_AUTO = "TLS_AUTO"
    TLSV1_0 = "TLSV1_0"
    TLSV1_1 = "TLSV1_1"
    TLSV1_2 = "TLSV1_2"
    TLSV1_3 = "TLSV1_3"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """`Gateway`."""

    __pydantic_config__ = STRICT
    servers: tuple[Server, ...] = ()
    selector: StrMap = EMPTY


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """`Gateway.servers[]`."""

    port: Port
    bind: str = ""
    hosts: tuple[str, ...]
    tls: ServerTLSSettings | None = None
    default_endpoint: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """`Gateway.servers[].port`."""

    number: UInt32
    protocol: str
    name: str
    target_port: UInt32 = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTLSSettings:
    """`Gateway.servers[].tls`."""

    https_redirect: Boolean = False
    mode: ServerTLSMode = ServerTLSMode.PASSTHROUGH
    server_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""
    ca_crl: str = ""
    credential_name: str = ""
    credential_names: tuple[str, ...] = ()
    ca_cert_credential_name: str = ""
    tls_certificates: tuple[TLSCertificate, ...] = ()
    subject_alt_names: tuple[str, ...] = ()
    verify_certificate_spki: tuple[str, ...] = ()
    verify_certificate_hash: tuple[str, ...] = ()
    min_protocol_version: TLSProtocol = TLSProtocol.TLS_AUTO
    max_protocol_version: TLSProtocol = TLSProtocol.TLS_AUTO
    cipher_suites: tuple[str, ...] = ()
    ecdh_curves: tuple[str, ...] = ()
    insecure_skip_verify: Boolean | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TLSCertificate:
    """`Gateway.servers[].tls.tlsCertificates[]`."""

    server_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""


def serves_http3(server: Server) -> bool:
    """Whether HTTP/3 can stand beside a server: HTTPS that ends here and asks for no client certificate, since Envoy
    cannot over QUIC, on an IP address."""
    tls = server.tls
    if tls is None or server.port.protocol.upper() != "HTTPS" or tls.mode is not ServerTLSMode.SIMPLE:
        return False
    new_enough = tls.max_protocol_version in (TLSProtocol.TLS_AUTO, TLSProtocol.TLSV1_3)
    return new_enough and not server.bind.startswith("unix://")
