"""Whatever a network and a client do to the replies, the client ends with what was offered, and no request fails."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gossamer.core.resources import CLUSTER, ENDPOINT, EXTENSION, LISTENER, ROUTE, Resource, Resources
from gossamer.xds.batches import Batches
from gossamer.xds.messages import Request, Response
from gossamer.xds.stream import Stream
from tests.xds.model import CHILD, ModelEnvoy, cluster, endpoints, extension, listener, resources, route

NAMES = ("a", "b", "c", "d")
TCP = "tcp"


@st.composite
def goals(draw: st.DrawFn) -> Resources:
    """Clusters with endpoints, routes over some of them, listeners over routes, filters and clusters."""
    contents = st.sampled_from(("1", "2", "3"))
    names = draw(st.sets(st.sampled_from(NAMES), min_size=1))
    items: list[Resource] = []
    for name in sorted(names):
        items.append(cluster(name, draw(contents)))
        items += [endpoints(name, draw(contents))] if draw(st.booleans()) else []
    used = st.sets(st.sampled_from(sorted(names)))
    for name in ("r", "s"):
        items.append(route(name, draw(used), draw(contents)))
        if draw(st.booleans()):
            filters = draw(st.sets(st.sampled_from(("x", "y"))))
            items.append(listener(f"l-{name}", [name], filters=filters, content=draw(contents)))
    if draw(st.booleans()):
        items.append(listener(TCP, clusters=draw(used)))
    items += [extension(name, draw(contents)) for name in ("x", "y")]
    return resources(*items)


@dataclass(slots=True, kw_only=True)
class World:
    """One server, one client, and a network between them that keeps the order of what one side says of one type."""

    goal: Resources
    envoy: ModelEnvoy = field(default_factory=ModelEnvoy)
    now: float = 0.0
    stream: Stream = field(init=False)
    down: deque[Response] = field(default_factory=deque)
    up: list[Request] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.connect()

    def connect(self) -> None:
        """A new stream; what was under way is lost."""
        self.down.clear()
        self.stream = Stream(Batches(), drain_s=2)
        self.stream.offer(self.goal, self.now)
        self.up = self.envoy.connect()

    def offer(self, goal: Resources) -> None:
        self.goal = goal
        self.down += self.stream.offer(goal, self.now)

    def deliver_down(self) -> None:
        if self.down:
            self.up += self.envoy.receive(self.down.popleft())

    def deliver_up(self, index: int) -> None:
        """Requests of different types may overtake each other."""
        if self.up:
            chosen = self.up[index % len(self.up)].type_url
            first = next(i for i, request in enumerate(self.up) if request.type_url == chosen)
            self.down += self.stream.receive(self.up.pop(first), self.now)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.down += self.stream.tick(self.now)

    def quiesce(self) -> None:
        """Deliver everything, wait for everything but the rare retries of a refused listener."""
        end = self.now + 60
        for _ in range(2000):
            if self.down:
                self.deliver_down()
            elif self.up:
                self.deliver_up(0)
            elif (deadline := self.stream.deadline()) is not None and deadline < end:
                self.pass_time(max(0.001, deadline - self.now))
            else:
                return
        raise AssertionError("it never ends")

    def differences(self) -> list[str]:
        """What the client should have and has not, or the other way round; what it refused aside."""
        found = []
        refused = any((r.type_url, r.name, r.version) in self.envoy.refuses for r in self.goal.all_of(ROUTE))
        refused |= any((r.type_url, r.name, r.version) in self.envoy.refuses for r in self.goal.all_of(LISTENER))
        for url in (CLUSTER, ENDPOINT, LISTENER, ROUTE, EXTENSION):
            held = self.envoy.held.get(url, {})
            wanted = {resource.name: resource for resource in self.goal.all_of(url)}
            names = self.envoy.asked.get(url, frozenset()) if url in CHILD else held.keys() | wanted.keys()
            for name in names:
                goal, has = wanted.get(name), held.get(name)
                if goal is not None and (url, name, goal.version) in self.envoy.refuses:
                    continue
                if url in (CLUSTER, ROUTE) and goal is None and refused:
                    continue  # what is in use instead of what was refused may name it
                if has != goal and not (url == ENDPOINT and goal is None):
                    found.append(f"{url} {name}: has {has}, should have {goal}")
        return found


steps = st.lists(
    st.one_of(
        st.tuples(st.just("offer"), goals()),
        st.tuples(st.just("down"), st.just(0)),
        st.tuples(st.just("down"), st.just(0)),
        st.tuples(st.just("up"), st.integers(0, 4)),
        st.tuples(st.just("up"), st.integers(0, 4)),
        st.tuples(st.just("time"), st.floats(0.01, 7)),
        st.tuples(st.just("cut"), st.just(0)),
    ),
    max_size=60,
)


def run(world: World, script: list[tuple[str, object]]) -> None:
    for what, argument in script:
        match what, argument:
            case "offer", Resources() as goal:
                world.offer(goal)
            case "down", _:
                world.deliver_down()
            case "up", int() as index:
                world.deliver_up(index)
            case "time", float() as seconds:
                world.pass_time(seconds)
            case _:
                world.connect()
    world.quiesce()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(goals(), steps)
def test_a_client_converges(start: Resources, script: list[tuple[str, object]]) -> None:
    world = World(goal=start)
    run(world, script)
    assert world.differences() == []


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(goals(), steps, st.data())
def test_a_client_that_refuses_things_gets_everything_else(
    start: Resources, script: list[tuple[str, object]], data: st.DataObject
) -> None:
    offers = [start, *(goal for _, goal in script if isinstance(goal, Resources))]
    everything = sorted(
        {(r.type_url, r.name, r.version) for goal in offers for url in goal.tables for r in goal.all_of(url)}
    )
    refuses = data.draw(st.sets(st.sampled_from(everything), max_size=4))
    world = World(goal=start, envoy=ModelEnvoy(refuses=refuses))
    run(world, script)
    assert world.differences() == []


orderly = st.lists(
    st.one_of(
        st.tuples(st.just("offer"), goals()),
        st.tuples(st.just("down"), st.just(0)),
        st.tuples(st.just("down"), st.just(0)),
        st.tuples(st.just("up"), st.just(0)),
        st.tuples(st.just("up"), st.just(0)),
    ),
    max_size=60,
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(goals(), orderly)
def test_no_route_ever_names_a_cluster_that_is_not_there(start: Resources, script: list[tuple[str, object]]) -> None:
    """As long as replies come within the bound of the waits, since after it a stuck cluster stalls nobody any more."""
    world = World(goal=start)
    run(world, script)
    assert world.envoy.faults == []
    assert world.differences() == []
