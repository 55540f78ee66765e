"""The agent's side of joining and of asking for certificates (grpc.aio).

A host that joins trusts nobody yet: it looks at the chain that the control plane presents, takes from it the root whose
fingerprint its token carries, and only then, verifying against that root, gives the token away.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Awaitable, Sequence
from typing import Any, Final, TypeVar

import grpc
import grpc.aio
from cryptography import x509

from gossamer import __version__
from gossamer.ca.certificates import build_request, chain_pem, fingerprint, key_pem, load_chain, load_key, new_key
from gossamer.ca.spiffe import CONTROL_PLANE, WorkloadId
from gossamer.ca.tokens import REASON, JoinToken, Refusal, TokenError
from gossamer.core.errors import IdentityError, UnavailableError
from gossamer.core.latest import Latest
from gossamer.node.evidence import Attestation
from gossamer.node.identity import (
    ApplicationIdentity,
    HostIdentity,
    HostTerms,
    KeyedCertificate,
    Trust,
    WorkloadIdentity,
    application_identity,
    host_identity,
    workload_identity,
)
from gossamer.node.identity_files import IdentityFiles
from gossamer.rpc import calls
from gossamer.rpc import gossamer_pb2 as pb

T = TypeVar("T")
_PATIENCE_S: Final = 10.0
_CHANNEL: Final[list[tuple[str, Any]]] = [
    ("grpc.ssl_target_name_override", CONTROL_PLANE),
    ("grpc.use_local_subchannel_pool", 1),  # a connection of its own, with its own certificate
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5000),
]
_REFUSALS: Final = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
)


def channel_credentials(identity: KeyedCertificate) -> grpc.ChannelCredentials:
    """Mutual TLS with this identity. A channel keeps the credentials that it was made with: renewal needs a new one."""
    return grpc.ssl_channel_credentials(identity.roots_pem, identity.key_pem, identity.chain_pem)


def open_channel(
    address: str, identity: KeyedCertificate, options: list[tuple[str, Any]] | None = None
) -> grpc.aio.Channel:
    """A connection of its own to the control plane at `host:port`, verified by the control plane's fixed name."""
    return grpc.aio.secure_channel(address, channel_credentials(identity), [*_CHANNEL, *(options or [])])


class KeptChannel:
    """One channel for a host's frequent calls to the control plane at `host:port`: a handshake for each would cost more
    than they do. Invariant: it shows the identity that the host has now."""

    def __init__(self, address: str, identity: Latest[HostIdentity]) -> None:
        self._address = address
        self._identity = identity
        self._kept: tuple[HostIdentity, grpc.aio.Channel] | None = None

    async def channel(self) -> grpc.aio.Channel:
        """The channel, not to be closed by who asks for it."""
        identity = self._identity.value
        if self._kept is None or self._kept[0] is not identity:
            await self.close()
            self._kept = identity, open_channel(self._address, identity)
        return self._kept[1]

    async def close(self) -> None:
        """Close it; it opens again for who asks then."""
        kept, self._kept = self._kept, None
        if kept is not None:
            await kept[1].close()


async def join(address: str, token_text: str, files: IdentityFiles) -> HostIdentity:
    """Join the mesh at `host:port` by a token, keep what came of it and return it.

    The key is on disk before the token is used, so a join whose answer was lost can be repeated. TokenError if the
    token is refused, IdentityError if the control plane is not the token's, UnavailableError if nobody answers.
    """
    token = JoinToken.parse(token_text)
    root = await fetch_root(address, token.root_fingerprint)
    return await _join(address, root, pb.JoinRequest(token=token_text.strip()), files)


async def join_attested(address: str, attestation: Attestation, files: IdentityFiles) -> HostIdentity:
    """Join the mesh at `host:port` by evidence, keep what came of it and return it. Raises as `join` does."""
    evidence = attestation.evidence()
    pinned = attestation.root_fingerprint
    root = await fetch_root(address, pinned, "that --root pins") if pinned else attestation.roots_pem
    return await _join(address, root, pb.JoinRequest(evidence=evidence), files)


async def _join(address: str, root: bytes, request: pb.JoinRequest, files: IdentityFiles) -> HostIdentity:
    key = files.joining_key()
    if key is None:
        key = key_pem(new_key())
        await asyncio.to_thread(files.save_joining_key, key)
    request.csr_pem, request.agent_version = _request(key), __version__
    async with grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(root), _CHANNEL) as channel:
        response = await _answer(calls.JOIN.call(channel)(request, timeout=_PATIENCE_S), address)
    terms = HostTerms(trust_domain=response.trust.trust_domain, host=response.host, grants=tuple(response.grants))
    identity = host_identity(key, response.certificate_chain_pem.encode(), response.trust.roots_pem.encode(), terms)
    await asyncio.to_thread(files.save_host, identity)
    await asyncio.to_thread(files.save_joining_key, None)
    return identity


async def fetch_root(address: str, root_fingerprint: str, whose: str = "that made this join token") -> bytes:
    """The root (PEM) with this fingerprint, from the chain that `address` presents. IdentityError if it is not there.

    Nothing is trusted by this: whoever is there must still prove a certificate of that root.
    """
    presented = await _presented_chain(address)
    for der in presented:
        certificate = x509.load_der_x509_certificate(der)
        if fingerprint(certificate) == root_fingerprint:
            return chain_pem([certificate])
    raise IdentityError(
        f"the control plane at {address} is not the one {whose} (it shows another root), "
        "or this is not its port for joining: check the address, or make a new token there"
    )


async def _presented_chain(address: str) -> list[bytes]:
    """The certificates (DER) that a server shows, the leaf first, unverified."""
    host, _, port = address.rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])  # gRPC ends a connection that does not speak it
    try:
        async with asyncio.timeout(_PATIENCE_S):
            _, writer = await asyncio.open_connection(
                host.strip("[]"), int(port), ssl=context, server_hostname=CONTROL_PLANE
            )
    except (OSError, ssl.SSLError, ValueError) as error:
        raise UnavailableError(f"cannot reach the control plane at {address} to join: {error}") from error
    try:
        return _unverified_chain(writer.get_extra_info("ssl_object"))
    finally:
        writer.transport.abort()


def _unverified_chain(connection: Any) -> list[bytes]:
    """`SSLObject.get_unverified_chain` is public since Python 3.13; before, the object within has it."""
    if hasattr(connection, "get_unverified_chain"):
        return [bytes(der) for der in connection.get_unverified_chain()]
    der = ssl._ssl.ENCODING_DER  # type: ignore[attr-defined]
    return [certificate.public_bytes(der) for certificate in connection._sslobj.get_unverified_chain()]


class CertificateClient:
    """Asks for certificates as this host. Made anew when the host's identity is; `close` ends its connection."""

    def __init__(self, address: str, host: HostIdentity) -> None:
        self._address = address
        self._host = host
        self._channel = open_channel(address, host)

    async def close(self, *, finish: bool = False) -> None:
        """End the connection: at once, or with `finish` when the calls under way are done."""
        await self._channel.close(_PATIENCE_S if finish else None)

    async def sign(self, workload: WorkloadId) -> tuple[WorkloadIdentity, Trust]:
        """A certificate for a new key of a workload. IdentityError if refused, UnavailableError if nobody answers."""
        key = key_pem(new_key())
        chain, trust = await self._sign(workload, key, application=False)
        return workload_identity(key, chain, trust.roots_pem), trust

    async def sign_application(self, workload: WorkloadId) -> tuple[ApplicationIdentity, Trust]:
        """A certificate for a new key of a workload's application. Raises as `sign` does."""
        key = key_pem(new_key())
        chain, trust = await self._sign(workload, key, application=True)
        return application_identity(key, chain, trust.roots_pem, workload), trust

    async def _sign(self, workload: WorkloadId, key: bytes, *, application: bool) -> tuple[bytes, Trust]:
        request = pb.SignRequest(
            csr_pem=_request(key),
            workload=workload.name,
            namespace=workload.spiffe_id.namespace,
            service_account=workload.spiffe_id.service_account,
            application=application,
        )
        response = await _answer(calls.SIGN.call(self._channel)(request, timeout=_PATIENCE_S), self._address)
        return response.certificate_chain_pem.encode(), _trust(response.trust)

    async def sign_token(self, workload: WorkloadId, audience: Sequence[str]) -> str:
        """A JWT-SVID of a workload. Raises as `sign` does."""
        request = pb.SignTokenRequest(
            workload=workload.name,
            namespace=workload.spiffe_id.namespace,
            service_account=workload.spiffe_id.service_account,
            audience=audience,
        )
        response = await _answer(calls.SIGN_TOKEN.call(self._channel)(request, timeout=_PATIENCE_S), self._address)
        return response.token

    async def watch_token_keys(self) -> AsyncGenerator[str, None]:
        """What verifies JWT-SVIDs, now and whenever it changes. Ends with UnavailableError or IdentityError."""
        stream = calls.WATCH_TOKEN_KEYS.call(self._channel)(pb.WatchTokenKeysRequest())
        try:
            async for told in stream:
                yield told.keys
        except grpc.aio.AioRpcError as error:
            raise _failure(error, self._address) from error
        finally:
            stream.cancel()
        raise UnavailableError(f"the control plane at {self._address} ended the connection")

    async def renew_host(self, attestation: Attestation | None = None) -> tuple[HostIdentity, Trust]:
        """A new key and certificate for this host, which shows anew what vouches for it, if it joined by that.
        IdentityError if refused, UnavailableError if nobody answers."""
        key = key_pem(new_key())
        evidence = attestation.evidence() if attestation is not None else None
        request = pb.RenewHostRequest(csr_pem=_request(key), agent_version=__version__, evidence=evidence)
        response = await _answer(calls.RENEW_HOST.call(self._channel)(request, timeout=_PATIENCE_S), self._address)
        trust = _trust(response.trust)
        terms = HostTerms(trust_domain=self._host.trust_domain, host=self._host.host, grants=tuple(response.grants))
        return host_identity(key, response.certificate_chain_pem.encode(), trust.roots_pem, terms), trust

    async def watch_trust(self) -> AsyncGenerator[Trust, None]:
        """The roots to trust, now and whenever they change. Ends with UnavailableError or IdentityError."""
        stream = calls.WATCH_TRUST.call(self._channel)(pb.WatchTrustRequest())
        try:
            async for bundle in stream:
                yield _trust(bundle)
        except grpc.aio.AioRpcError as error:
            raise _failure(error, self._address) from error
        finally:
            stream.cancel()
        raise UnavailableError(f"the control plane at {self._address} ended the connection")

    async def confirm_trust(self, request: pb.ConfirmTrustRequest) -> None:
        """Say what this host and its Envoys serve. IdentityError if refused, UnavailableError if nobody answers."""
        await _answer(calls.CONFIRM_TRUST.call(self._channel)(request, timeout=_PATIENCE_S), self._address)


def _request(key: bytes) -> str:
    return build_request(load_key(key, "the new key")).decode()


def _trust(bundle: pb.TrustBundle) -> Trust:
    load_chain(bundle.roots_pem.encode(), "the roots that the control plane sent")
    return Trust(
        roots_pem=bundle.roots_pem.encode(),
        signer_key_id=bundle.signer_key_id,
        version=bundle.version,
        verify_pem=bundle.verify_pem.encode(),
    )


async def _answer(call: Awaitable[T], address: str) -> T:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise _failure(error, address) from error


def _failure(error: grpc.aio.AioRpcError, address: str) -> UnavailableError | IdentityError:
    """What a failed call means to the agent: nobody there, or an answer that is no."""
    if error.code() not in _REFUSALS:
        return UnavailableError(f"no answer from the control plane at {address}: {error.details()}")
    reason = dict(error.trailing_metadata() or ()).get(REASON)
    if reason is not None and reason in tuple(Refusal):
        return TokenError(Refusal(str(reason)), str(error.details()))
    return IdentityError(f"the control plane refuses: {error.details()}")
