"""A bound on bytes that are being written, so that a storm of connections does not become a storm of copies.

gRPC copies what it is given and holds it until the peer takes it. The invariant: large writes under way never exceed
the budget, except for those whose peer is so slow that it would hold up the others.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Budget:
    """`size` bytes, lent in the order of asking. Writes below `free` bytes need not ask."""

    def __init__(self, size: int = 48 * 1024 * 1024, *, free: int = 32 * 1024, patience_s: float = 2.0) -> None:
        self._left = self._size = size
        self._free = free
        self._patience_s = patience_s
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def lend(self, amount: int) -> AsyncIterator[None]:
        """Hold `amount` bytes of the budget inside the block, or until patience ends."""
        if amount < self._free:
            yield
            return
        amount = min(amount, self._size)
        await self._take(amount)
        given_back = False

        def give_back() -> None:
            nonlocal given_back
            if not given_back:
                given_back = True
                self._left += amount
                self._wake()

        timer = asyncio.get_running_loop().call_later(self._patience_s, give_back)
        try:
            yield
        finally:
            timer.cancel()
            give_back()

    async def _take(self, amount: int) -> None:
        if not self._waiting and amount <= self._left:
            self._left -= amount
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((amount, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._left += amount
            self._wake()
            raise

    def _wake(self) -> None:
        while self._waiting:
            amount, turn = self._waiting[0]
            if turn.done():
                self._waiting.popleft()
            elif amount <= self._left:
                self._waiting.popleft()
                self._left -= amount
                turn.set_result(None)
            else:
                return
