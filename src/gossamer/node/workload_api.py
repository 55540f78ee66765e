"""The SPIFFE Workload API for the application of one workload: whoever reaches its socket is that workload.

Rules: the SPIFFE standards Workload API, X509-SVID and JWT-SVID. Invariant: a caller is told of one workload alone, the
one that this socket is for; what it says of itself changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final, NoReturn, cast

import grpc
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gossamer.ca.certificates import load_chain, load_key
from gossamer.ca.revocation import lists_in
from gossamer.ca.spiffe import SpiffeId, WorkloadId
from gossamer.core.errors import IdentityError, UnavailableError
from gossamer.core.latest import Latest
from gossamer.node.identity import ApplicationIdentity, KeyedCertificate, Trust
from gossamer.node.lending import Lender
from gossamer.rpc import workload_api_pb2 as api
from gossamer.rpc.calls import Context

SERVICE: Final = "SpiffeWorkloadAPI"
HEADER: Final = "workload.spiffe.io"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadApi:
    """Answers as `workload`. `identity` is its sidecar's, of which the roots alone are told; `trust` has the lists of
    what was revoked."""

    workload: WorkloadId
    lender: Lender
    identity: Latest[Any]
    trust: Latest[Trust]

    def handler(self) -> grpc.GenericRpcHandler:
        """For a server on the workload's own socket."""
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "FetchX509SVID": grpc.unary_stream_rpc_method_handler(
                    cast(Any, self.fetch_x509_svid),
                    api.X509SVIDRequest.FromString,
                    api.X509SVIDResponse.SerializeToString,
                ),
                "FetchX509Bundles": grpc.unary_stream_rpc_method_handler(
                    cast(Any, self.fetch_x509_bundles),
                    api.X509BundlesRequest.FromString,
                    api.X509BundlesResponse.SerializeToString,
                ),
                "FetchJWTSVID": grpc.unary_unary_rpc_method_handler(
                    cast(Any, self.fetch_jwt_svid),
                    api.JWTSVIDRequest.FromString,
                    api.JWTSVIDResponse.SerializeToString,
                ),
                "FetchJWTBundles": grpc.unary_stream_rpc_method_handler(
                    cast(Any, self.fetch_jwt_bundles),
                    api.JWTBundlesRequest.FromString,
                    api.JWTBundlesResponse.SerializeToString,
                ),
                "ValidateJWTSVID": grpc.unary_unary_rpc_method_handler(
                    cast(Any, self.validate_jwt_svid),
                    api.ValidateJWTSVIDRequest.FromString,
                    api.ValidateJWTSVIDResponse.SerializeToString,
                ),
            },
        )

    async def fetch_x509_svid(self, _: api.X509SVIDRequest, context: Context) -> AsyncIterator[api.X509SVIDResponse]:
        await _check_header(context)
        try:
            lent = await self.lender.lend(self.workload)
        except (IdentityError, UnavailableError) as error:
            await _refuse(context, error)
        async for identity, trust in _values(lent, self.trust):
            yield _svid_response(identity, _lists(trust))

    async def fetch_x509_bundles(
        self, _: api.X509BundlesRequest, context: Context
    ) -> AsyncIterator[api.X509BundlesResponse]:
        await _check_header(context)
        told: tuple[bytes, list[bytes]] | None = None
        async for identity, trust in _values(self.identity, self.trust):
            now = (_roots_der(identity), _lists(trust))
            if now != told:
                told = now
                yield api.X509BundlesResponse(bundles={self._trust_domain: now[0]}, crl=now[1])

    async def fetch_jwt_svid(self, request: api.JWTSVIDRequest, context: Context) -> api.JWTSVIDResponse:
        await _check_header(context)
        if not request.audience:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "audience must be specified")
        own = str(self.workload.spiffe_id)
        if request.spiffe_id not in ("", own):
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, f"this workload is {own}")
        try:
            token = await self.lender.sign_token(self.workload, request.audience)
        except (IdentityError, UnavailableError) as error:
            await _refuse(context, error)
        return api.JWTSVIDResponse(svids=[api.JWTSVID(spiffe_id=own, svid=token)])

    async def fetch_jwt_bundles(
        self, _: api.JWTBundlesRequest, context: Context
    ) -> AsyncIterator[api.JWTBundlesResponse]:
        await _check_header(context)
        try:
            known = await self.lender.token_keys()
        except UnavailableError as error:
            await _refuse(context, error)
        async for (keys,) in _values(known):
            yield api.JWTBundlesResponse(bundles={self._trust_domain: keys.encode()})

    async def validate_jwt_svid(
        self, request: api.ValidateJWTSVIDRequest, context: Context
    ) -> api.ValidateJWTSVIDResponse:
        await _check_header(context)
        if not request.audience or not request.svid:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "audience and svid must be specified")
        try:
            keys = (await self.lender.token_keys()).value
        except UnavailableError as error:
            await _refuse(context, error)
        response = api.ValidateJWTSVIDResponse()
        try:
            claims = _verified(request, keys)
            response.spiffe_id = str(self._ours(claims["sub"]))
            response.claims.update(claims)
        except (IdentityError, ValueError, TypeError) as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        return response

    @property
    def _trust_domain(self) -> str:
        return f"spiffe://{self.workload.spiffe_id.trust_domain}"

    def _ours(self, subject: str) -> SpiffeId:
        found = SpiffeId.parse(subject)
        if found.trust_domain != self.workload.spiffe_id.trust_domain:
            raise IdentityError(f"{subject} is not of this trust domain")
        return found


def _verified(request: api.ValidateJWTSVIDRequest, keys: str) -> dict[str, Any]:
    from gossamer.ca.jws import Terms, verify  # noqa: PLC0415 - few applications ask

    terms = Terms(audiences=(request.audience,), claims=("exp", "aud", "sub"), use="jwt-svid")
    return dict(verify(request.svid, terms, keys))


async def _values(*latest: Latest[Any]) -> AsyncIterator[tuple[Any, ...]]:
    """The values, and again when one has changed; those that were overtaken are left out."""
    changed = asyncio.Event()
    unsubscribe = [one.subscribe(lambda _: changed.set()) for one in latest]
    try:
        while True:
            changed.clear()
            yield tuple(one.value for one in latest)
            await changed.wait()
    finally:
        for stop in unsubscribe:
            stop()


def _lists(trust: Trust) -> list[bytes]:
    """What was revoked, in DER."""
    return [one.public_bytes(Encoding.DER) for one in lists_in(trust.verify_pem)]


def _svid_response(identity: ApplicationIdentity, lists: list[bytes]) -> api.X509SVIDResponse:
    key = load_key(identity.key_pem, "the application's key")
    svid = api.X509SVID(
        spiffe_id=identity.spiffe_id,
        x509_svid=_der(identity.chain_pem),
        x509_svid_key=key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
        bundle=_roots_der(identity),
    )
    return api.X509SVIDResponse(svids=[svid], crl=lists)


def _roots_der(identity: KeyedCertificate) -> bytes:
    return _der(identity.roots_pem)


def _der(pem: bytes) -> bytes:
    return b"".join(one.public_bytes(Encoding.DER) for one in load_chain(pem, "the certificates"))


async def _check_header(context: Context) -> None:
    """A page in a browser, which could be led to a socket, cannot set it: so the standard demands it."""
    given = [value for name, value in context.invocation_metadata() or () if name == HEADER]
    if given != ["true"]:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "security header missing from request")


async def _refuse(context: Context, error: IdentityError | UnavailableError) -> NoReturn:
    unavailable = isinstance(error, UnavailableError)
    code = grpc.StatusCode.UNAVAILABLE if unavailable else grpc.StatusCode.PERMISSION_DENIED
    await context.abort(code, str(error))
    raise AssertionError  # abort always raises
