"""Who is at the other end of a connection, by the certificate that it proved.

gRPC has verified the chain up to the mesh's roots before anything here is asked; here the names are read. A certificate
that is not exactly one workload's or one host's opens nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Protocol

from cryptography import x509

from gossamer.ca.certificates import check_public_key, key_fingerprint
from gossamer.ca.revocation import Revocations
from gossamer.ca.spiffe import HostId, WorkloadId, parse_workload
from gossamer.core.errors import IdentityError

_CERTIFICATE = "x509_pem_cert"


class Connection(Protocol):
    """What is asked of a gRPC servicer's context."""

    def auth_context(self) -> Mapping[str, Iterable[bytes]]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Whoever connected. `key` is the fingerprint of its key, `serial` its certificate's number; past `not_after` (UTC)
    it must have come anew."""

    key: str
    serial: int
    not_after: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadPeer(Peer):
    workload: WorkloadId


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPeer(Peer):
    host: HostId


def peer_of(connection: Connection, trust_domain: str) -> WorkloadPeer | HostPeer:
    """The workload or the host that connected with mutual TLS; IdentityError if it is neither, or of another mesh."""
    pem = next(iter(connection.auth_context().get(_CERTIFICATE, ())), None)
    if pem is None:
        raise IdentityError("the connection presented no client certificate")
    return read_peer(pem, trust_domain)


def workload_of(connection: Connection, trust_domain: str) -> WorkloadPeer:
    """The workload that connected; IdentityError if it was not one."""
    peer = peer_of(connection, trust_domain)
    if isinstance(peer, WorkloadPeer):
        return peer
    raise IdentityError(f"{_named(peer)} is a host; this needs a workload's certificate")


def host_of(connection: Connection, trust_domain: str) -> HostPeer:
    """The host that connected; IdentityError if it was not one."""
    peer = peer_of(connection, trust_domain)
    if isinstance(peer, HostPeer):
        return peer
    raise IdentityError(f"{_named(peer)} is a workload; this needs the certificate that its host got by joining")


@lru_cache(maxsize=4096)
def read_peer(pem: bytes, trust_domain: str) -> WorkloadPeer | HostPeer:
    """The workload or host that a certificate, which was verified already, names; by exactly one URI, as the SPIFFE
    specification demands. Who asks again about the same certificate is told what was read."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        key = key_fingerprint(check_public_key(certificate.public_key(), "the client's key"))
    except (ValueError, x509.ExtensionNotFound) as error:
        raise IdentityError(f"the client's certificate names nobody: {error}") from error
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise IdentityError(f"the client's certificate has {len(uris)} URIs; an identity is exactly one")
    not_after, serial = certificate.not_valid_after_utc, certificate.serial_number
    dns = names.get_values_for_type(x509.DNSName)
    if not dns:
        host = HostId.parse(uris[0])
        _check_mesh(host.trust_domain, trust_domain)
        return HostPeer(key=key, serial=serial, not_after=not_after, host=host)
    if len(dns) != 1:
        raise IdentityError(f"the client's certificate has {len(dns)} DNS names; a workload has exactly one")
    workload = parse_workload(uris[0], dns[0])
    _check_mesh(workload.spiffe_id.trust_domain, trust_domain)
    return WorkloadPeer(key=key, serial=serial, not_after=not_after, workload=workload)


def refusal_of(pem: bytes, trust_domain: str, revocations: Revocations) -> str:
    """Why the holder of a certificate, which was verified already, is refused; empty if it is not."""
    if not pem:
        return ""
    try:
        peer = read_peer(pem, trust_domain)
    except IdentityError as error:
        return str(error)
    return revocations.refuses(peer.host if isinstance(peer, HostPeer) else peer.workload, peer.serial)


def _check_mesh(found: str, expected: str) -> None:
    if found != expected:
        raise IdentityError(f"the client is of trust domain {found!r}; this mesh is {expected!r}")


def _named(peer: WorkloadPeer | HostPeer) -> str:
    return str(peer.host if isinstance(peer, HostPeer) else peer.workload)
