"""A running control plane's identity half, on loopback, and a clock that tests can move."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc.aio

from gossamer.ca.attestation import Attest
from gossamer.ca.authority import Authority, Lifetimes
from gossamer.ca.folder import open_authority
from gossamer.ca.issue import create_token
from gossamer.ca.ledger import Ledger
from gossamer.ca.service import IdentityService
from gossamer.ca.serving import ServerIdentity
from gossamer.ca.token_service import TokenService
from gossamer.core.latest import Latest

TRUST_DOMAIN = "cluster.local"


@dataclass
class Clock:
    """Real time, and what a test adds to it."""

    ahead: timedelta = field(default_factory=timedelta)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@dataclass
class Plane:
    """What serves, and the two addresses that agents dial."""

    authority: Latest[Authority]
    service: IdentityService
    clock: Clock
    mutual: str
    join: str

    @property
    def ledger(self) -> Ledger:
        return self.service.ledger

    def token(self, host: str, *grants: str, lifetime: timedelta = timedelta(hours=1)) -> str:
        return create_token(
            self.authority.value, self.ledger, host=host, grants=grants, now=self.clock(), lifetime=lifetime
        )


@asynccontextmanager
async def serve_plane(
    folder: Path,
    *,
    lifetimes: Lifetimes | None = None,
    clock: Clock | None = None,
    port: int = 0,
    attest: Attest | None = None,
) -> AsyncIterator[Plane]:
    """The identity services of the mesh whose state is in `folder`, a new one if it is empty."""
    clock = clock or Clock()
    lifetimes = lifetimes or Lifetimes()
    authority = Latest(open_authority(folder / "ca", TRUST_DOMAIN, clock()))
    service = IdentityService(
        authority=authority, ledger=Ledger(folder), clock=clock, lifetimes=lifetimes, attest=attest
    )
    server_identity = ServerIdentity(authority, clock, lifetimes=lifetimes)
    server = grpc.aio.server()
    tokens = TokenService(trust_domain=TRUST_DOMAIN, path=folder / "keys.json", clock=clock, entitled=service)
    server.add_generic_rpc_handlers([service.certificates_handler(), tokens.handler()])
    mutual = server.add_secure_port(f"127.0.0.1:{port}", server_identity.mutual_tls())
    joining = grpc.aio.server()
    joining.add_generic_rpc_handlers([service.join_handler()])
    join = joining.add_secure_port("127.0.0.1:0", server_identity.join_tls())
    await server.start()
    await joining.start()
    try:
        yield Plane(authority, service, clock, f"127.0.0.1:{mutual}", f"127.0.0.1:{join}")
    finally:
        await server.stop(0)
        await joining.stop(0)
