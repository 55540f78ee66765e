"""Make before break: when a resource may be sent, and when a removal may.

These rules were measured on Envoy 1.40. Additions travel before what names them, removals after nothing names them any
more. Every wait is bounded, so that one stuck resource stalls only those that need it, and them not for ever.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gossamer.core.resources import CLUSTER, ENDPOINT, EXTENSION, LISTENER, ROUTE, Reference, Resource
from gossamer.xds.channel import Behind, Channel, Flight

Channels = Mapping[str, Channel]

GATE_S = 5.0
"""How long a resource waits for another that it names to be accepted; Envoy warms a cluster in milliseconds."""
WARM_S = 15.0
"""How long Envoy waits for the routes and filters of a new listener before it goes on without (its init timeout)."""

_HOLDERS = {CLUSTER: (LISTENER, ROUTE, EXTENSION), ROUTE: (LISTENER,), EXTENSION: (LISTENER,)}
"""Which types name resources of the type that is the key."""


@dataclass(slots=True)
class Draining:
    """Filter chains that a listener change has put out of use: they serve open connections until `until`.

    `references` is what they name, None for anything. The new chains come into use only when what they name, `awaited`,
    has arrived: until then the old ones are not even draining.
    """

    references: frozenset[Reference] | None
    awaited: frozenset[Reference] | None
    until: float
    latest: float

    def restart(self, arrived: frozenset[Reference], until: float) -> None:
        """Something was accepted: if the new chains may have waited for it, the old ones drain from now."""
        if self.awaited is None:
            self.until = min(until, self.latest)
        elif self.awaited & arrived:
            self.awaited -= arrived
            self.until = min(until, self.latest)


def drain_after(flight: Flight, now: float, drain_s: float) -> Iterator[Draining]:
    """What an accepted change of listeners leaves draining."""
    batch = flight.batch
    for name, prior in flight.prior.items():
        fresh = batch.by_name.get(name)
        if fresh is not None and prior.version == fresh.version:
            continue
        awaited = fresh.references if fresh is not None else frozenset[Reference]()
        if awaited is not None:
            awaited = frozenset(ref for ref in awaited if ref.type_url in (ROUTE, EXTENSION))
        yield Draining(prior.references, awaited, now + drain_s, now + drain_s + WARM_S)


def names(resource: Resource, type_url: str, name: str) -> bool:
    """Whether a resource names another, or may."""
    return resource.references is None or Reference(type_url=type_url, name=name) in resource.references


def endpoint_names(cluster: Resource) -> Iterator[str]:
    """The EDS names that a cluster asks for; its own name when its content is unknown."""
    if cluster.references is None:
        yield cluster.name
    else:
        yield from (ref.name for ref in cluster.references if ref.type_url == ENDPOINT)


class Gates:
    """The waits of one stream at one moment. `ends` collects when a wait that was found ends by itself."""

    __slots__ = ("_channels", "_draining", "_gate_s", "_held", "_leaving", "_now", "ends")

    def __init__(self, channels: Channels, draining: list[Draining], now: float, gate_s: float) -> None:
        self._channels = channels
        self._draining = draining
        self._now = now
        self._gate_s = gate_s
        self._held: dict[str, frozenset[Reference] | None] = {}
        self._leaving: frozenset[str] | None = None
        self.ends: list[float] = []

    def may_send(self, resource: Resource, entry: Behind) -> bool:
        """Whether a new or changed resource may go now."""
        if resource.type_url == LISTENER:
            return not self._waits_for_clusters(resource)
        if resource.type_url == ROUTE:
            return not self._waits_for_clusters(resource) and not self._waits_for_listeners(resource, entry)
        if resource.type_url == EXTENSION and resource.references:
            # A policy of unknown content waits for nothing: a cluster that is stuck must not delay a DENY. One that
            # sends requests to another filter to be decided goes after that filter's configuration.
            return not self._waits_for_clusters(resource) and not self._waits_for(EXTENSION, resource)
        return True

    def _waits_for_clusters(self, resource: Resource) -> bool:
        return self._waits_for(CLUSTER, resource)

    def _waits_for(self, type_url: str, resource: Resource) -> bool:
        """Whether what the resource names of this type is on its way."""
        channel = self._channels.get(type_url)
        if channel is None or not (channel.flights or channel.behind):
            return False
        waits = False
        for flight in channel.flights.values():
            if flight.sent_at + self._gate_s > self._now and _touches(resource, flight):
                self.ends.append(flight.sent_at + self._gate_s)
                waits = True
        for name, entry in channel.behind.items():
            if entry.since + self._gate_s <= self._now or channel.goal_of(name) is None or channel.is_quarantined(name):
                continue
            if names(resource, type_url, name):
                self.ends.append(entry.since + self._gate_s)
                waits = True
        return waits

    def _waits_for_listeners(self, route: Resource, entry: Behind) -> bool:
        """A listener that brings a filter goes before the route that configures the filter."""
        listeners = self._channels.get(LISTENER)
        if listeners is None or entry.told is None or entry.since + self._gate_s <= self._now:
            return False
        moving = [resource for flight in listeners.flights.values() for resource in flight.batch.resources]
        for name in listeners.behind:
            goal = listeners.goal_of(name)
            if goal is not None and not listeners.is_quarantined(name):
                moving.append(goal)
        if any(names(listener, ROUTE, route.name) for listener in moving):
            self.ends.append(entry.since + self._gate_s)
            return True
        return False

    def may_remove(self, type_url: str, name: str) -> bool:
        """Whether nothing that the client holds, or is about to hold, names this resource any more."""
        if type_url == LISTENER:
            return not self._listener_is_held()
        if type_url == ENDPOINT:
            return not self._is_endpoint_of_leaving(name)
        if type_url not in _HOLDERS:
            return True
        reference = Reference(type_url=type_url, name=name)
        held = self._named_by_holdings(type_url)
        return held is not None and reference not in held and not self._is_draining(reference)

    def _named_by_holdings(self, type_url: str) -> frozenset[Reference] | None:
        """What the client may still hold names of this type, None for anything; found once for all that are to go."""
        if type_url not in self._held:
            references: set[Reference] = set()
            unknown = False
            for holder in _HOLDERS[type_url]:
                for resource in self._channels[holder].holdings() if holder in self._channels else ():
                    if resource.references is None:
                        unknown = True
                    else:
                        references |= resource.references
            self._held[type_url] = None if unknown else frozenset(references)
        return self._held[type_url]

    def _is_draining(self, reference: Reference) -> bool:
        for item in self._draining:
            if item.until > self._now and (item.references is None or reference in item.references):
                self.ends.append(item.until)
                return True
        return False

    def _listener_is_held(self) -> bool:
        # The one that takes its place, maybe on the same address, must not come later than the removal.
        listeners = self._channels[LISTENER]
        return any(
            not listeners.is_quarantined(name) and not self.may_send(goal, entry)
            for name, entry in listeners.behind.items()
            if (goal := listeners.goal_of(name)) is not None
        )

    def _is_endpoint_of_leaving(self, endpoint: str) -> bool:
        """Whether a cluster that may still serve is to be removed: the client drops its endpoints with it."""
        if self._leaving is None:
            clusters = self._channels.get(CLUSTER)
            leaving: list[Resource | None] = []
            if clusters is not None:
                leaving += [entry.told for name, entry in clusters.behind.items() if clusters.goal_of(name) is None]
                for flight in clusters.flights.values():
                    leaving += [flight.prior.get(name) for name in flight.batch.removed]
            self._leaving = frozenset(name for cluster in leaving if cluster for name in endpoint_names(cluster))
        return endpoint in self._leaving


def _touches(resource: Resource, flight: Flight) -> bool:
    if resource.references is None:
        return bool(flight.batch.resources)
    by_name = flight.batch.by_name
    type_url = flight.batch.type_url
    return any(ref.type_url == type_url and ref.name in by_name for ref in resource.references)
