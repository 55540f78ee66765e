"""Calls that stay open: each ends with its caller's certificate, or when its caller is sent away.

Invariant: whoever may not call any more has no call left from before.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TypeVar

from gossamer.ca.peer import HostPeer

T = TypeVar("T")
_LONGEST_S = 24 * 3600.0


class Session:
    """One open call. `ended` says why it is over; empty as long as it is not."""

    def __init__(self) -> None:
        self.ended = ""
        self.news = asyncio.Event()
        """Set when it ended; whoever waits for something else may set it, too."""

    def end(self, why: str) -> None:
        self.ended = self.ended or why
        self.news.set()

    async def requests(self, requests: AsyncIterable[T]) -> AsyncIterator[T]:
        """The requests of the call until it ends, one way or the other."""
        iterator = aiter(requests)
        ending = asyncio.create_task(self._until_ended())
        try:
            while not self.ended:
                reading = asyncio.ensure_future(anext(iterator))
                await asyncio.wait([reading, ending], return_when=asyncio.FIRST_COMPLETED)
                if not reading.done():
                    reading.cancel()
                    await asyncio.gather(reading, return_exceptions=True)
                    return
                try:
                    yield reading.result()
                except StopAsyncIteration:
                    return
        finally:
            ending.cancel()

    async def _until_ended(self) -> None:
        while not self.ended:
            self.news.clear()
            await self.news.wait()


class Sessions:
    """The open calls of hosts."""

    def __init__(self) -> None:
        self._open: dict[Session, HostPeer] = {}

    @contextmanager
    def during(self, peer: HostPeer, now: datetime) -> Iterator[Session]:
        """A session for as long as the context lasts."""
        session = Session()
        self._open[session] = peer
        lasts = min(max((peer.not_after - now).total_seconds(), 0.0), _LONGEST_S)
        ended = "the certificate has ended: connect with a new one"
        timer = asyncio.get_running_loop().call_later(lasts, session.end, ended)
        try:
            yield session
        finally:
            timer.cancel()
            del self._open[session]

    def end(self, which: Callable[[HostPeer], str]) -> None:
        """End the calls of all peers for whom this gives a reason."""
        for session, peer in tuple(self._open.items()):
            if why := which(peer):
                session.end(why)
