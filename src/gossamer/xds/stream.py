"""The server's side of one delta xDS stream, without I/O.

Give it what the client says (`receive`), what the client should have (`offer`) and the time (`tick`); it answers with
what to send. Time is an argument, in seconds of any one clock. The invariant: whatever is lost, refused or late, the
client is led to the resources offered last, in an order in which no request fails for want of a cluster or a policy.

The order of additions: clusters, each followed at once by its endpoints; listeners; routes; filters. Removals the other
way round (`ordering` has the rules).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from gossamer.core.resources import CLUSTER, ENDPOINT, EXTENSION, LISTENER, ROUTE, Reference, Resource, Resources
from gossamer.xds.batches import Batches
from gossamer.xds.channel import Channel, Flight, Tables, find
from gossamer.xds.messages import Batch, Rejection, Request, Response
from gossamer.xds.ordering import GATE_S, Draining, Gates, drain_after, endpoint_names
from gossamer.xds.wire import empty_assignment

_ORDER = (CLUSTER, ENDPOINT, LISTENER, ROUTE, EXTENSION)
WINDOW = 256
"""Responses of one type that may be unanswered; what changes meanwhile is sent as one afterwards."""
MAX_TYPES = 32
"""Types that one client may ask for; there are six, and a client must not make the server remember more."""


class Stream:
    """One connected client.

    `drain_s` is how long connections that a listener change has put out of use are still served (Envoy's
    `--drain-time-s`): what they name stays that long. `partial` is given where what is offered may be incomplete: a
    name or a type that is not offered gets no answer yet, instead of the answer that there is none. It says whether a
    client that connects may hold newer things than are offered; then it keeps them until what is offered changes.
    """

    __slots__ = (
        "_batches", "_deadline", "_draining", "_gate_s", "_goal", "_nonces", "_partial", "channels", "drain_s",
        "rejections",
    )  # fmt: skip

    def __init__(
        self,
        batches: Batches,
        *,
        drain_s: float,
        gate_s: float = GATE_S,
        partial: Callable[[], bool] | None = None,
    ) -> None:
        self._batches = batches
        self._gate_s = gate_s
        self._partial = partial
        self._goal: Resources | None = None
        self._draining: list[Draining] = []
        self._deadline: float | None = None
        self._nonces = 0
        self.drain_s = drain_s
        self.channels: dict[str, Channel] = {}
        self.rejections: list[Rejection] = []
        """News: resources found guilty since the caller last emptied this list."""

    @property
    def goal(self) -> Resources | None:
        """What was offered last."""
        return self._goal

    def receive(self, request: Request, now: float) -> list[Response]:
        """Take a request: an acknowledgement, a rejection, names to add or drop, or several of these at once."""
        channel = self.channels.get(request.type_url)
        if channel is None:
            if len(self.channels) >= MAX_TYPES:
                return []
            channel = self.channels[request.type_url] = Channel(request.type_url, self._tables(request.type_url))
        if request.nonce:
            self._land(channel, request, now)
        if not channel.started or request.subscribe or request.unsubscribe:
            channel.subscribe(request, now)
            channel.names = self._batches.intern(channel.names)
        return self._advance(now)

    def offer(self, resources: Resources, now: float) -> list[Response]:
        """Take what the client should have from now on; costs what differs from the offer before."""
        if resources is self._goal:
            return []
        self._goal = resources
        for channel in self.channels.values():
            channel.advance(self._tables(channel.type_url), now)
        return self._advance(now)

    def tick(self, now: float) -> list[Response]:
        """Go on after waits that have ended by time; call at `deadline()`."""
        return self._advance(now)

    def deadline(self) -> float | None:
        """When `tick` has something to do; None if it has nothing."""
        return self._deadline

    def is_settled(self, type_url: str, name: str) -> bool:
        """Whether the client has answered for this name, or will not be asked (it does not want it, or refused it)."""
        channel = self.channels.get(type_url)
        if channel is None or not channel.wants(name):
            return True
        if channel.is_in_flight(name):
            return False
        entry = channel.behind.get(name)
        # A removal that waits is settled for who offers: it will come, and nothing depends on it.
        return entry is None or channel.is_quarantined(name) or channel.goal_of(name) is None

    def _tables(self, type_url: str) -> Tables | None:
        if self._goal is None:
            return None
        if self._partial is not None and type_url not in self._goal.tables:
            return None
        return self._goal.of_type(type_url)

    def _land(self, channel: Channel, request: Request, now: float) -> None:
        flight = channel.land(request.nonce)
        if flight is None:
            return
        if request.error is None:
            self._accepted(channel, flight, now)
            return
        guilty = channel.turn_back(flight, now)
        if guilty is not None:
            rejection = Rejection(
                type_url=guilty.type_url, name=guilty.name, version=guilty.version,
                message=request.error, origins=guilty.origins, at=now,
            )  # fmt: skip
            rejection = channel.reject(rejection)
            if rejection.tries == 1:
                self.rejections.append(rejection)

    def _accepted(self, channel: Channel, flight: Flight, now: float) -> None:
        for name in channel.rejected.keys() & flight.batch.by_name.keys():
            if channel.rejected[name].version == flight.batch.by_name[name].version:
                del channel.rejected[name]
        if channel.type_url == LISTENER:
            self._draining += drain_after(flight, now, self.drain_s)
        elif channel.type_url in (ROUTE, EXTENSION) and self._draining:
            arrived = frozenset(Reference(type_url=channel.type_url, name=name) for name in flight.batch.by_name)
            for item in self._draining:
                item.restart(arrived, now + self.drain_s)

    def _advance(self, now: float) -> list[Response]:
        """Everything that may be sent now, in order."""
        self._adopt(now)
        self._draining = [item for item in self._draining if item.until > now]
        gates = Gates(self.channels, self._draining, now, self._gate_s)
        out: list[Response] = []
        for type_url in (*_ORDER, *(self.channels.keys() - set(_ORDER))):
            channel = self.channels.get(type_url)
            if channel is not None and channel.rejected and (due := channel.retry(now)) is not None:
                gates.ends.append(due)
            if channel is not None and channel.adopted and (channel.behind or channel.greet or channel.fresh):
                out += self._due(channel, gates, now)
        self._deadline = min(gates.ends, default=None)
        return out

    def _adopt(self, now: float) -> None:
        for channel in self.channels.values():
            if channel.adopted or channel.goal is None or not channel.started:
                continue
            if channel.type_url == ENDPOINT:
                self._distrust_endpoints(channel)
            if self._partial is not None:
                channel.initial = self._believed(channel, newer=self._partial())
            stale = channel.adopt(now)
            if stale and channel.type_url in (CLUSTER, ROUTE, EXTENSION):
                # Its routes and listeners have not been heard of yet: they may name what is to go.
                until = now + max(self.drain_s, self._gate_s)
                self._draining.append(Draining(None, frozenset(), until, until))

    @staticmethod
    def _believed(channel: Channel, *, newer: bool) -> dict[str, str]:
        """What a client of a partial offer holds, as far as that is to be compared with the offer.

        What it holds and is not offered by name is not gone for that: nobody has been asked for it yet, and a policy
        taken back until then would deny. Where what it holds may be `newer` than all that is offered, it stays.
        """
        believed = {}
        for name, version in channel.initial.items():
            goal = find(channel.goal, name)
            if goal is not None:
                believed[name] = goal.version if newer else version
            elif channel.wildcard and not newer:
                believed[name] = version
        return believed

    def _distrust_endpoints(self, channel: Channel) -> None:
        """Forget what a reconnecting client says it holds of clusters that are warming: those need it again."""
        clusters = self.channels.get(CLUSTER)
        if clusters is None:
            channel.initial = {}  # it cannot ask for clusters because some are warming
            return
        warming = {
            endpoint
            for flight in clusters.flights.values()
            for cluster in flight.batch.resources
            for endpoint in endpoint_names(cluster)
        }
        channel.initial = {name: version for name, version in channel.initial.items() if name not in warming}

    def _due(self, channel: Channel, gates: Gates, now: float) -> Iterator[Response]:
        """Responses of one type; a cluster's endpoints come with it."""
        if len(channel.flights) >= WINDOW:
            return
        batches = self._everything(channel) if channel.fresh else []
        together, alone, removed = self._select(channel, gates)
        if together or removed or (channel.greet and not (batches or channel.behind)):
            batches += self._batches.split(channel.type_url, together, removed)
        for resource in alone:
            batches += self._batches.split(channel.type_url, (resource,))
        channel.greet = channel.greet and not batches
        for batch in batches:
            yield self._send(channel, batch, now)
            if channel.type_url == CLUSTER:
                yield from self._follow(batch, now)

    def _everything(self, channel: Channel) -> list[Batch]:
        channel.fresh = False
        pick = find if self._partial is not None or channel.type_url != ENDPOINT else _find_endpoints
        names = None if channel.wildcard else channel.names
        return self._batches.whole(channel.type_url, channel.goal or (), names, pick)

    def _select(self, channel: Channel, gates: Gates) -> tuple[list[Resource], list[Resource], list[str]]:
        together: list[Resource] = []
        alone: list[Resource] = []
        removed: list[str] = []
        for name, entry in channel.behind.items():
            goal = channel.goal_of(name)
            if goal is not None:
                if not channel.is_quarantined(name) and gates.may_send(goal, entry):
                    (alone if entry.alone else together).append(goal)
            elif entry.told is None and self._partial is not None:
                continue  # nobody knows yet whether there is one
            elif entry.told is None or gates.may_remove(channel.type_url, name):
                if channel.type_url == ENDPOINT:
                    (alone if entry.alone else together).append(empty_assignment(name))
                else:
                    removed.append(name)
        return together, alone, removed

    def _follow(self, clusters: Batch, now: float) -> Iterator[Response]:
        """The endpoints of clusters just sent, changed or not: a cluster warms until they come, and asks only once."""
        channel = self.channels.get(ENDPOINT)
        if channel is None or not channel.adopted or channel.fresh or not clusters.resources:
            return
        wanted = (name for cluster in clusters.resources for name in endpoint_names(cluster) if channel.wants(name))
        for batch in self._batches.split(ENDPOINT, self._endpoints(channel, wanted)):
            if batch.resources:
                yield self._send(channel, batch, now)

    def _endpoints(self, channel: Channel, wanted: Iterable[str]) -> Sequence[Resource]:
        found = []
        for name in dict.fromkeys(wanted):
            goal = channel.goal_of(name)
            if goal is not None and not channel.is_quarantined(name):
                found.append(goal)
            elif goal is None and self._partial is None:
                found.append(empty_assignment(name))
        return found

    def _send(self, channel: Channel, batch: Batch, now: float) -> Response:
        nonce = batch.nonce
        if not nonce or nonce in channel.flights:  # the same is under way already, unanswered
            self._nonces += 1
            nonce = f"{nonce}.{self._nonces:x}"
        channel.take_off(nonce, batch, now)
        return Response(batch=batch, nonce=nonce)


def _find_endpoints(goal: Tables, name: str) -> Resource:
    return find(goal, name) or empty_assignment(name)
