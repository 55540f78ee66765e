"""JWT-SVIDs on the wire: signed for the workloads of a host that asks, and the keys that verify them (grpc.aio).

Nothing is signed but what the caller might have a certificate for.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

import grpc

from gossamer.ca.service import Entitled, refuse
from gossamer.ca.token_keys import LIFETIME, Keys, following, key_set, load_keys, save_keys, sign_token
from gossamer.core.errors import GossamerError, IdentityError
from gossamer.core.latest import Latest
from gossamer.rpc import calls
from gossamer.rpc import gossamer_pb2 as pb

TURN_S: Final = 600.0
"""How often, at least, it is looked whether a key is to follow another."""
_MOST: Final = 16
_LONGEST: Final = 2048


@dataclass(slots=True, kw_only=True)
class TokenService:
    """Serves one trust domain. `entitled` says which workload of a caller's it is that asks."""

    trust_domain: str
    path: Path
    """The file of its keys."""
    clock: Callable[[], datetime]
    entitled: Entitled
    _keys: Latest[Keys] = field(default_factory=lambda: Latest(()))
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def handler(self) -> grpc.GenericRpcHandler:
        """For port 15012, behind `ServerIdentity.mutual_tls`."""
        return calls.service(
            "Tokens",
            {
                calls.SIGN_TOKEN: calls.SIGN_TOKEN.serve(self.sign_token),
                calls.WATCH_TOKEN_KEYS: calls.WATCH_TOKEN_KEYS.serve(self.watch_keys),
            },
        )

    async def sign_token(self, request: pb.SignTokenRequest, context: calls.Context) -> pb.SignTokenResponse:
        try:
            host, workload = self.entitled.workload(context, request)
            keys, now = await self._turned(), self.clock()
            lifetime = min(LIFETIME, host.lifetime or LIFETIME)
            token = sign_token(keys, workload.spiffe_id, _checked(request.audience), now, lifetime)
        except GossamerError as error:
            await refuse(context, error, event="token-refused")
        return pb.SignTokenResponse(token=token)

    async def watch_keys(
        self, request: pb.WatchTokenKeysRequest, context: calls.Context
    ) -> AsyncIterator[pb.TokenKeys]:
        try:
            self.entitled.known_host(context)
            told = await self._turned()
        except GossamerError as error:
            await refuse(context, error, event="watch-refused")
        changed = asyncio.Event()
        unsubscribe = self._keys.subscribe(lambda _: changed.set())
        try:
            yield self._message(told)
            while True:
                changed.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TURN_S):
                        await changed.wait()
                now = await self._turned()
                if now != told:
                    told = now
                    yield self._message(told)
        finally:
            unsubscribe()

    async def _turned(self) -> Keys:
        """The keys as they are now. StateError if they cannot be kept: none signs then that may be lost."""
        async with self._lock:
            held = self._keys.value or await asyncio.to_thread(load_keys, self.path)
            keys = following(held, self.clock())
            if keys != held:
                await asyncio.to_thread(save_keys, self.path, keys)
            self._keys.publish(keys)
            return keys

    def _message(self, keys: Keys) -> pb.TokenKeys:
        return pb.TokenKeys(trust_domain=self.trust_domain, keys=key_set(keys))


def _checked(audience: Sequence[str]) -> tuple[str, ...]:
    if not audience or len(audience) > _MOST or not all(0 < len(one) <= _LONGEST for one in audience):
        raise IdentityError(f"a token is for 1 to {_MOST} audiences of at most {_LONGEST} characters each")
    return tuple(dict.fromkeys(audience))
