"""What a control plane answers on its two ports: xDS, certificates and the registry by mutual TLS, and joining."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import grpc.aio

from gossamer.ca.attestation import Attest
from gossamer.ca.peer import refusal_of
from gossamer.ca.revocation import Revocations
from gossamer.ca.service import IdentityService
from gossamer.ca.serving import ServerIdentity
from gossamer.ca.token_service import TokenService
from gossamer.core.address import split_address
from gossamer.core.errors import IdentityError, UsageError
from gossamer.plane.registry_service import Authenticate, Granted, RegistryService
from gossamer.plane.revoking import PASSES, send_away
from gossamer.plane.settings import Bound, clock, lifetimes_of, names_of
from gossamer.rpc.calls import Context
from gossamer.xds.service import SERVER_OPTIONS

if TYPE_CHECKING:
    from gossamer.plane.control_plane import ControlPlane


@asynccontextmanager
async def open_ports(plane: ControlPlane) -> AsyncIterator[Bound]:
    """Listen on both ports while the context lasts. UsageError where that cannot be."""
    identity = IdentityService(
        authority=plane.authority,
        ledger=plane.ledger,
        clock=clock,
        lifetimes=lifetimes_of(plane.settings),
        attest=_attest(plane.settings.attestors),
        owner=lambda namespace, name: plane.registry.owner(namespace, name, time.monotonic()),
        beside=plane.rotating.beside,
        witness=plane.witness,
        revocations=plane.revoking.latest,
        issued=plane.revoking.issued,
    )
    registry = RegistryService(
        plane.registry,
        _authenticator(identity),
        plane.changed.set,
        lambda: plane.pipeline.services,
        plane.pipeline.start,
    )
    registry.web_services = lambda: plane.pipeline.web_services
    registry.session = identity.session
    registry.revoked = plane.revoking.refuses_workload
    plane.revoking.latest.subscribe(lambda revocations: _send_away(plane, revocations, identity, registry))
    registry.groups = lambda: plane.pipeline.groups
    registry.seen = plane.seen
    registry.ejections, registry.watches = plane.reports.ejections, lambda: plane.pipeline.watches
    names, addresses = names_of(plane.settings)
    tls = ServerIdentity(plane.authority, clock, lifetimes=identity.lifetimes, dns=names, addresses=addresses)
    main, join = grpc.aio.server(options=SERVER_OPTIONS), grpc.aio.server(options=SERVER_OPTIONS)
    tokens = TokenService(
        trust_domain=plane.settings.trust_domain,
        path=plane.settings.state / "tokens" / "keys.json",
        clock=clock,
        entitled=identity,
    )
    handlers = (plane.xds.handler(), identity.certificates_handler(), tokens.handler(), registry.handler())
    main.add_generic_rpc_handlers(handlers)
    join.add_generic_rpc_handlers((identity.join_handler(),))
    bound = Bound(
        xds=_listen(main, plane.settings.listen, tls.mutual_tls()),
        join=_listen(join, plane.settings.join_listen, tls.join_tls()),
    )
    await main.start()
    await join.start()
    try:
        yield bound
    finally:
        await asyncio.gather(main.stop(0.2), join.stop(0.2))


def _send_away(
    plane: ControlPlane, revocations: Revocations, identity: IdentityService, registry: RegistryService
) -> None:
    """Let nobody stay who was revoked; whom proxies let in before goes when their lists have arrived."""
    plane.rotating.publish()
    asyncio.get_running_loop().call_later(PASSES.total_seconds() + 0.1, plane.changed.set)
    gone = {record.host for record in plane.ledger.hosts() if record.revoked}
    send_away(revocations, gone, identity.sessions, registry)
    plane.xds.end(lambda peer: refusal_of(peer.certificate, plane.settings.trust_domain, revocations))


def _attest(file: Path | None) -> Attest | None:
    if file is None:
        return None
    from gossamer.plane.attestors import open_attestors  # noqa: PLC0415 - most meshes have none

    return open_attestors(file)


def _authenticator(identity: IdentityService) -> Authenticate:
    def authenticate(context: Context) -> tuple[str, Granted] | None:
        try:
            host = identity.known_host(context)
        except IdentityError:
            return None
        return host.host, host.problem

    return authenticate


def _listen(server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials) -> str:
    host, _ = split_address(address)
    try:
        bound = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise UsageError(f"cannot listen on {address}: is another control plane running there?") from error
    return f"{host}:{bound}"
