"""The agent between control plane and Envoy, without I/O: both hops, with everything that can go wrong on them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gossamer.core.resources import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, Resource, Resources
from gossamer.node.last_copy import LastCopy
from gossamer.node.store import Stored
from gossamer.xds.batches import Batches
from gossamer.xds.client import Update
from gossamer.xds.messages import Request, Response
from gossamer.xds.status import SyncState, view_types
from gossamer.xds.stream import Stream
from tests.xds.model import ModelEnvoy, cluster, endpoints, listener, resources, route
from tests.xds.test_convergence import World, goals


def bare(resource: Resource) -> Resource:
    """As it comes off the wire: nobody has looked inside."""
    return Resource(type_url=resource.type_url, name=resource.name, version=resource.version, body=resource.body)


@dataclass(slots=True, kw_only=True)
class Chain:
    """Control plane, agent, Envoy. Each step moves one message, or cuts something."""

    goal: Resources
    copy: LastCopy = field(default_factory=lambda: LastCopy([], lambda item: item, secrets=False))
    envoy: ModelEnvoy = field(default_factory=ModelEnvoy)
    now: float = 0.0
    plane: Stream | None = None
    relay: Stream | None = None
    known: dict[tuple[str, str, str], Resource] = field(default_factory=dict)
    to_plane: deque[Request] = field(default_factory=deque)
    from_plane: deque[Response] = field(default_factory=deque)
    to_relay: deque[Request] = field(default_factory=deque)
    from_relay: deque[Response] = field(default_factory=deque)

    def connect_plane(self) -> None:
        self.from_plane.clear()
        self.plane = Stream(Batches(), drain_s=2)
        self.plane.offer(self.goal, self.now)
        self.to_plane = deque(self.copy.client.connect())

    def lose_plane(self) -> None:
        self.plane = None
        self.to_plane.clear()
        self.from_plane.clear()

    def connect_envoy(self, *, restarted: bool = False) -> None:
        self.lose_envoy()
        if restarted:
            self.envoy = ModelEnvoy(refuses=self.envoy.refuses)
        self.relay = Stream(Batches(), drain_s=2, partial=lambda: False)
        self.to_relay = deque(self.envoy.connect())
        self._offer()

    def lose_envoy(self) -> None:
        self.to_relay.clear()
        self.from_relay.clear()
        if self.relay is not None:
            gone, self.relay = self.relay, None
            self._up(self.copy.left(gone))

    def offer(self, goal: Resources) -> None:
        self.goal = goal
        if self.plane is not None:
            self.from_plane += self.plane.offer(goal, self.now)

    def step(self, which: int) -> bool:
        """Move one message of one of the four queues; whether there was one."""
        if which == 0 and self.to_plane and self.plane is not None:
            self.from_plane += self.plane.receive(self.to_plane.popleft(), self.now)
        elif which == 1 and self.from_plane:
            self._receive(self.from_plane.popleft())
        elif which == 2 and self.to_relay and self.relay is not None:
            request = self.to_relay.popleft()
            self.from_relay += self.relay.receive(request, self.now)
            self._hear(request.type_url)
        elif which == 3 and self.from_relay:
            self.to_relay += self.envoy.receive(self._whole(self.from_relay.popleft()))
        else:
            return False
        return True

    def _receive(self, response: Response) -> None:
        self.known.update({(r.type_url, r.name, r.version): r for r in response.resources})
        update = Update(
            type_url=response.type_url,
            nonce=response.nonce,
            changed=tuple(map(bare, response.resources)),
            removed=response.removed,
        )
        self._up(self.copy.receive(update, self.now))
        self._offer()

    def _whole(self, response: Response) -> Response:
        """The model wants to know what the resources name."""
        batch = type(response.batch)(
            response.type_url,
            tuple(self.known.get((r.type_url, r.name, r.version), r) for r in response.resources),
            response.removed,
        )
        return Response(batch=batch, nonce=response.nonce)

    def _offer(self) -> None:
        goal = self.copy.goal.value
        if self.relay is not None and goal is not None and goal is not self.relay.goal:
            self.from_relay += self.relay.offer(goal, self.now)
            self._hear(None)

    def _hear(self, type_url: str | None) -> None:
        assert self.relay is not None
        self._up(self.copy.heard(self.relay, type_url))
        self.relay.rejections.clear()
        self._offer()

    def _up(self, requests: list[Request]) -> None:
        if self.plane is not None:
            self.to_plane += requests

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        if self.plane is not None:
            self.from_plane += self.plane.tick(self.now)
        if self.relay is not None:
            self.from_relay += self.relay.tick(self.now)

    def quiesce(self) -> None:
        end = self.now + 60
        for _ in range(5000):
            if next((True for which in range(4) if self.step(which)), False):
                continue
            deadlines = [stream.deadline() for stream in (self.plane, self.relay) if stream is not None]
            due = min((deadline for deadline in deadlines if deadline is not None), default=None)
            if due is None or due >= end:
                return
            self.pass_time(max(0.001, due - self.now))
        raise AssertionError("it never ends")

    def differences(self) -> list[str]:
        """What Envoy should have and has not."""
        return World.differences(self)  # type: ignore[arg-type]  # the same two fields

    def state(self, type_url: str) -> SyncState:
        assert self.plane is not None
        return next(item.state for item in view_types(self.plane, self.now) if item.type_url == type_url)


A, EA, L, R = cluster("a"), endpoints("a"), listener("l", routes=["r"]), route("r", ["a"])
BASE = (A, EA, L, R)


def running(*items: Resource) -> Chain:
    """Everything connected and up to date."""
    chain = Chain(goal=resources(*items))
    chain.connect_plane()
    chain.connect_envoy()
    chain.quiesce()
    assert chain.differences() == []
    return chain


def test_envoy_gets_what_the_control_plane_offers() -> None:
    chain = running(*BASE)
    assert all(chain.state(url) is SyncState.SYNCED for url in (CLUSTER, ENDPOINT, LISTENER, ROUTE))
    assert not chain.copy.client.pending


def test_only_what_envoy_asks_for_is_asked_for() -> None:
    chain = running(*BASE, endpoints("unused"), route("unused", ["a"]))
    assert chain.copy.client.wanted(ENDPOINT) == {"a"}
    assert chain.copy.client.wanted(ROUTE) == {"r"}


def test_the_control_plane_hears_of_an_acceptance_only_from_envoy() -> None:
    chain = running(*BASE)
    chain.offer(resources(A, endpoints("a", "new"), L, R))
    while chain.step(0) or chain.step(1):
        pass
    assert chain.state(ENDPOINT) is SyncState.STALE
    chain.quiesce()
    assert chain.state(ENDPOINT) is SyncState.SYNCED


def test_without_an_envoy_everything_is_accepted_at_once() -> None:
    chain = running(*BASE)
    chain.lose_envoy()
    chain.offer(resources(A, endpoints("a", "new"), L, R))
    chain.quiesce()
    assert chain.state(ENDPOINT) is SyncState.SYNCED
    chain.connect_envoy(restarted=True)
    chain.quiesce()
    assert chain.differences() == []


def test_a_refusal_reaches_the_control_plane_with_its_name_and_reason() -> None:
    chain = running(*BASE, route("other"))
    bad = route("r", ["a"], "bad")
    chain.envoy.refuses.add((ROUTE, "r", bad.version))
    chain.offer(resources(A, EA, L, bad))
    chain.quiesce()
    assert chain.state(ROUTE) is SyncState.REJECTED
    assert chain.plane is not None
    (rejection,) = chain.plane.channels[ROUTE].rejected.values()
    assert (rejection.name, rejection.version) == ("r", bad.version)
    assert "cannot use r" in rejection.message
    assert [(item.resource.name, item.resource.version) for item in chain.copy.rows() if item.resource.name == "r"] == [
        ("r", R.version)
    ]


def test_among_many_only_the_guilty_one_is_refused_upstream() -> None:
    chain = running(*BASE)
    fresh = [cluster(name) for name in "bcd"]
    chain.envoy.refuses.add((CLUSTER, "c", fresh[1].version))
    chain.offer(resources(*BASE, *fresh))
    chain.quiesce()
    assert chain.plane is not None
    assert list(chain.plane.channels[CLUSTER].rejected) == ["c"]
    assert set(chain.envoy.held[CLUSTER]) == {"a", "b", "d"}
    assert set(chain.copy.client.held(CLUSTER)) == {"a", "b", "d"}


def test_what_a_restarted_envoy_refuses_gives_way_to_the_last_good_copy() -> None:
    chain = running(*BASE)
    chain.lose_envoy()
    bad = route("r", ["a"], "bad")
    chain.envoy.refuses.add((ROUTE, "r", bad.version))
    chain.offer(resources(A, EA, L, bad))
    chain.quiesce()
    assert chain.state(ROUTE) is SyncState.SYNCED  # nobody has looked yet
    assert sum(item.resource.name == "r" for item in chain.copy.rows()) == 2  # so both are stored
    chain.connect_envoy(restarted=True)
    chain.quiesce()
    assert chain.envoy.held[ROUTE]["r"].version == R.version
    assert chain.state(ROUTE) is SyncState.REJECTED
    chain.offer(resources(*BASE[:3], route("r", ["a"], "mended")))
    chain.quiesce()
    assert chain.differences() == []
    assert chain.state(ROUTE) is SyncState.SYNCED


def test_a_listener_that_fails_once_comes_back_by_itself() -> None:
    chain = running(*BASE)
    chain.envoy.refuses.add((LISTENER, "l", L.version))  # somebody else has its port
    chain.connect_envoy(restarted=True)
    chain.quiesce()
    assert "l" not in chain.envoy.held.get(LISTENER, {})
    chain.envoy.refuses.clear()
    chain.pass_time(400)
    chain.quiesce()
    chain.pass_time(400)
    chain.quiesce()
    assert chain.differences() == []
    assert chain.state(LISTENER) is SyncState.SYNCED


def test_a_restarted_envoy_is_served_while_the_control_plane_is_away() -> None:
    chain = running(*BASE)
    chain.lose_plane()
    chain.connect_envoy(restarted=True)
    chain.quiesce()
    assert chain.differences() == []


def test_a_restarted_agent_serves_what_was_stored_and_is_sent_nothing_twice() -> None:
    before = running(*BASE)
    stored = [Stored(bare(item.resource), item.verified) for item in before.copy.rows()]
    chain = Chain(goal=before.goal, copy=LastCopy(stored, lambda item: item, secrets=False), known=before.known)
    chain.connect_envoy(restarted=True)
    chain.quiesce()
    assert chain.differences() == []
    chain.connect_plane()
    sent = 0
    while chain.to_plane:
        chain.step(0)
        sent += len(chain.from_plane)
    assert sent == 0


def test_what_was_under_way_when_the_control_plane_went_is_kept() -> None:
    chain = running(*BASE)
    chain.offer(resources(A, endpoints("a", "new"), L, R))
    chain.step(1)
    chain.lose_plane()
    chain.quiesce()
    assert chain.envoy.held[ENDPOINT]["a"] == endpoints("a", "new")
    assert chain.copy.client.held(ENDPOINT)["a"] == bare(endpoints("a", "new"))


def test_names_that_a_new_envoy_does_not_ask_for_are_dropped_in_time() -> None:
    chain = running(*BASE)
    chain.lose_envoy()
    chain.offer(resources(A, EA))
    chain.quiesce()
    chain.connect_envoy(restarted=True)
    chain.quiesce()
    assert chain.copy.client.wanted(ROUTE) == {"r"}
    chain.to_plane += chain.copy.prune()
    assert chain.copy.client.wanted(ROUTE) == frozenset()
    assert [request.unsubscribe for request in chain.to_plane] == [("r",)]


def test_secrets_are_asked_for_when_somebody_wants_them() -> None:
    copy = LastCopy([], lambda item: item, secrets=True)
    assert [request.type_url for request in copy.client.connect()] == [CLUSTER, LISTENER, SECRET]
    secret = Resource(type_url=SECRET, name="kubernetes://x", version="1", body=b"")
    answers = copy.receive(Update(type_url=SECRET, nonce="1", changed=(secret,)), 0.0)
    assert answers == [Request(type_url=SECRET, nonce="1")]
    assert copy.goal.value is not None
    assert list(copy.goal.value.all_of(SECRET)) == [secret]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("offer"), goals()),
        st.tuples(st.just("step"), st.integers(0, 3)),
        st.tuples(st.just("step"), st.integers(0, 3)),
        st.tuples(st.just("step"), st.integers(0, 3)),
        st.tuples(st.just("time"), st.floats(0.01, 7)),
        st.tuples(
            st.just("event"),
            st.sampled_from(("connect_plane", "lose_plane", "connect_envoy", "lose_envoy", "restart_envoy")),
        ),
    ),
    max_size=60,
)


def run(chain: Chain, script: list[tuple[str, object]]) -> None:
    for what, argument in script:
        match what, argument:
            case "offer", Resources() as goal:
                chain.offer(goal)
            case "step", int() as which:
                chain.step(which)
            case "time", float() as seconds:
                chain.pass_time(seconds)
            case _, "restart_envoy":
                chain.connect_envoy(restarted=True)
            case _, str() as event:
                getattr(chain, event)()
    if chain.plane is None:
        chain.connect_plane()
    if chain.relay is None:
        chain.connect_envoy()
    chain.quiesce()


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(goals(), STEPS)
def test_envoy_converges_whatever_breaks_on_either_hop(start: Resources, script: list[tuple[str, object]]) -> None:
    chain = Chain(goal=start)
    run(chain, script)
    assert chain.differences() == []
    assert not chain.copy.client.pending


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(goals(), STEPS, st.data())
def test_what_envoy_refuses_is_known_upstream_and_all_else_arrives(
    start: Resources, script: list[tuple[str, object]], data: st.DataObject
) -> None:
    offers = [start, *(goal for _, goal in script if isinstance(goal, Resources))]
    everything = sorted(
        {(r.type_url, r.name, r.version) for goal in offers for url in goal.tables for r in goal.all_of(url)}
    )
    chain = Chain(goal=start)
    chain.envoy.refuses = data.draw(st.sets(st.sampled_from(everything), max_size=4))
    run(chain, script)
    assert chain.differences() == []
    assert chain.plane is not None
    for url, channel in chain.plane.channels.items():
        for name, item in channel.rejected.items():
            assert (url, name, item.version) in chain.envoy.refuses


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(goals(), st.lists(st.one_of(goals(), st.integers(0, 3), st.integers(0, 3)), max_size=60))
def test_the_order_holds_on_both_hops(start: Resources, script: list[Resources | int]) -> None:
    chain = Chain(goal=start)
    chain.connect_plane()
    chain.connect_envoy()
    for item in script:
        if isinstance(item, Resources):
            chain.offer(item)
        else:
            chain.step(item)
    chain.quiesce()
    assert chain.envoy.faults == []
    assert chain.differences() == []
