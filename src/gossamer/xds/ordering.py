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


@dataclass(frozen=True, slots=True)
class Gates:
    """The waits of one stream at one moment. `next_change` collects when a wait that was found ends by itself."""

    channels: Channels
    draining: list[Draining]
    now: float
    gate_s: float
    ends: list[float]

    def may_send(self, resource: Resource, entry: Behind) -> bool:
        """Whether a new or changed resource may go now."""
        if resource.type_url == LISTENER:
            return not self._waits_for_clusters(resource)
        if resource.type_url == ROUTE:
            return not self._waits_for_clusters(resource) and not self._waits_for_listeners(resource, entry)
        if resource.type_url == EXTENSION and resource.references is not None:
            # A policy of unknown content waits for nothing: a cluster that is stuck must not delay a DENY.
            return not self._waits_for_clusters(resource)
        return True

    def _waits_for_clusters(self, resource: Resource) -> bool:
        clusters = self.channels.get(CLUSTER)
        if clusters is None or not (clusters.flights or clusters.behind):
            return False
        waits = False
        for flight in clusters.flights.values():
            if flight.sent_at + self.gate_s > self.now and _touches(resource, flight):
                self.ends.append(flight.sent_at + self.gate_s)
                waits = True
        for name, entry in clusters.behind.items():
            if entry.since + self.gate_s <= self.now or clusters.goal_of(name) is None or clusters.is_quarantined(name):
                continue
            if names(resource, CLUSTER, name):
                self.ends.append(entry.since + self.gate_s)
                waits = True
        return waits

    def _waits_for_listeners(self, route: Resource, entry: Behind) -> bool:
        """A listener that brings a filter goes before the route that configures the filter."""
        listeners = self.channels.get(LISTENER)
        if listeners is None or entry.told is None or entry.since + self.gate_s <= self.now:
            return False
        moving = [resource for flight in listeners.flights.values() for resource in flight.batch.resources]
        for name in listeners.behind:
            goal = listeners.goal_of(name)
            if goal is not None and not listeners.is_quarantined(name):
                moving.append(goal)
        if any(names(listener, ROUTE, route.name) for listener in moving):
            self.ends.append(entry.since + self.gate_s)
            return True
        return False

    def may_remove(self, type_url: str, name: str) -> bool:
        """Whether nothing that the client holds, or is about to hold, names this resource any more."""
        if type_url == LISTENER:
            return not self._listener_is_held()
        if type_url == ENDPOINT:
            return not self._cluster_is_leaving(name)
        for holder in _HOLDERS.get(type_url, ()):
            channel = self.channels.get(holder)
            if channel is not None and any(names(resource, type_url, name) for resource in channel.holdings()):
                return False
        if type_url not in _HOLDERS:
            return True
        return not self._is_draining(Reference(type_url=type_url, name=name))

    def _is_draining(self, reference: Reference) -> bool:
        for item in self.draining:
            if item.until > self.now and (item.references is None or reference in item.references):
                self.ends.append(item.until)
                return True
        return False

    def _listener_is_held(self) -> bool:
        # The one that takes its place, maybe on the same address, must not come later than the removal.
        listeners = self.channels[LISTENER]
        return any(
            not listeners.is_quarantined(name) and not self.may_send(goal, entry)
            for name, entry in listeners.behind.items()
            if (goal := listeners.goal_of(name)) is not None
        )

    def _cluster_is_leaving(self, endpoint: str) -> bool:
        """Whether a cluster that still serves waits for its removal: its endpoints go with it, not before."""
        clusters = self.channels.get(CLUSTER)
        return clusters is not None and any(
            endpoint in endpoint_names(entry.told)
            for name, entry in clusters.behind.items()
            if entry.told is not None and clusters.goal_of(name) is None
        )


def _touches(resource: Resource, flight: Flight) -> bool:
    if resource.references is None:
        return bool(flight.batch.resources)
    by_name = flight.batch.by_name
    return any(ref.type_url == CLUSTER and ref.name in by_name for ref in resource.references)
