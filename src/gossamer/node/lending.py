"""What this host lends to its applications, beside what their sidecars have: X.509-SVIDs and JWT-SVIDs of their own.

Invariant: an application's key is never its sidecar's, is made when it is first asked for, and is kept in memory alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from gossamer.ca.spiffe import WorkloadId
from gossamer.core.errors import IdentityError, UnavailableError
from gossamer.core.latest import Latest
from gossamer.node.identity import ApplicationIdentity, Trust, with_roots
from gossamer.node.identity_client import CertificateClient

_LOG = logging.getLogger(__name__)
_KEYS_S: Final = 5.0
"""How long somebody who asks waits for the first keys."""
_AGAIN_S: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What the lender has of its host: a connection, how an identity is kept fresh, what owns its tasks, and who is
    told of what the mesh trusts."""

    client: Callable[[], CertificateClient]
    keep_fresh: Callable[[Latest[Any], Callable[[], Awaitable[Any]]], Coroutine[Any, Any, None]]
    start: Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]]
    take_trust: Callable[[Trust], Awaitable[None]]


@dataclass(slots=True, kw_only=True)
class _Lent:
    latest: Latest[ApplicationIdentity]
    task: asyncio.Task[None]


@dataclass(slots=True, kw_only=True, eq=False)
class Lender:
    """Lends to all applications of a host."""

    means: Means
    _lent: dict[WorkloadId, _Lent] = field(default_factory=dict)
    _keys: Latest[str] = field(default_factory=lambda: Latest(""))
    _following: asyncio.Task[None] | None = None
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def lend(self, workload: WorkloadId) -> Latest[ApplicationIdentity]:
        """An identity for a workload's application, kept fresh from now on. IdentityError if the control plane refuses,
        UnavailableError if it is away."""
        async with self._lock:
            held = self._lent.get(workload)
            if held is None:
                latest = Latest(await self._sign(workload))
                task = self.means.start(
                    self.means.keep_fresh(latest, lambda: self._sign(workload)), f"renew application {workload.name}"
                )
                held = self._lent[workload] = _Lent(latest=latest, task=task)
            return held.latest

    async def sign_token(self, workload: WorkloadId, audience: Sequence[str]) -> str:
        """A JWT-SVID. Raises as `lend` does."""
        return await self.means.client().sign_token(workload, audience)

    async def token_keys(self) -> Latest[str]:
        """What verifies the mesh's JWT-SVIDs (a JSON Web Key Set), followed from now on. UnavailableError if the
        control plane has not said it and does not soon."""
        if self._following is None:
            self._following = self.means.start(self._follow_keys(), "follow token keys")
        known = asyncio.Event()
        unsubscribe = self._keys.subscribe(lambda _: known.set())
        try:
            async with asyncio.timeout(_KEYS_S):
                while not self._keys.value:
                    await known.wait()
        except TimeoutError as error:
            raise UnavailableError("the control plane has not said yet what verifies JWT-SVIDs") from error
        finally:
            unsubscribe()
        return self._keys

    def take_back(self, workload: WorkloadId) -> None:
        """Renew nothing more for a workload's application."""
        held = self._lent.pop(workload, None)
        if held is not None:
            held.task.cancel()

    def take_roots(self, roots_pem: bytes) -> None:
        """Give everyone the roots that the mesh trusts now."""
        for held in self._lent.values():
            held.latest.publish(with_roots(held.latest.value, roots_pem))

    async def _sign(self, workload: WorkloadId) -> ApplicationIdentity:
        identity, trust = await self.means.client().sign_application(workload)
        await self.means.take_trust(trust)
        return identity

    async def _follow_keys(self) -> None:
        while True:
            try:
                async with contextlib.aclosing(self.means.client().watch_token_keys()) as told:
                    async for keys in told:
                        self._keys.publish(keys)
            except (UnavailableError, IdentityError) as error:
                _LOG.info("token-keys-not-followed", extra={"reason": str(error)})
            await asyncio.sleep(_AGAIN_S)
