"""The control plane's own certificate, and the gRPC credentials of its two ports.

It is made in memory and renewed in the moment of a handshake, once half of its life is over or the authority has
changed: no timer, no file, no restart, and nobody is ever shown an old one.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

import grpc
from cryptography import x509

from gossamer.ca.authority import Authority, Lifetimes, control_plane_names
from gossamer.ca.certificates import chain_pem, check_public_key, key_pem, load_chain, new_key
from gossamer.core.errors import IdentityError
from gossamer.core.latest import Latest

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Serving:
    key: bytes = field(repr=False)
    chain: bytes
    authority: Authority
    renew_at: datetime


class ServerIdentity:
    """Who the control plane is to those that connect. `dns` and `addresses` are what it is dialled by."""

    def __init__(
        self,
        authority: Latest[Authority],
        clock: Callable[[], datetime],
        *,
        lifetimes: Lifetimes | None = None,
        dns: tuple[str, ...] = ("localhost",),
        addresses: tuple[str, ...] = ("127.0.0.1", "::1"),
    ) -> None:
        self._authority = authority
        self._clock = clock
        self._lifetime = (lifetimes or Lifetimes()).control_plane
        self._dns = dns
        self._addresses = addresses
        self._lock = threading.Lock()
        self._serving = self._issue(authority.value)

    def mutual_tls(self) -> grpc.ServerCredentials:
        """For port 15012: only clients with a certificate of the mesh connect. Those that were away while its root was
        replaced are shown the way from the old one."""
        return self._credentials(
            lambda serving: grpc.ssl_server_certificate_configuration(
                [(serving.key, serving.chain + chain_pem(serving.authority.bridge[:-1]))], serving.authority.roots_pem
            ),
            require_client=True,
        )

    def join_tls(self) -> grpc.ServerCredentials:
        """For port 15013: anyone connects; the chain ends with the root, for a newcomer to hold against its pin."""
        return self._credentials(
            lambda serving: grpc.ssl_server_certificate_configuration(
                [(serving.key, serving.chain + chain_pem(_ways(serving.authority)))]
            ),
            require_client=False,
        )

    def _credentials(
        self, configure: Callable[[_Serving], grpc.ServerCertificateConfiguration], *, require_client: bool
    ) -> grpc.ServerCredentials:
        shown = self._current()

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            nonlocal shown
            current = self._current()
            if current is shown:
                return None
            shown = current
            return configure(current)

        return grpc.dynamic_ssl_server_credentials(configure(shown), fetch, require_client)  # type: ignore[arg-type]

    def _current(self) -> _Serving:
        """What to show in a handshake; gRPC asks from threads of its own."""
        with self._lock:
            authority = self._authority.value
            if authority is not self._serving.authority or self._clock() >= self._serving.renew_at:
                try:
                    self._serving = self._issue(authority)
                except IdentityError as error:
                    _LOG.error("serving-certificate-not-renewed", extra={"reason": str(error)})
            return self._serving

    def _issue(self, authority: Authority) -> _Serving:
        now = self._clock()
        key = new_key()
        names = control_plane_names(authority.trust_domain, self._dns, self._addresses)
        public = check_public_key(key.public_key(), "the control plane's key")
        serial = x509.random_serial_number()
        chain = authority.sign(public, names, now=now, lifetime=self._lifetime, serial=serial)
        ends = load_chain(chain, "the control plane's certificate")[0].not_valid_after_utc
        return _Serving(key=key_pem(key), chain=chain, authority=authority, renew_at=now + (ends - now) / 2)


def _ways(authority: Authority) -> tuple[x509.Certificate, ...]:
    """What a newcomer may find its root among. The bridge comes before the root of the same name and key: who does not
    trust that one takes what it finds first."""
    return (*authority.bridge[:-1], authority.root, *authority.bridge[-1:])
