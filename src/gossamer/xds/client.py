"""The client's side of delta xDS, without I/O: what is held, what is wanted, and what is still to be answered.

Whoever drives it decides when an update is accepted: `ack` or `nack`. The invariant: `held` is what the server has been
told we have, so that after a reconnect it sends only what differs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from gossamer.core.frozen import FrozenMap
from gossamer.core.resources import CLUSTER, ENDPOINT, EXTENSION, LISTENER, ROUTE, Resource
from gossamer.xds.messages import WILDCARD, Request

_ORDER = (CLUSTER, ENDPOINT, LISTENER, ROUTE, EXTENSION)
"""Clusters first: who asks for endpoints before clusters is taken for an Envoy that is still warming."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """A DeltaDiscoveryResponse as it arrived."""

    type_url: str
    nonce: str
    changed: tuple[Resource, ...] = ()
    removed: tuple[str, ...] = ()


class Client:
    """All types of one subscriber, over as many streams as it takes, one at a time."""

    __slots__ = ("_held", "_wanted", "answered", "pending")

    def __init__(self, held: Iterable[Resource] = ()) -> None:
        self._held: dict[str, dict[str, Resource]] = {}
        for resource in held:
            self._held.setdefault(resource.type_url, {})[resource.name] = resource
        self._wanted: dict[str, frozenset[str]] = {}
        self.pending: dict[str, Update] = {}
        """Updates to be answered, in the order of arrival: by nonce or, once their stream is lost, by a stand-in."""
        self.answered: set[str] = set(self._held)
        """Types that the server has said something about, now or in an earlier life."""

    def held(self, type_url: str) -> Mapping[str, Resource]:
        """What the server knows us to have."""
        return self._held.get(type_url, {})

    def wanted(self, type_url: str) -> frozenset[str]:
        """Names subscribed to; `*` stands for all."""
        return self._wanted.get(type_url, frozenset())

    def wants(self, type_url: str, name: str) -> bool:
        """Whether a name is subscribed to, by itself or by wildcard."""
        wanted = self.wanted(type_url)
        return WILDCARD in wanted or name in wanted

    def connect(self) -> list[Request]:
        """The first requests of a new stream. Updates of the old one stay pending; nobody waits for their answer."""
        self.pending = {f"lost {i}": replace(item, nonce="") for i, item in enumerate(self.pending.values())}
        requests = []
        for type_url in (*_ORDER, *sorted(self._wanted.keys() - set(_ORDER))):
            wanted = self.wanted(type_url)
            if not wanted:
                continue
            held = self.held(type_url).items()
            versions = {name: resource.version for name, resource in held if self.wants(type_url, name)}
            requests.append(
                Request(type_url=type_url, subscribe=tuple(sorted(wanted)), initial_versions=FrozenMap(versions))
            )
        return requests

    def subscribe(self, type_url: str, names: Collection[str]) -> list[Request]:
        """Want these names too."""
        fresh = frozenset(names) - self.wanted(type_url)
        if not fresh:
            return []
        self._wanted[type_url] = self.wanted(type_url) | fresh
        return [Request(type_url=type_url, subscribe=tuple(sorted(fresh)))]

    def unsubscribe(self, type_url: str, names: Collection[str]) -> list[Request]:
        """Want these names no more, and forget what was held of them."""
        gone = frozenset(names) & self.wanted(type_url)
        if not gone:
            return []
        self._wanted[type_url] = self.wanted(type_url) - gone
        if WILDCARD not in self.wanted(type_url):
            for name in gone:
                self._held.get(type_url, {}).pop(name, None)
        return [Request(type_url=type_url, unsubscribe=tuple(sorted(gone)))]

    def ask_again(self, type_url: str, name: str) -> list[Request]:
        """Have the server send a resource once more, whatever it knows us to have."""
        return [Request(type_url=type_url, subscribe=(name,))]

    def receive(self, update: Update) -> None:
        """Keep an update until `ack` or `nack`."""
        self.pending[update.nonce] = update
        self.answered.add(update.type_url)

    def ack(self, nonce: str) -> list[Request]:
        """Accept a pending update: it is held from now on."""
        update = self.pending.pop(nonce, None)
        if update is None:
            return []
        self._hold(update, lambda _: True)
        return [Request(type_url=update.type_url, nonce=update.nonce)] if update.nonce else []

    def nack(self, nonce: str, detail: str, accepted: Collection[str] = ()) -> list[Request]:
        """Refuse a pending update. Resources in `accepted` are held all the same: the server will send them again."""
        update = self.pending.pop(nonce, None)
        if update is None:
            return []
        self._hold(update, accepted.__contains__)
        return [Request(type_url=update.type_url, nonce=update.nonce, error=detail)] if update.nonce else []

    def replace(self, type_url: str, name: str, resource: Resource | None) -> None:
        """Hold another copy, or none, of a resource than the server believes; `ask_again` tells it."""
        held = self._held.setdefault(type_url, {})
        if resource is None:
            held.pop(name, None)
        else:
            held[name] = resource

    def _hold(self, update: Update, accepted: Callable[[str], bool]) -> None:
        held = self._held.setdefault(update.type_url, {})
        for resource in update.changed:
            if accepted(resource.name) and self.wants(update.type_url, resource.name):
                held[resource.name] = resource
        for name in update.removed:
            if accepted(name):
                held.pop(name, None)
