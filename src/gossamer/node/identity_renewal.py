"""Keeps the certificates of this host and its workloads fresh, and their roots.

One task each, all owned by `Identities.serve`. Nothing here takes an identity away: one that cannot be renewed serves
until its end, from disk also after a restart of the agent while the control plane is away.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import random
from typing import Any, Final, TypeVar

from gossamer.ca.certificates import fingerprint, load_chain
from gossamer.ca.spiffe import WorkloadId
from gossamer.ca.tokens import JoinToken
from gossamer.core.errors import IdentityError, StateError, UnavailableError
from gossamer.core.latest import Latest
from gossamer.node.confirmed import Confirmed
from gossamer.node.evidence import Attestation
from gossamer.node.identity import (
    HostIdentity,
    KeyedCertificate,
    Trust,
    WorkloadIdentity,
    is_revoked,
    renewal_time,
    retry_delay,
    with_roots,
)
from gossamer.node.identity_client import CertificateClient, join, join_attested
from gossamer.node.identity_files import IdentityFiles
from gossamer.node.lending import Lender, Means

K = TypeVar("K", bound=KeyedCertificate)
_LOG = logging.getLogger(__name__)
_LONGEST_SLEEP_S: Final = 30.0
_CATCH_UP_S: Final = 10.0
"""Within how long all certificates are renewed after the authority's key changed, spread by chance."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Clock and chance (0 to 1), which tests replace."""

    clock: Callable[[], datetime] = _utc_now
    chance: Callable[[], float] = random


@dataclass(frozen=True, slots=True, kw_only=True)
class Vouching:
    """Who vouches for this host, and where (`host:port`) it joins by that."""

    attestation: Attestation
    join: str


@dataclass(slots=True, kw_only=True, eq=False)
class _Workload:
    id: WorkloadId
    latest: Latest[WorkloadIdentity]
    task: asyncio.Task[None] | None = None


class Identities:
    """The identities of one host that has joined. `serve` must run for anything to be renewed."""

    def __init__(
        self,
        address: str,
        files: IdentityFiles,
        host: HostIdentity,
        surroundings: Surroundings | None = None,
        vouching: Vouching | None = None,
    ) -> None:
        """`vouching` is for a host that joined by evidence: it shows it anew whenever its certificate is renewed."""
        self.host = Latest(host)
        self._vouching = vouching
        self._address = address
        self._files = files
        self._surroundings = surroundings or Surroundings()
        self.trust = Latest(files.load_trust() or Trust(roots_pem=host.roots_pem, signer_key_id=""))
        """What the mesh trusts; a version that is empty was never said by the control plane."""
        self.confirmed = Confirmed()
        """What our Envoys serve, for the control plane to know."""
        self._trust_since = self._surroundings.clock()
        self._woken = asyncio.Event()
        self._client: CertificateClient | None = None
        self._workloads: dict[str, _Workload] = {}
        self._group: asyncio.TaskGroup | None = None
        self.lender = Lender(
            means=Means(
                client=self._connected, keep_fresh=self._keep_fresh, start=self._own, take_trust=self._take_trust
            )
        )
        """Of what applications get beside their sidecars."""

    async def serve(self) -> None:
        """Renew, and follow the mesh's roots, until cancelled."""
        try:
            async with asyncio.TaskGroup() as self._group:
                for workload in self._workloads.values():
                    self._start(workload)
                self._group.create_task(self._keep_fresh(self.host, self._renew_host), name="renew-host")
                self._group.create_task(self._follow_trust(), name="follow-trust")
                self._group.create_task(self._confirm(), name="confirm-trust")
        finally:
            self._group = None
            if self._client is not None:
                await self._client.close()
                self._client = None

    async def add(self, workload: WorkloadId) -> Latest[WorkloadIdentity]:
        """The identity of a workload, from disk or new, kept fresh from now on; waits while the control plane is away.

        IdentityError if the control plane refuses.
        """
        held = self._workloads.get(workload.dns_name)
        if held is not None and held.id == workload:
            return held.latest
        known = await asyncio.to_thread(self._files.load_workload, workload.dns_name)
        if known is None or known.spiffe_id != str(workload.spiffe_id) or known.not_after <= self._now():
            known = await self._first(workload)
        self.remove(workload, forget=False)
        latest = Latest(with_roots(known, self.trust.value.roots_pem))
        added = self._workloads[workload.dns_name] = _Workload(id=workload, latest=latest)
        self._start(added)
        return latest

    def remove(self, workload: WorkloadId, *, forget: bool = True) -> None:
        """Renew a workload's identity no more, and with `forget` delete its key from disk."""
        held = self._workloads.pop(workload.dns_name, None)
        if held is not None and held.task is not None:
            held.task.cancel()
        self.confirmed.forget(workload)
        if forget:
            self._files.remove_workload(workload.dns_name)

    def _now(self) -> datetime:
        return self._surroundings.clock()

    def _own(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        if self._group is None:
            work.close()
            raise UnavailableError("the agent is about to end")
        return self._group.create_task(work, name=name)

    def _start(self, workload: _Workload) -> None:
        async def renew() -> WorkloadIdentity:
            return await self._sign(workload.id)

        if self._group is not None:
            name = f"renew {workload.id.dns_name}"
            workload.task = self._group.create_task(self._keep_fresh(workload.latest, renew), name=name)

    async def _first(self, workload: WorkloadId) -> WorkloadIdentity:
        tries = 0
        while True:
            try:
                return await self._sign(workload)
            except UnavailableError as error:
                tries += 1
                _LOG.warning("certificate-awaited", extra={"workload": workload.dns_name, "reason": str(error)})
                await asyncio.sleep(retry_delay(None, tries, self._surroundings.chance()))

    async def _sign(self, workload: WorkloadId) -> WorkloadIdentity:
        identity, trust = await self._connected().sign(workload)
        await asyncio.to_thread(self._files.save_workload, identity)
        await self._take_trust(trust)
        return identity

    async def _renew_host(self) -> HostIdentity:
        if self._vouching is not None and self.host.value.not_after <= self._now():
            identity = await join_attested(self._vouching.join, self._vouching.attestation, self._files)
            trust = _with_roots(self.trust.value, identity.roots_pem)
        else:
            attestation = self._vouching.attestation if self._vouching is not None else None
            identity, trust = await self._connected().renew_host(attestation)
            await asyncio.to_thread(self._files.save_host, identity)
        before, self._client = self._client, CertificateClient(self._address, identity)
        if before is not None and self._group is not None:
            self._group.create_task(before.close(finish=True), name="close-connection")
        await self._take_trust(trust)
        return identity

    def _connected(self) -> CertificateClient:
        if self._client is None:
            self._client = CertificateClient(self._address, self.host.value)
        return self._client

    async def _keep_fresh(self, latest: Latest[K], renew: Callable[[], Awaitable[K]]) -> None:
        """Renew one identity whenever it is due, for ever; ever more slowly while it stays due."""
        while True:
            chance = self._surroundings.chance()
            tries = 0
            while (wait := (self._due(latest.value, chance) - self._now()).total_seconds()) > 0:
                await self._pause(min(wait, _LONGEST_SLEEP_S))
            while self._due(latest.value, chance) <= self._now():
                if tries:
                    await asyncio.sleep(retry_delay(latest.value, tries, self._surroundings.chance()))
                tries += 1
                try:
                    latest.publish(with_roots(await renew(), self.trust.value.roots_pem))
                except (UnavailableError, IdentityError, StateError) as error:
                    ends = latest.value.not_after.isoformat()
                    _LOG.warning("certificate-not-renewed", extra={"reason": str(error), "ends": ends})

    def _due(self, identity: KeyedCertificate, chance: float) -> datetime:
        """When to renew: as its lifetime has it, or soon after the authority began to sign with another key."""
        if is_revoked(identity, self.trust.value):
            return self._trust_since  # a name that is revoked, too, is refused a new one
        if self.trust.value.signer_key_id not in ("", identity.signer_key_id):
            return self._trust_since + timedelta(seconds=_CATCH_UP_S * chance)
        return renewal_time(identity, chance)

    async def _pause(self, seconds: float) -> None:
        """Wait for so long, or until what the mesh trusts changes. Short enough to notice that the host has slept."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()

    async def _follow_trust(self) -> None:
        tries = 0
        while True:
            client = CertificateClient(self._address, self.host.value)
            try:
                async with contextlib.aclosing(client.watch_trust()) as bundles:
                    async for trust in bundles:
                        tries = 0
                        await self._take_trust(trust)
                        self.confirmed.say()  # this control plane may not have heard
            except (UnavailableError, IdentityError, StateError) as error:
                _LOG.info("trust-not-followed", extra={"reason": str(error)})
            finally:
                await client.close()
            tries += 1
            await asyncio.sleep(retry_delay(None, tries, self._surroundings.chance()))

    async def _take_trust(self, trust: Trust) -> None:
        """Give everyone the roots that the mesh trusts now, at once in memory and then on disk."""
        if trust == self.trust.value:
            return
        if trust.signer_key_id != self.trust.value.signer_key_id:
            self._trust_since = self._now()
        self.trust.publish(trust)
        self._woken.set()
        self._woken = asyncio.Event()
        if self.host.publish(with_roots(self.host.value, trust.roots_pem)):
            await asyncio.to_thread(self._files.save_host, self.host.value)
        self.lender.take_roots(trust.roots_pem)
        changed = [
            workload.latest.value
            for workload in self._workloads.values()
            if workload.latest.publish(with_roots(workload.latest.value, trust.roots_pem))
        ]
        await asyncio.to_thread(self._files.save_trust, trust)
        for identity in changed:
            await asyncio.to_thread(self._files.save_workload, identity)

    async def _confirm(self) -> None:
        """Keep the control plane told of what this host and its Envoys serve."""
        self.host.subscribe(lambda _: self.confirmed.say())
        tries = 0
        while True:
            await self.confirmed.changed.wait()
            self.confirmed.changed.clear()
            host, trust = self.host.value, self.trust.value
            try:
                await self._connected().confirm_trust(self.confirmed.request(trust.version, host.signer_key_id))
                tries = 0
            except (UnavailableError, IdentityError) as error:
                _LOG.info("trust-not-confirmed", extra={"reason": str(error)})
                tries += 1
                await asyncio.sleep(retry_delay(None, tries, self._surroundings.chance()))
                self.confirmed.say()


def _with_roots(trust: Trust, roots_pem: bytes) -> Trust:
    """The same, or what is known of other roots until the control plane says more."""
    return trust if trust.roots_pem == roots_pem else Trust(roots_pem=roots_pem, signer_key_id=trust.signer_key_id)


async def open_host(address: str, files: IdentityFiles, token: str | Attestation | None, now: datetime) -> HostIdentity:
    """This host's identity: the one on disk, else by joining at `address` (of the join port) with the token, or by what
    vouches for it.

    A host that has joined keeps what it has, whatever it is started with, unless that is of another mesh.
    IdentityError when there is neither, or what there is has ended.
    """
    known = await asyncio.to_thread(files.load_host)
    if known is not None and known.not_after > now and (token is None or _is_of_mesh(known, token)):
        return known
    if isinstance(token, Attestation):
        return await join_attested(address, token, files)
    if token is not None:
        return await join(address, token, files)
    if known is None:
        raise IdentityError("this host has not joined a mesh: make a join token on the control plane, and give it here")
    raise IdentityError(
        f"the certificate of host {known.host} ended on {known.not_after:%Y-%m-%d %H:%M} UTC: join with a new token"
    )


def _is_of_mesh(known: HostIdentity, token: str | Attestation) -> bool:
    if isinstance(token, Attestation):
        return token.is_of(known.roots_pem)
    pinned = JoinToken.parse(token).root_fingerprint
    return any(fingerprint(root) == pinned for root in load_chain(known.roots_pem, "the roots on disk"))
