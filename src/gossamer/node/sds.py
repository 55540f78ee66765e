"""Secrets for one Envoy, over a UNIX socket of its own: Envoy's secret discovery service, incremental and whole-state.

Each socket has its own set, so a workload's Envoy can ask for no other's key. A name that is not in the set is not
answered until it is: Envoy's listener waits, and fails closed when it waits no more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar, cast

import grpc
import grpc.aio
from envoy.config.core.v3.base_pb2 import DataSource
from envoy.extensions.transport_sockets.tls.v3.common_pb2 import TlsCertificate
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from envoy.service.discovery.v3 import discovery_pb2 as discovery
from google.protobuf.any_pb2 import Any as AnyMessage

from gossamer.core.errors import IdentityError
from gossamer.core.frozen import FrozenMap
from gossamer.core.latest import Latest
from gossamer.core.resources import SECRET, Resource, version_of
from gossamer.node.file_secrets import is_file_secret, load_file_secret
from gossamer.node.identity import KeyedCertificate, Trust
from gossamer.node.trust import trust_context
from gossamer.node.unix_server import serve_private
from gossamer.rpc.calls import Context

WORKLOAD: Final = "default"
"""The workload's key and certificate chain; the name is Istio's."""
TRUST: Final = "ROOTCA"
"""The roots to verify others by; the name is Istio's."""

_SERVICE: Final = "envoy.service.secret.v3.SecretDiscoveryService"
_LOG = logging.getLogger(__name__)
_Set = FrozenMap[str, Resource]


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """What a set offers of the identity: the versions of its two secrets, and what they stand for."""

    versions: FrozenMap[str, str]
    trust: str
    signer_key_id: str


def identity_secrets(
    identity: KeyedCertificate, trust: Trust | None = None, named: Iterable[Resource] = ()
) -> tuple[Resource, Resource]:
    """The two secrets that an identity is to Envoy: `default` and `ROOTCA`, with what is `named` beside its roots.

    `trust`, where the control plane has said it, goes before the roots that the identity came with.
    """
    certificate = TlsCertificate(
        certificate_chain=DataSource(inline_bytes=identity.chain_pem),
        private_key=DataSource(inline_bytes=identity.key_pem),
    )
    own = trust.verify_pem or trust.roots_pem if trust is not None and trust.version else identity.roots_pem
    return (
        _resource(Secret(name=WORKLOAD, tls_certificate=certificate)),
        _resource(Secret(name=TRUST, validation_context=trust_context(own, named))),
    )


def _resource(secret: Secret) -> Resource:
    content = secret.SerializeToString(deterministic=True)
    body = AnyMessage(type_url=SECRET, value=content).SerializeToString(deterministic=True)
    return Resource(type_url=SECRET, name=secret.name, version=version_of(body), body=body, references=frozenset())


class SecretSet:
    """The secrets of one socket: an identity's two, and those that the control plane names (gateways' credentials).
    `lent` are the folders of this host whose keys its workload may use."""

    def __init__(self, lent: Iterable[Path] = ()) -> None:
        self._lent = tuple(lent)
        self.latest: Latest[_Set] = Latest(FrozenMap())
        self.renamed = Latest("")
        """The version of the trust that is offered."""
        self._identity: KeyedCertificate | None = None
        self._trust: Trust | None = None
        self._own: tuple[Resource, ...] = ()
        self._named: tuple[Resource, ...] = ()
        self._files: dict[str, Resource] = {}

    def want(self, names: Iterable[str]) -> None:
        """Somebody asks for these: those that are files of this host are read, at first and when they changed."""
        before = dict(self._files)
        for name in names:
            if not is_file_secret(name):
                continue
            try:
                self._files[name] = _resource(load_file_secret(name, self._lent))
            except IdentityError as error:
                _LOG.warning("secret-not-read", extra={"secret": name, "reason": str(error)})
        if self._files != before:
            self._publish()

    def refresh_files(self) -> None:
        """Look at the files again."""
        self.want(tuple(self._files))

    def set_identity(self, identity: KeyedCertificate) -> None:
        """Offer this identity as `default` and `ROOTCA`; a renewed one replaces it."""
        self._identity = identity
        self._own = identity_secrets(identity, self._trust, self._named)
        self._publish()

    def set_trust(self, trust: Trust) -> None:
        """Offer as `ROOTCA` what the mesh trusts, as the control plane says it."""
        self._trust = trust
        if self._identity is not None:
            self.set_identity(self._identity)
        self.renamed.publish(trust.version)  # the same trust under another name is news, too

    @property
    def offered(self) -> Offered:
        """What is offered of the identity now."""
        return Offered(
            versions=FrozenMap({secret.name: secret.version for secret in self._own}),
            trust=self._trust.version if self._trust is not None else "",
            signer_key_id=self._identity.signer_key_id if self._identity is not None else "",
        )

    def set_named(self, secrets: Iterable[Resource]) -> None:
        """Offer these beside the identity, and no other; they travel unread, as the control plane serialised them."""
        self._named = tuple(secrets)
        if self._identity is not None:
            self._own = identity_secrets(self._identity, self._trust, self._named)
        self._publish()

    def _publish(self) -> None:
        # The identity comes last: whatever the control plane names, it cannot replace what this host made.
        self.latest.publish(
            FrozenMap({secret.name: secret for secret in (*self._named, *self._files.values(), *self._own)})
        )


class _Delta:
    """One incremental stream, without I/O. Nothing is ever removed: Envoy ignores the removal of a secret."""

    def __init__(self) -> None:
        self._subscribed: set[str] = set()
        self._sent: dict[str, str] = {}
        self._nonce = 0

    def receive(self, request: discovery.DeltaDiscoveryRequest) -> None:
        self._sent.update(request.initial_resource_versions)
        for name in request.resource_names_subscribe:
            self._subscribed.add(name)
            if name not in request.initial_resource_versions:
                self._sent.pop(name, None)  # subscribing again asks for it again
        for name in request.resource_names_unsubscribe:
            self._subscribed.discard(name)
            self._sent.pop(name, None)

    def offer(self, secrets: _Set) -> discovery.DeltaDiscoveryResponse | None:
        """What the client lacks, or None."""
        changed = [
            secrets[name]
            for name in sorted(self._subscribed)
            if name in secrets and self._sent.get(name) != secrets[name].version
        ]
        if not changed:
            return None
        self._sent.update((secret.name, secret.version) for secret in changed)
        self._nonce += 1
        return discovery.DeltaDiscoveryResponse(
            type_url=SECRET,
            nonce=str(self._nonce),
            resources=[
                discovery.Resource(
                    name=secret.name, version=secret.version, resource=AnyMessage.FromString(secret.body)
                )
                for secret in changed
            ],
        )


class _Whole:
    """One whole-state stream, without I/O."""

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._sent = ""
        self._nonce = 0

    def receive(self, request: discovery.DiscoveryRequest) -> None:
        if request.response_nonce not in ("", str(self._nonce)):
            return  # an answer to what has been overtaken
        names = tuple(sorted(request.resource_names))
        if names != self._names:
            self._names = names
            self._sent = ""

    def offer(self, secrets: _Set) -> discovery.DiscoveryResponse | None:
        """What the client asked for, if it changed and anything of it is there; else None."""
        found = [secrets[name] for name in self._names if name in secrets]
        # Envoy shows it as the version of what it has: alone, a secret has its own
        several = version_of("\n".join(f"{secret.name}\t{secret.version}" for secret in found).encode())
        version = found[0].version if len(found) == 1 else several
        if not found or version == self._sent:
            return None
        self._sent = version
        self._nonce += 1
        return discovery.DiscoveryResponse(
            type_url=SECRET,
            version_info=version,
            nonce=str(self._nonce),
            resources=[AnyMessage.FromString(secret.body) for secret in found],
        )


Q = TypeVar("Q", discovery.DeltaDiscoveryRequest, discovery.DiscoveryRequest)
Q_contra = TypeVar("Q_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)


class _Stream(Protocol[Q_contra, R_co]):
    def receive(self, request: Q_contra) -> None: ...
    def offer(self, secrets: _Set) -> R_co | None: ...


class _Wake(Enum):
    CHANGED = 1
    ENDED = 2


async def _exchange(
    stream: _Stream[Q, R_co], requests: AsyncIterable[Q], secrets: SecretSet
) -> AsyncGenerator[R_co, None]:
    """What one client is sent, until it ends the stream."""
    inbox: asyncio.Queue[Q | _Wake] = asyncio.Queue()

    async def read() -> None:
        try:
            async for request in requests:
                inbox.put_nowait(request)
        finally:
            inbox.put_nowait(_Wake.ENDED)

    unsubscribe = secrets.latest.subscribe(lambda _: inbox.put_nowait(_Wake.CHANGED))
    reader = asyncio.create_task(read())
    try:
        while (item := await inbox.get()) is not _Wake.ENDED:
            if not isinstance(item, _Wake):
                if item.HasField("error_detail"):
                    _LOG.warning("secret-refused", extra={"reason": item.error_detail.message})
                stream.receive(item)
                secrets.want(_asked(item))
            response = stream.offer(secrets.latest.value)
            if response is not None:
                yield response
    finally:
        unsubscribe()
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)


def _asked(request: discovery.DeltaDiscoveryRequest | discovery.DiscoveryRequest) -> Iterable[str]:
    if isinstance(request, discovery.DeltaDiscoveryRequest):
        return tuple(request.resource_names_subscribe)
    return tuple(request.resource_names)


def secrets_handler(secrets: SecretSet) -> grpc.GenericRpcHandler:
    """Envoy's secret discovery service over this set, for a server on the sidecar's own UNIX socket."""

    async def delta(
        requests: AsyncIterable[discovery.DeltaDiscoveryRequest], _: Context
    ) -> AsyncIterator[discovery.DeltaDiscoveryResponse]:
        async with aclosing(_exchange(_Delta(), requests, secrets)) as responses:
            async for response in responses:
                yield response

    async def whole(
        requests: AsyncIterable[discovery.DiscoveryRequest], _: Context
    ) -> AsyncIterator[discovery.DiscoveryResponse]:
        async with aclosing(_exchange(_Whole(), requests, secrets)) as responses:
            async for response in responses:
                yield response

    async def fetch(request: discovery.DiscoveryRequest, _: Context) -> discovery.DiscoveryResponse:
        once = _Whole()
        once.receive(request)
        secrets.want(_asked(request))
        return once.offer(secrets.latest.value) or discovery.DiscoveryResponse(type_url=SECRET)

    return grpc.method_handlers_generic_handler(
        _SERVICE,
        {
            "DeltaSecrets": grpc.stream_stream_rpc_method_handler(
                cast(Any, delta),
                discovery.DeltaDiscoveryRequest.FromString,
                discovery.DeltaDiscoveryResponse.SerializeToString,
            ),
            "StreamSecrets": grpc.stream_stream_rpc_method_handler(
                cast(Any, whole), discovery.DiscoveryRequest.FromString, discovery.DiscoveryResponse.SerializeToString
            ),
            "FetchSecrets": grpc.unary_unary_rpc_method_handler(
                cast(Any, fetch), discovery.DiscoveryRequest.FromString, discovery.DiscoveryResponse.SerializeToString
            ),
        },
    )


@asynccontextmanager
async def serve_secrets(path: Path, secrets: SecretSet) -> AsyncIterator[None]:
    """The set's secrets on a UNIX socket of their own, for one Envoy."""
    async with serve_private(path, [secrets_handler(secrets)]):
        yield
