"""What one sidecar has, is being given, and has refused: the agent between Envoy and the control plane, without I/O.

Upstream it is a delta client, downstream it offers what that client has been told. The invariant: the control plane
hears that something was accepted only when every connected Envoy has accepted it, and what an Envoy refused never
replaces the last good copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from gossamer.core.frozen import FrozenMap
from gossamer.core.latest import Latest
from gossamer.core.resources import CLUSTER, ENDPOINT, EXTENSION, LISTENER, ROUTE, SECRET, Resource, Resources, Table
from gossamer.node.store import Stored
from gossamer.xds.channel import RETRY_S
from gossamer.xds.client import Client, Update
from gossamer.xds.messages import WILDCARD, Rejection, Request
from gossamer.xds.stream import Stream

_BY_NAME = (ENDPOINT, ROUTE, EXTENSION)
"""Types of which only what an Envoy asks for is asked for upstream."""
_Key = tuple[str, str]


class LastCopy:
    """One sidecar's. Methods return what is to be said to the control plane, if it can be reached.

    `stored` is what an earlier process kept, `share` returns one object for equal resources of a host.
    """

    def __init__(self, stored: Iterable[Stored], share: Callable[[Resource], Resource], *, secrets: bool) -> None:
        self._share = share
        self._unverified: set[_Key] = set()
        self._fallback: dict[_Key, Resource] = {}
        self._refused: dict[_Key, Rejection] = {}
        self._streams: dict[Stream, dict[str, frozenset[str]]] = {}
        self._tables: dict[str, Table] = {}
        self.client = Client(self._restore(stored))
        self.goal: Latest[Resources | None] = Latest(None)
        self.changed = False
        """Whether `rows` has changed; the one who stores it sets it back."""
        for type_url in (CLUSTER, LISTENER, *((SECRET,) if secrets else ())):
            self.client.subscribe(type_url, [WILDCARD])
        for type_url in _BY_NAME:
            self.client.subscribe(type_url, list(self.client.held(type_url)))
        for type_url in self.client.answered:
            self._rebuild(type_url)

    def _restore(self, stored: Iterable[Stored]) -> list[Resource]:
        newest: dict[_Key, Resource] = {}
        for item in stored:
            key = (item.resource.type_url, item.resource.name)
            if item.verified and key in newest:
                self._fallback[key] = item.resource
                continue
            if not item.verified:
                self._unverified.add(key)
                if key in newest:
                    self._fallback[key] = newest[key]
            newest[key] = item.resource
        return list(newest.values())

    @property
    def refused(self) -> tuple[Rejection, ...]:
        """What Envoy would not take, and why."""
        return tuple(self._refused.values())

    def rows(self) -> Iterator[Stored]:
        """What is to be stored."""
        for type_url in sorted(self.client.answered):
            for name, resource in self.client.held(type_url).items():
                yield Stored(resource, (type_url, name) not in self._unverified)
        for resource in self._fallback.values():
            yield Stored(resource, True)

    def receive(self, update: Update, now: float) -> list[Request]:
        """Take what the control plane says."""
        update = replace(update, changed=tuple(self._share(resource) for resource in update.changed))
        for resource in update.changed:
            refused = self._refused.get((resource.type_url, resource.name))
            if refused is not None and (refused.version != resource.version or _may_try_again(refused, now)):
                del self._refused[resource.type_url, resource.name]
        self.client.receive(update)
        self._rebuild(update.type_url)
        return self._settle()

    def heard(self, stream: Stream, type_url: str | None) -> list[Request]:
        """An Envoy has said something about a type, or (None) has been offered the newest goal."""
        if stream not in self._streams:
            self._streams[stream] = {}
        requests = self._take_rejections(stream)
        if type_url is not None:
            requests += self._follow_names(stream, type_url)
            requests += self._verify(type_url)
        return requests + self._settle()

    def left(self, stream: Stream) -> list[Request]:
        """An Envoy has gone. What it asked for is still followed: it may come back."""
        self._streams.pop(stream, None)
        return self._settle()

    def prune(self) -> list[Request]:
        """Drop names that no connected Envoy asks for."""
        if not self._streams:
            return []
        requests = []
        for type_url in _BY_NAME:
            asked = frozenset[str]().union(*(names.get(type_url, frozenset()) for names in self._streams.values()))
            requests += self._unsubscribe(type_url, self.client.wanted(type_url) - asked)
        return requests

    def _rebuild(self, type_url: str) -> None:
        """Offer what is held, and over it what is still to be accepted and was not refused."""
        merged = dict(self.client.held(type_url))
        for update in self.client.pending.values():
            if update.type_url == type_url:
                merged.update((item.name, item) for item in update.changed if not self._is_refused(item))
                for name in update.removed:
                    merged.pop(name, None)
        table = Table(type_url, merged.values())
        if table != self._tables.get(type_url):
            self._tables[type_url] = table
            self.goal.publish(Resources(tables=FrozenMap({url: (table,) for url, table in self._tables.items()})))

    def _is_refused(self, resource: Resource) -> bool:
        refused = self._refused.get((resource.type_url, resource.name))
        return refused is not None and refused.version == resource.version

    def _settle(self) -> list[Request]:
        """Answer updates on which every Envoy has made up its mind; without any Envoy, all."""
        goal = self.goal.value
        if any(stream.goal is not goal for stream in self._streams):
            return []
        requests: list[Request] = []
        undecided: set[str] = set()
        for nonce, update in list(self.client.pending.items()):
            if update.type_url in undecided:
                continue  # in order, or an older update would undo a newer one
            if all(self._is_refused(item) or self._is_settled(item) for item in update.changed):
                requests += self._answer(nonce, update)
            else:
                undecided.add(update.type_url)
        return requests

    def _is_settled(self, resource: Resource) -> bool:
        return all(stream.is_settled(resource.type_url, resource.name) for stream in self._streams)

    def _answer(self, nonce: str, update: Update) -> list[Request]:
        self.changed = True
        guilty = [item for item in update.changed if self._is_refused(item)]
        for item in update.changed:
            if not self._is_refused(item) and self.client.wants(item.type_url, item.name):
                self._note(item)
        for name in update.removed:
            self._forget((update.type_url, name))
        if not guilty:
            return self.client.ack(nonce)
        detail = "; ".join(f"{item.name}: {self._refused[item.type_url, item.name].message}" for item in guilty)
        names = {item.name for item in update.changed} - {item.name for item in guilty}
        return self.client.nack(nonce, detail, accepted=names.union(update.removed))

    def _note(self, resource: Resource) -> None:
        """About to be held: an Envoy has accepted it, or nobody has seen it and the good one before it is kept too."""
        key = (resource.type_url, resource.name)
        if any(_has_accepted(stream, resource) for stream in self._streams):
            self._unverified.discard(key)
            self._fallback.pop(key, None)
            return
        before = self.client.held(resource.type_url).get(resource.name)
        if before is not None and before != resource and key not in self._unverified:
            self._fallback[key] = before
        if before != resource:
            self._unverified.add(key)

    def _forget(self, key: _Key) -> None:
        self._unverified.discard(key)
        self._fallback.pop(key, None)
        self._refused.pop(key, None)

    def _take_rejections(self, stream: Stream) -> list[Request]:
        requests: list[Request] = []
        for item in stream.rejections:
            key = (item.type_url, item.name)
            self._refused[key] = item
            held = self.client.held(item.type_url).get(item.name)
            if held is not None and held.version == item.version:
                # Accepted unseen, or good for an Envoy before this one: the control plane does not know yet.
                requests += self.client.ask_again(item.type_url, item.name)
                if key in self._unverified:
                    self._unverified.discard(key)
                    self.client.replace(item.type_url, item.name, self._fallback.pop(key, None))
                    self.changed = True
            self._rebuild(item.type_url)
        return requests

    def _follow_names(self, stream: Stream, type_url: str) -> list[Request]:
        channel = stream.channels.get(type_url)
        if channel is None or type_url not in _BY_NAME:
            return []
        before, names = self._streams[stream].get(type_url, frozenset()), channel.names
        if names is before:
            return []
        self._streams[stream][type_url] = names
        requests = self.client.subscribe(type_url, names - before)
        others = (asked.get(type_url, frozenset()) for asked in self._streams.values())
        return requests + self._unsubscribe(type_url, (before - names).difference(*others))

    def _unsubscribe(self, type_url: str, names: frozenset[str]) -> list[Request]:
        requests = self.client.unsubscribe(type_url, names)
        if requests:
            for name in names:
                self._forget((type_url, name))
            self.changed = True
            self._rebuild(type_url)
        return requests

    def _verify(self, type_url: str) -> list[Request]:
        """Take note of what an Envoy has accepted that was held unseen, or had been refused before."""
        requests: list[Request] = []
        held = self.client.held(type_url)
        for key in [key for key in self._unverified if key[0] == type_url]:
            if any(_has_accepted(stream, held[key[1]]) for stream in self._streams):
                self._unverified.discard(key)
                self._fallback.pop(key, None)
                self.changed = True
        for key, item in [*self._refused.items()]:
            resource = held.get(item.name)
            if key[0] != type_url or resource is None or resource.version != item.version:
                continue
            if any(_has_accepted(stream, resource) for stream in self._streams):
                del self._refused[key]
                requests += self.client.ask_again(*key)
        return requests


def _has_accepted(stream: Stream, resource: Resource) -> bool:
    channel = stream.channels.get(resource.type_url)
    if channel is None or not channel.adopted or not channel.wants(resource.name):
        return False
    if channel.goal_of(resource.name) != resource or channel.is_quarantined(resource.name):
        return False
    return stream.is_settled(resource.type_url, resource.name)


def _may_try_again(refused: Rejection, now: float) -> bool:
    """The control plane tries a refused listener again after `RETRY_S`; by then ours is no longer remembered."""
    return refused.type_url == LISTENER and refused.at + RETRY_S * 0.9 <= now
