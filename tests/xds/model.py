"""A client that behaves as Envoy does, without I/O, and remembers every moment at which traffic would have failed.

It asks for the endpoints of its clusters and for the routes and filters of its listeners, acknowledges clusters only
when they are warm, and refuses what it is told to refuse.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from gossamer.core.frozen import FrozenMap
from gossamer.core.resources import (
    CLUSTER,
    ENDPOINT,
    EXTENSION,
    LISTENER,
    ROUTE,
    Reference,
    Resource,
    Resources,
    Table,
    version_of,
)
from gossamer.xds.messages import Request, Response
from gossamer.xds.wire import encode_any

CHILD = {ENDPOINT: CLUSTER, ROUTE: LISTENER, EXTENSION: LISTENER}
"""Types that are asked for by name, and the type whose resources name them."""


def cluster(name: str, content: str = "", *, endpoint: str | None = None) -> Resource:
    return resource(CLUSTER, name, content, {(ENDPOINT, endpoint or name)})


def endpoints(name: str, content: str = "") -> Resource:
    return resource(ENDPOINT, name, content, ())


def route(name: str, clusters: Iterable[str] = (), content: str = "") -> Resource:
    return resource(ROUTE, name, content, {(CLUSTER, item) for item in clusters})


def listener(
    name: str, routes: Iterable[str] = (), clusters: Iterable[str] = (), filters: Iterable[str] = (), content: str = ""
) -> Resource:
    names = {(ROUTE, r) for r in routes} | {(CLUSTER, c) for c in clusters} | {(EXTENSION, e) for e in filters}
    return resource(LISTENER, name, content, names)


def extension(name: str, content: str = "") -> Resource:
    return resource(EXTENSION, name, content, ())


def resource(type_url: str, name: str, content: str, names: Iterable[tuple[str, str]]) -> Resource:
    references = frozenset(Reference(type_url=url, name=item) for url, item in names)
    body = encode_any(type_url, f"{name} {content} {sorted(references)}".encode())
    return Resource(type_url=type_url, name=name, version=version_of(body), body=body, references=references)


def resources(*items: Resource) -> Resources:
    """All five types, one table each."""
    urls = (CLUSTER, ENDPOINT, LISTENER, ROUTE, EXTENSION)
    return Resources(
        tables=FrozenMap({url: (Table(url, [item for item in items if item.type_url == url]),) for url in urls})
    )


@dataclass(slots=True, kw_only=True)
class ModelEnvoy:
    """One Envoy over several streams. `refuses` are (type, name, version) that it will not take."""

    refuses: set[tuple[str, str, str]] = field(default_factory=set)
    held: dict[str, dict[str, Resource]] = field(default_factory=dict)
    warming: dict[str, Resource] = field(default_factory=dict)
    asked: dict[str, frozenset[str]] = field(default_factory=dict)
    withheld: list[Request] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    streaming: set[str] = field(default_factory=set)
    """Types asked for on this stream."""
    has_clusters: bool = False
    """Whether a first answer about clusters has come: listeners are asked for from then on."""

    def connect(self) -> list[Request]:
        """First requests of a new stream, in Envoy's order; what was withheld is forgotten with the old one."""
        self.withheld.clear()
        self.streaming.clear()
        self.asked = {url: self._needed(url) for url in CHILD}
        requests = [] if self.warming else [self._first(CLUSTER, ())]
        requests += [self._first(ENDPOINT, self.asked[ENDPOINT])] if self.asked[ENDPOINT] else []
        if self.has_clusters:
            requests.append(self._first(LISTENER, ()))
            requests += [self._first(url, self.asked[url]) for url in (ROUTE, EXTENSION) if self.asked[url]]
        return requests

    def _first(self, type_url: str, names: Iterable[str]) -> Request:
        self.streaming.add(type_url)
        versions = {name: item.version for name, item in self.held.get(type_url, {}).items()}
        if type_url in CHILD:
            versions = {name: version for name, version in versions.items() if name in self.asked[type_url]}
        return Request(type_url=type_url, subscribe=tuple(sorted(names)), initial_versions=FrozenMap(versions))

    def receive(self, response: Response) -> list[Request]:
        """Apply a response; returns the answer and what is asked for next."""
        guilty = [r for r in response.resources if (r.type_url, r.name, r.version) in self.refuses]
        next_type = self._first_listeners() if response.type_url == CLUSTER else []
        if guilty:
            error = "cannot use " + ", ".join(item.name for item in guilty)
            if response.type_url == ENDPOINT:  # Envoy stops waiting for endpoints that it cannot use
                self.held.setdefault(CLUSTER, {}).update(self.warming)
                self.warming.clear()
            nack = Request(type_url=response.type_url, nonce=response.nonce, error=error)
            return [nack, *self._release(), *next_type]
        answer = Request(type_url=response.type_url, nonce=response.nonce)
        requests: list[Request] = []
        self._apply(response)
        for url, parent in CHILD.items():
            if parent == response.type_url:
                requests += self._ask(url)
        if response.type_url == CLUSTER:
            self.withheld.append(answer)
        else:
            requests.append(answer)
        return [*requests, *self._release(), *next_type]

    def _first_listeners(self) -> list[Request]:
        self.has_clusters = True
        return [] if LISTENER in self.streaming else [self._first(LISTENER, ())]

    def _apply(self, response: Response) -> None:
        held = self.held.setdefault(response.type_url, {})
        for item in response.resources:
            if item.type_url == CLUSTER and held.get(item.name) != item:
                self.warming[item.name] = item  # the old one, if any, serves until then
            elif item.type_url == CLUSTER:
                self.warming.pop(item.name, None)
            else:
                held[item.name] = item
            if item.type_url == ENDPOINT:
                for name in [n for n, c in self.warming.items() if _child(c, ENDPOINT) & {item.name}]:
                    self.held.setdefault(CLUSTER, {})[name] = self.warming.pop(name)
        for name in response.removed:
            if response.type_url == CLUSTER:
                self.warming.pop(name, None)
                self.faults += [f"{user} still names cluster {name}" for user in self._users(name)]
            if response.type_url in (CLUSTER, LISTENER, ROUTE):
                held.pop(name, None)
        self._check_routes()

    def _check_routes(self) -> None:
        known = self.held.get(CLUSTER, {})
        for name in self.warming.keys() - known.keys():
            self.faults += [f"{user} names cluster {name}, which is not warm" for user in self._users(name)]

    def _users(self, cluster_name: str) -> Iterator[str]:
        wanted = Reference(type_url=CLUSTER, name=cluster_name)
        routes = self._needed(ROUTE)
        for item in (*self.held.get(LISTENER, {}).values(), *self.held.get(ROUTE, {}).values()):
            if wanted in (item.references or ()) and (item.type_url == LISTENER or item.name in routes):
                yield f"{item.type_url.rpartition('.')[2]} {item.name}"

    def _needed(self, url: str) -> frozenset[str]:
        parents = [*self.held.get(CHILD[url], {}).values()]
        if url == ENDPOINT:
            parents += self.warming.values()
        return frozenset(name for parent in parents for name in _child(parent, url))

    def _ask(self, url: str) -> list[Request]:
        before, now = self.asked.get(url, frozenset()), self._needed(url)
        self.asked[url] = now
        for name in before - now:
            self.held.get(url, {}).pop(name, None)
        if before == now:
            return []
        return [Request(type_url=url, subscribe=tuple(sorted(now - before)), unsubscribe=tuple(sorted(before - now)))]

    def _release(self) -> list[Request]:
        if self.warming:
            return []
        released, self.withheld = self.withheld, []
        if CLUSTER not in self.streaming:
            released += [self._first(CLUSTER, ()), *self._first_listeners()]
        return released


def _child(parent: Resource, url: str) -> set[str]:
    return {ref.name for ref in parent.references or () if ref.type_url == url}
