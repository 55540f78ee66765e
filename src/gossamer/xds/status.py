"""What each connected proxy has been sent, has accepted and has refused: the truth behind `gossamer proxy list`.

Derived from a stream when somebody asks; nothing is counted along the way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from gossamer.core.resources import TYPES
from gossamer.xds.channel import Channel
from gossamer.xds.messages import Rejection
from gossamer.xds.stream import Stream


class SyncState(StrEnum):
    SYNCED = "SYNCED"
    """The client has accepted everything."""
    STALE = "STALE"
    """Something is on its way, or waits for its turn."""
    REJECTED = "REJECTED"
    """The client refused something and keeps what it had; everything else has reached it."""
    NOT_SENT = "NOT SENT"
    """The client has not asked for this type, or there is nothing to offer yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeStatus:
    """One type at one client. `open_s` is the age in seconds of the oldest thing that it has not answered."""

    type_url: str
    state: SyncState
    resources: int = 0
    waiting: int = 0
    in_flight: int = 0
    open_s: float = 0.0
    rejections: tuple[Rejection, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyStatus:
    """One connected client; `name` is who it is by its certificate, `node` what it calls itself."""

    name: str
    node: str = ""
    version: str = ""
    address: str = ""
    connected_s: float = 0.0
    types: tuple[TypeStatus, ...] = ()

    @property
    def state(self) -> SyncState:
        """The worst of its types, of those that it asked for."""
        states = {status.state for status in self.types if status.state is not SyncState.NOT_SENT}
        for state in (SyncState.REJECTED, SyncState.STALE, SyncState.SYNCED):
            if state in states:
                return state
        return SyncState.NOT_SENT


def view_types(stream: Stream, now: float) -> tuple[TypeStatus, ...]:
    """Status of every type, in the order in which additions travel, others after them."""
    urls = (*TYPES, *(url for url in stream.channels if url not in TYPES))
    return tuple(_view_type(url, stream.channels.get(url), now) for url in urls)


def _view_type(type_url: str, channel: Channel | None, now: float) -> TypeStatus:
    if channel is None or not channel.adopted:
        return TypeStatus(type_url=type_url, state=SyncState.NOT_SENT)
    rejections = tuple(item for name, item in channel.rejected.items() if channel.is_quarantined(name))
    waiting = len(channel.behind) - len(rejections)
    if rejections:
        state = SyncState.REJECTED
    elif waiting or channel.flights:
        state = SyncState.STALE
    else:
        state = SyncState.SYNCED
    return TypeStatus(
        type_url=type_url,
        state=state,
        resources=sum(map(len, channel.goal or ())) if channel.wildcard else len(channel.names),
        waiting=waiting,
        in_flight=len(channel.flights),
        open_s=max((now - since for since in _open_since(channel)), default=0.0),
        rejections=rejections,
    )


def _open_since(channel: Channel) -> Iterator[float]:
    yield from (flight.sent_at for flight in channel.flights.values())
    yield from (entry.since for name, entry in channel.behind.items() if not channel.is_quarantined(name))
