"""The authority on the wire: joining by token, and certificates for hosts that have joined (grpc.aio).

Nothing is signed but what the caller's grant, read anew for every request, allows to the key that it proved.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import NoReturn, Protocol
from urllib.parse import unquote

import grpc
from cryptography import x509

from gossamer import __version__
from gossamer.ca.attestation import Attest, Attested, Evidence
from gossamer.ca.authority import Authority, Lifetimes, application_names, host_names, workload_names
from gossamer.ca.bundle import Beside, trust_bundle
from gossamer.ca.certificates import key_fingerprint, verify_request
from gossamer.ca.issued import IssuedLog
from gossamer.ca.ledger import Ledger
from gossamer.ca.peer import HostPeer, host_of
from gossamer.ca.revocation import Revocations
from gossamer.ca.sessions import Session, Sessions
from gossamer.ca.spiffe import HostId, WorkloadId, workload_id
from gossamer.ca.tokens import REASON, TOKEN_ID, HostRecord, JoinToken, Refusal, TokenError, renewed
from gossamer.ca.witness import Witness
from gossamer.core.errors import GossamerError, IdentityError, UnavailableError
from gossamer.core.latest import Latest
from gossamer.rpc import calls
from gossamer.rpc import gossamer_pb2 as pb

_LOG = logging.getLogger(__name__)


class _DeniedError(IdentityError):
    """The caller is known, and may not have what it asks for."""


class Entitled(Protocol):
    """Who may ask, and for which workload."""

    def known_host(self, context: calls.Context) -> HostRecord: ...
    def workload(self, context: calls.Context, request: pb.SignTokenRequest) -> tuple[HostRecord, WorkloadId]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityService:
    """Serves one trust domain. `authority` may be replaced while it runs: hosts learn of it at once."""

    authority: Latest[Authority]
    ledger: Ledger
    clock: Callable[[], datetime]
    lifetimes: Lifetimes = field(default_factory=Lifetimes)
    attest: Attest | None = None
    """Who vouches for hosts without a join token; None: nobody."""
    owner: Callable[[str, str], str | None] = lambda _namespace, _name: None
    """The host that runs a workload (namespace, name) now; None if nobody does. No other gets its identity."""
    beside: Latest[Beside] = field(default_factory=lambda: Latest(Beside()))
    """What is trusted and revoked beside the authority; hosts learn of changes at once."""
    witness: Witness = field(default_factory=Witness)
    revocations: Latest[Revocations] = field(default_factory=lambda: Latest(Revocations()))
    issued: IssuedLog | None = None
    """Where certificates are remembered, if they are."""
    sessions: Sessions = field(default_factory=Sessions)
    """The calls of hosts that stay open."""

    def join_handler(self) -> grpc.GenericRpcHandler:
        """For port 15013, behind `ServerIdentity.join_tls`."""
        return calls.service("Join", {calls.JOIN: calls.JOIN.serve(self.join)})

    def certificates_handler(self) -> grpc.GenericRpcHandler:
        """For port 15012, behind `ServerIdentity.mutual_tls`."""
        return calls.service(
            "Certificates",
            {
                calls.SIGN: calls.SIGN.serve(self.sign),
                calls.RENEW_HOST: calls.RENEW_HOST.serve(self.renew_host),
                calls.WATCH_TRUST: calls.WATCH_TRUST.serve(self.watch_trust),
                calls.CONFIRM_TRUST: calls.CONFIRM_TRUST.serve(self.confirm_trust),
            },
        )

    async def join(self, request: pb.JoinRequest, context: calls.Context) -> pb.JoinResponse:
        try:
            key = verify_request(request.csr_pem.encode())  # before a token is used up
            host = await self._admit(request, key_fingerprint(key), context.peer())
            chain = self._sign_host(host, request.csr_pem)
        except GossamerError as error:
            await refuse(context, error, event="join-refused", **_shown(request))
        known = {"host": host.host, "by": host.how, "peer": context.peer(), **_shown(request)}
        _LOG.info("host-joined", extra={**known, "grants": _spelt(host)})
        return pb.JoinResponse(
            host=host.host,
            certificate_chain_pem=chain,
            trust=self._trust(),
            grants=_spelt(host),
            control_plane_version=__version__,
        )

    async def _admit(self, request: pb.JoinRequest, key: str, peer: str) -> HostRecord:
        """The host that a token, or evidence, lets in. TokenError, IdentityError or UnavailableError if it does not."""
        if request.HasField("evidence"):
            attested = await self._attested(request.evidence)
            return await asyncio.to_thread(self.ledger.join_attested, attested, key, self.clock(), _address(peer))
        token = JoinToken.parse(request.token)
        return await asyncio.to_thread(self.ledger.join, token.digest, key, self.clock(), _address(peer))

    async def _attested(self, shown: pb.Evidence) -> Attested:
        if self.attest is None:
            raise TokenError(
                Refusal.UNTRUSTED,
                "this mesh believes no token but its own join tokens: start its control plane with --attestors",
            )
        return await self.attest(Evidence(kind=shown.kind, token=shown.token))

    async def sign(self, request: pb.SignRequest, context: calls.Context) -> pb.SignResponse:
        authority = self.authority.value
        try:
            host, workload = self.workload(context, request)
            chain = authority.sign(
                verify_request(request.csr_pem.encode()),
                application_names(workload) if request.application else workload_names(workload),
                now=self.clock(),
                lifetime=min(self.lifetimes.workload, host.lifetime or self.lifetimes.workload),
                serial=x509.random_serial_number(),
            )
            self._remember(chain, host.host, f"{request.namespace}/{request.workload}")
        except GossamerError as error:
            await refuse(context, error, event="sign-refused")
        return pb.SignResponse(certificate_chain_pem=chain.decode(), trust=self._trust())

    async def renew_host(self, request: pb.RenewHostRequest, context: calls.Context) -> pb.RenewHostResponse:
        try:
            peer, host = self._caller(context)
            new = key_fingerprint(verify_request(request.csr_pem.encode()))
            if host.attestor:
                attested = await self._attested(request.evidence)
                host = await asyncio.to_thread(self.ledger.renew_attested, host, attested, new, self.clock())
            record = renewed(host, current=peer.key, new=new, now=self.clock())
            await asyncio.to_thread(self.ledger.save_host, record)
            chain = self._sign_host(record, request.csr_pem)
        except GossamerError as error:
            await refuse(context, error, event="renewal-refused")
        return pb.RenewHostResponse(
            certificate_chain_pem=chain,
            trust=self._trust(),
            grants=_spelt(record),
            control_plane_version=__version__,
        )

    async def watch_trust(self, request: pb.WatchTrustRequest, context: calls.Context) -> AsyncIterator[pb.TrustBundle]:
        try:
            peer = self._caller(context)[0]
        except GossamerError as error:
            await refuse(context, error, event="watch-refused")
        with self.sessions.during(peer, self.clock()) as session:
            unsubscribe = (
                self.authority.subscribe(lambda _: session.news.set()),
                self.beside.subscribe(lambda _: session.news.set()),
            )
            try:
                while not session.ended:
                    session.news.clear()
                    yield self._trust()
                    await session.news.wait()
            finally:
                for stop in unsubscribe:
                    stop()
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, session.ended)

    async def confirm_trust(self, request: pb.ConfirmTrustRequest, context: calls.Context) -> pb.ConfirmTrustResponse:
        try:
            host = self._caller(context)[1]
        except GossamerError as error:
            await refuse(context, error, event="confirmation-refused")
        self.witness.confirm(host.host, request)
        return pb.ConfirmTrustResponse()

    def workload(
        self, context: calls.Context, request: pb.SignRequest | pb.SignTokenRequest
    ) -> tuple[HostRecord, WorkloadId]:
        """The host that connected, and the workload of it that a request is about; IdentityError if it may not speak
        for that."""
        host = self._caller(context)[1]
        workload = workload_id(
            trust_domain=self.authority.value.trust_domain,
            namespace=request.namespace,
            service_account=request.service_account,
            name=request.workload,
        )
        if problem := host.problem(request.namespace, request.service_account):
            raise _DeniedError(problem)
        if refusal := self.revocations.value.refuses_workload(request.namespace, request.workload):
            raise _DeniedError(refusal)
        owner = self.owner(request.namespace, request.workload)
        if owner not in (None, host.host):
            raise _DeniedError(f"{request.namespace}/{request.workload} runs on host {owner}; choose another name")
        return host, workload

    def known_host(self, context: calls.Context) -> HostRecord:
        """The host that connected and its grants; IdentityError unless it has joined and is not revoked."""
        return self._caller(context)[1]

    def session(self, context: calls.Context) -> AbstractContextManager[Session]:
        """What ends a call of the host that connected; IdentityError as above."""
        return self.sessions.during(self._caller(context)[0], self.clock())

    def _caller(self, context: calls.Context) -> tuple[HostPeer, HostRecord]:
        try:
            peer = host_of(context, self.authority.value.trust_domain)
        except IdentityError as error:
            raise _DeniedError(str(error)) from error
        if peer.not_after <= self.clock():
            raise _DeniedError(f"the certificate of host {peer.host.host} has ended; let it join with a new token")
        if refusal := self.revocations.value.refuses(peer.host, peer.serial):
            raise _DeniedError(f"{refusal}; let the host join with a new token")
        record = self.ledger.host(peer.host.host)
        if record is None or record.revoked or peer.key not in record.keys:
            why = "was revoked" if record and record.revoked else "joined anew elsewhere" if record else "is not known"
            raise _DeniedError(f"host {peer.host.host} {why}; let it join with a new token")
        return peer, record

    def _trust(self) -> pb.TrustBundle:
        return trust_bundle(self.authority.value, self.beside.value)

    def _sign_host(self, host: HostRecord, csr_pem: str) -> str:
        authority = self.authority.value
        chain = authority.sign(
            verify_request(csr_pem.encode()),
            host_names(HostId(trust_domain=authority.trust_domain, host=host.host)),
            now=self.clock(),
            lifetime=host.lifetime or self.lifetimes.host,
            serial=x509.random_serial_number(),
        )
        self._remember(chain, host.host)
        return chain.decode()

    def _remember(self, chain: bytes, host: str, workload: str = "") -> None:
        if self.issued is not None:
            signer = self.authority.value.signer_key_id
            self.issued.add(chain, workload=workload, host=host, signer=signer, now=self.clock())


def _spelt(host: HostRecord) -> list[str]:
    return [str(grant) for grant in host.grants]


def _shown(request: pb.JoinRequest) -> dict[str, str]:
    """What a host showed, by a name that tells nothing of it: as `gossamer ca tokens` calls it."""
    if request.HasField("evidence"):
        return {"evidence": request.evidence.kind[:20]}
    try:
        return {"token": JoinToken.parse(request.token).digest[:TOKEN_ID]}
    except TokenError:
        return {}


def _address(peer: str) -> str:
    """The address in gRPC's name of a peer (`ipv4:127.0.0.1:5`, `ipv6:%5B::1%5D:5`)."""
    return unquote(peer).partition(":")[2].rpartition(":")[0].strip("[]")


async def refuse(context: calls.Context, error: GossamerError, *, event: str, **known: str) -> NoReturn:
    """End a call with what stands in its way, and log it."""
    if isinstance(error, TokenError):
        known |= {"refusal": error.reason.value}
    _LOG.warning(event, extra={"reason": str(error), "peer": context.peer()} | known)
    if isinstance(error, TokenError):
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(error), ((REASON, error.reason.value),))
    if isinstance(error, _DeniedError):
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
    if isinstance(error, IdentityError):
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
    if isinstance(error, UnavailableError):
        await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
    await context.abort(grpc.StatusCode.INTERNAL, str(error))
    raise AssertionError  # abort always raises
