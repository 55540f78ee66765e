"""One resource type on one stream: what the client asked for, what it was told, what it has accepted.

The invariant: for every name that the client asked for, it has been sent the version in `goal`, unless the name is in
`behind`. So a stream that is up to date holds nothing of its own but its subscription, and a change costs what it
changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import zip_longest

from gossamer.core.resources import CLUSTER, ENDPOINT, LISTENER, TYPES, Resource, Table
from gossamer.xds.messages import WILDCARD, Batch, Rejection, Request

Tables = tuple[Table, ...]
RETRY_S, RETRY_LIMIT_S = 10.0, 320.0
"""When a refused listener is tried again: after the first refusal, and at most."""
_NOTHING = {type_url: Table(type_url) for type_url in TYPES}


@dataclass(slots=True)
class Behind:
    """A name whose goal the client has not been sent. `told` is what it was sent last, None for nothing."""

    told: Resource | None
    since: float
    forced: bool = False
    """To be sent even if the goal goes back to what was told."""
    alone: bool = False
    """To be sent in a response of its own, since it was in one that was rejected."""


@dataclass(slots=True)
class Flight:
    """A response that is not answered yet; `prior` is what the client held of these names before, if anything."""

    batch: Batch
    sent_at: float
    prior: dict[str, Resource] = field(default_factory=dict)


class Channel:
    """State of one type. Nothing is answered until `goal` is known (not None)."""

    __slots__ = (
        "adopted", "behind", "flights", "fresh", "goal", "greet", "initial", "names", "rejected", "started", "type_url",
        "wildcard",
    )  # fmt: skip

    def __init__(self, type_url: str, goal: Tables | None) -> None:
        self.type_url = type_url
        self.goal = goal
        self.started = False
        self.adopted = False
        self.wildcard = False
        self.names: frozenset[str] = frozenset()
        self.initial: Mapping[str, str] = {}
        self.greet = False
        """Whether the client waits for a first response, even an empty one."""
        self.fresh = False
        """Whether the client holds nothing and everything it wants is to be sent; `behind` is empty then."""
        self.behind: dict[str, Behind] = {}
        self.flights: dict[str, Flight] = {}
        self.rejected: dict[str, Rejection] = {}

    def goal_of(self, name: str) -> Resource | None:
        """What the client should have under this name, or None."""
        return find(self.goal, name)

    def wants(self, name: str) -> bool:
        return self.wildcard or name in self.names

    def is_quarantined(self, name: str) -> bool:
        """Whether the client refused exactly what it should have now."""
        rejection = self.rejected.get(name)
        if rejection is None or rejection.due:
            return False
        goal = self.goal_of(name)
        return goal is not None and goal.version == rejection.version

    def is_in_flight(self, name: str) -> bool:
        return any(name in flight.batch.by_name or name in flight.batch.removed for flight in self.flights.values())

    def subscribe(self, request: Request, now: float) -> None:
        """Take the names that a request adds and drops, by the rules of the delta protocol."""
        first = not self.started
        self.started = True
        explicit = request.names
        if request.wildcard or (first and not explicit and self.type_url in (CLUSTER, LISTENER)):
            if self.type_url in (CLUSTER, LISTENER):
                self.greet = self.greet or not (self.wildcard or request.initial_versions)
            fresh_wildcard, self.wildcard = not self.wildcard, True
        else:
            fresh_wildcard = False
        known = explicit & self.names
        if explicit:
            self.names = self.names | explicit if self.names else explicit
        if first:
            self.initial = request.initial_versions
        elif self.adopted:
            if fresh_wildcard:
                self._fall_behind((name for table in self.goal or () for name in table), now)
            self._ask_again(explicit, known, now)
        if request.unsubscribe:
            self._unsubscribe(request.unsubscribe, now)

    def _ask_again(self, names: Iterable[str], known: frozenset[str], now: float) -> None:
        # A name that is subscribed again must be answered again, whatever was sent before.
        for name in names:
            entry = self.behind.get(name)
            if entry is None:
                told = self.goal_of(name) if self.wildcard or name in known else None
                entry = self.behind[name] = Behind(told, now)
            entry.forced = True
            self.rejected.pop(name, None)

    def _unsubscribe(self, names: Iterable[str], now: float) -> None:
        dropped = frozenset(names)
        if WILDCARD in dropped and self.wildcard:
            self.wildcard = False
            self._forget([name for name in self.behind if name not in self.names])
        self.names -= dropped
        if not self.wildcard:
            self._forget(dropped)

    def _forget(self, names: Iterable[str]) -> None:
        for name in names:
            self.behind.pop(name, None)
            self.rejected.pop(name, None)

    def _fall_behind(self, names: Iterable[str], now: float) -> None:
        for name in names:
            self.behind.setdefault(name, Behind(None, now))

    def adopt(self, now: float) -> list[str]:
        """Compare what a new stream's client holds with the goal; returns the names that it holds and should not."""
        self.adopted = True
        simple = not self.names if self.type_url == CLUSTER else self.type_url == ENDPOINT
        if simple and not (self.initial or self.behind):
            self.fresh = True  # these wait for nothing: no need to go through them one by one
            return []
        held, self.initial = dict(self.initial), {}
        asked = (name for table in self.goal or () for name in table) if self.wildcard else iter(())
        for name in (*asked, *sorted(self.names)) if self.names else asked:
            version, goal = held.pop(name, None), self.goal_of(name)
            if name in self.behind or (goal is not None and goal.version == version):
                continue
            told = None if version is None else _stub(self.type_url, name, version)
            self.behind[name] = Behind(told, now, forced=told is None)
        if not self.wildcard:
            return []
        stale = [name for name in held if name not in self.behind and self.goal_of(name) is None]
        for name in stale:
            self.behind[name] = Behind(_stub(self.type_url, name, held[name]), now)
        return stale

    def advance(self, goal: Tables | None, now: float) -> None:
        """Make `goal` the one to reach, at the cost of what differs from the one before."""
        before, self.goal = self.goal, goal
        if before is goal or not self.adopted:
            return
        empty = _NOTHING.get(self.type_url)
        if empty is None:
            empty = Table(self.type_url)
        for old, new in zip_longest(before or (), goal or (), fillvalue=empty):
            if old is new:
                continue
            delta = new.delta_from(old)
            for name in (*(resource.name for resource in delta.changed), *delta.removed):
                if self.wants(name):
                    self._differ(name, before, now)

    def _differ(self, name: str, before: Tables | None, now: float) -> None:
        entry, goal = self.behind.get(name), self.goal_of(name)
        told = entry.told if entry is not None else find(before, name)
        if entry is None:
            if told != goal:
                self.behind[name] = Behind(told, now)
        elif goal == told and not entry.forced:
            del self.behind[name]  # it went back to what the client has
        elif goal is None and entry.told is None and name not in self.names:
            del self.behind[name]  # it came and went unseen
        if not self.is_quarantined(name):
            self.rejected.pop(name, None)

    def take_off(self, nonce: str, batch: Batch, now: float) -> None:
        """Note that `batch` is on its way: its names are no longer behind."""
        flight = self.flights[nonce] = Flight(batch, now)
        if not self.behind:
            return
        for name in (*batch.by_name, *batch.removed):
            entry = self.behind.pop(name, None)
            told = entry.told if entry is not None else None
            if told is not None:
                flight.prior[name] = told

    def land(self, nonce: str) -> Flight | None:
        """Take the answered response off the list; None if it is not known."""
        return self.flights.pop(nonce, None)

    def turn_back(self, flight: Flight, now: float) -> Resource | None:
        """Undo a rejected response: its names are behind again. Returns the guilty resource if it was alone."""
        batch = flight.batch
        if not batch.resources:
            return None  # nobody can refuse that something is gone
        guilty = batch.resources[0] if len(batch.resources) == 1 and not batch.removed else None
        for name in (*batch.by_name, *batch.removed):
            overtaken = self._correct_prior(name, flight)
            # One that was refused alone changed nothing; of several, any may have been applied: say it again.
            if not self.wants(name) or (overtaken and guilty is not None):
                continue
            entry = self.behind.setdefault(name, Behind(None, now))
            entry.told = flight.prior.get(name)
            entry.forced = guilty is None
            entry.alone = True
        return guilty

    def _correct_prior(self, name: str, refused: Flight) -> bool:
        """What was sent after a refused response replaces what was there before it; whether there is any."""
        overtaken = False
        for later in self.flights.values():
            if name not in later.batch.by_name and name not in later.batch.removed:
                continue
            overtaken = True
            if name in refused.batch.by_name and later.prior.get(name) == refused.batch.by_name[name]:
                later.prior.pop(name)
                if name in refused.prior:
                    later.prior[name] = refused.prior[name]
        return overtaken

    def reject(self, rejection: Rejection) -> Rejection:
        """Keep a resource from the client until its version changes; returns it with the tries counted."""
        before = self.rejected.get(rejection.name)
        if before is not None and before.version == rejection.version:
            rejection = replace(rejection, tries=before.tries + 1)
        self.rejected[rejection.name] = rejection
        return rejection

    def retry(self, now: float) -> float | None:
        """Let listeners that were refused be tried again, ever more rarely; returns when the next one is due.

        Whether Envoy takes a listener depends on its host too: on a port that somebody else may give back.
        """
        if self.type_url != LISTENER:
            return None
        times = []
        for name, item in self.rejected.items():
            due = item.at + min(RETRY_S * 2 ** (item.tries - 1), RETRY_LIMIT_S)
            if item.due or not self.is_quarantined(name):
                continue
            if due <= now:
                self.rejected[name] = replace(item, due=True)
            else:
                times.append(due)
        return min(times, default=None)

    def holdings(self) -> Iterator[Resource]:
        """Resources other than its goal that the client may still hold or be about to: of names in motion only."""
        for entry in self.behind.values():
            if entry.told is not None:
                yield entry.told
        for flight in self.flights.values():
            yield from flight.prior.values()
            yield from flight.batch.resources


def find(tables: Tables | None, name: str) -> Resource | None:
    """The resource of this name, or None."""
    return next((table[name] for table in tables or () if name in table), None)


def _stub(type_url: str, name: str, version: str) -> Resource:
    """What a reconnecting client says that it holds: its content, and so what it names, is unknown."""
    return Resource(type_url=type_url, name=name, version=version, body=b"")
