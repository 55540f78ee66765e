"""Who has not been sent the newest yet: how a push knows that it has ended."""

from __future__ import annotations

import asyncio


class Unsent:
    """A set of connections with something to write, and a way to wait until it is empty."""

    def __init__(self) -> None:
        self._connections: set[object] = set()
        self._none = asyncio.Event()
        self._none.set()

    def __len__(self) -> int:
        return len(self._connections)

    def add(self, connection: object) -> None:
        self._connections.add(connection)
        self._none.clear()

    def discard(self, connection: object) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._none.set()

    async def none(self, timeout_s: float) -> int:
        """Wait until there is none, at most this many seconds; returns how many there are then."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._none.wait()
        except TimeoutError:
            pass
        return len(self)
