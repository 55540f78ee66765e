"""The rules of delta xDS, one by one, on the state machine alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from gossamer.core.frozen import FrozenMap
from gossamer.core.resources import CLUSTER, ENDPOINT, EXTENSION, LISTENER, ROUTE, Resource, Resources, Table
from gossamer.xds.batches import LIMIT, Batches
from gossamer.xds.messages import Request, Response
from gossamer.xds.status import SyncState, view_types
from gossamer.xds.stream import Stream
from gossamer.xds.wire import empty_assignment
from tests.xds.model import cluster, endpoints, extension, listener, resource, resources, route


class Talk:
    """A stream and a client that answers when the test says so."""

    def __init__(
        self,
        goal: Resources | None = None,
        *,
        drain_s: float = 10,
        partial: Callable[[], bool] | None = None,
    ) -> None:
        self.stream = Stream(Batches(), drain_s=drain_s, partial=partial)
        self.now = 0.0
        self.sent: list[Response] = []
        if goal is not None:
            self.offer(goal)

    def offer(self, goal: Resources) -> list[str]:
        return self._note(self.stream.offer(goal, self.now))

    def ask(self, url: str, *names: str, held: dict[str, str] | None = None, drop: Iterable[str] = ()) -> list[str]:
        request = Request(
            type_url=url, subscribe=names, unsubscribe=tuple(drop), initial_versions=FrozenMap(held or {})
        )
        return self._note(self.stream.receive(request, self.now))

    def ack(self, url: str) -> list[str]:
        """Acknowledge the oldest open response of a type."""
        return self._answer(url, None)

    def nack(self, url: str, error: str = "no") -> list[str]:
        return self._answer(url, error)

    def later(self, seconds: float) -> list[str]:
        self.now += seconds
        return self._note(self.stream.tick(self.now))

    def _answer(self, url: str, error: str | None) -> list[str]:
        nonce = next(iter(self.stream.channels[url].flights))
        return self._note(self.stream.receive(Request(type_url=url, nonce=nonce, error=error), self.now))

    def _note(self, responses: list[Response]) -> list[str]:
        self.sent += responses
        return [describe(response) for response in responses]

    def settle(self) -> list[str]:
        """Acknowledge whatever comes until nothing does."""
        said: list[str] = []
        while url := next((url for url, channel in self.stream.channels.items() if channel.flights), None):
            said += self.ack(url)
        return said

    def state(self, url: str) -> SyncState:
        return next(item.state for item in view_types(self.stream, self.now) if item.type_url == url)


SHORT = {CLUSTER: "cds", ENDPOINT: "eds", LISTENER: "lds", ROUTE: "rds", EXTENSION: "ecds"}


def describe(response: Response) -> str:
    """Such as `cds a b -c`; an empty assignment is `a()`."""
    names = [r.name + ("()" if r == empty_assignment(r.name) else "") for r in response.resources]
    return " ".join(
        [SHORT.get(response.type_url, response.type_url), *names, *(f"-{name}" for name in response.removed)]
    )


def connected(*items: Resource, **options: float) -> Talk:
    """A client that has everything in `items` and has said so."""
    talk = Talk(resources(*items), drain_s=options.get("drain_s", 10))
    talk.ask(CLUSTER)
    named = {url: [r.name for r in items if r.type_url == url] for url in (ENDPOINT, ROUTE, EXTENSION)}
    talk.ask(ENDPOINT, *named[ENDPOINT])
    talk.settle()
    talk.ask(LISTENER)
    talk.ask(ROUTE, *named[ROUTE])
    talk.ask(EXTENSION, *named[EXTENSION])
    talk.settle()
    talk.sent.clear()
    return talk


A, EA, B, EB = cluster("a"), endpoints("a"), cluster("b"), endpoints("b")
L, R = listener("l", routes=["r"]), route("r", ["a"])
BASE = (A, EA, L, R)


def test_a_new_client_gets_what_it_asks_for() -> None:
    talk = Talk(resources(*BASE))
    assert talk.ask(CLUSTER) == ["cds a"]
    assert talk.ask(ENDPOINT, "a") == ["eds a"]
    assert talk.ack(CLUSTER) == []
    assert talk.ask(LISTENER) == ["lds l"]
    assert talk.ask(ROUTE, "r") == ["rds r"]
    talk.settle()
    assert all(talk.state(url) is SyncState.SYNCED for url in (CLUSTER, ENDPOINT, LISTENER, ROUTE))
    assert talk.state(EXTENSION) is SyncState.NOT_SENT


def test_nothing_is_said_before_there_is_something_to_offer() -> None:
    talk = Talk()
    assert talk.ask(CLUSTER) == []
    assert talk.ask(LISTENER) == []
    assert talk.offer(resources()) == ["cds", "lds"]


def test_an_equal_offer_says_nothing() -> None:
    talk = connected(*BASE)
    assert talk.offer(resources(*BASE)) == []
    assert talk.offer(resources(cluster("a"), endpoints("a"), listener("l", routes=["r"]), route("r", ["a"]))) == []


def test_a_change_says_only_what_changed() -> None:
    talk = connected(*BASE, B, EB)
    assert talk.offer(resources(*BASE, B, endpoints("b", "new"))) == ["eds b"]


def test_a_change_that_is_undone_before_it_is_sent_says_nothing() -> None:
    talk = connected(*BASE)
    talk.offer(resources(cluster("a", "new"), EA, L, R))
    assert talk.offer(resources(cluster("a", "new"), EA, L, route("r", ["a"], "new"))) == []  # waits for the cluster
    assert talk.offer(resources(cluster("a", "new"), EA, L, R)) == []
    assert talk.settle() == []


def test_a_name_that_moves_between_tables_says_nothing() -> None:
    talk = connected(*BASE)
    own = resources(*BASE).tables
    moved = Resources(tables=FrozenMap({**own, CLUSTER: (Table(CLUSTER), Table(CLUSTER, [A]))}))
    assert talk.offer(moved) == []


class TestRule1ClusterThenEndpoints:
    def test_a_changed_cluster_is_followed_by_its_endpoints_unchanged_or_not(self) -> None:
        talk = connected(*BASE)
        assert talk.offer(resources(cluster("a", "new"), EA, L, R)) == ["cds a", "eds a"]

    def test_the_endpoints_are_those_that_the_cluster_names(self) -> None:
        talk = connected(cluster("a", endpoint="service"), endpoints("service"), L, R)
        changed = cluster("a", "new", endpoint="service")
        assert talk.offer(resources(changed, endpoints("service"), L, R)) == ["cds a", "eds service"]

    def test_a_cluster_of_unknown_content_is_followed_by_the_endpoints_of_its_name(self) -> None:
        bare = Resource(type_url=CLUSTER, name="a", version="1", body=b"")
        talk = connected(*BASE)
        assert talk.offer(resources(bare, EA, L, R)) == ["cds a", "eds a"]

    def test_a_second_change_does_not_wait_for_the_first_to_be_acknowledged(self) -> None:
        talk = connected(*BASE)
        talk.offer(resources(cluster("a", "1"), EA, L, R))
        assert talk.offer(resources(cluster("a", "2"), EA, L, R)) == ["cds a", "eds a"]

    def test_after_a_reconnect_a_changed_cluster_gets_endpoints_that_the_client_holds(self) -> None:
        talk = Talk(resources(cluster("a", "new"), EA, L, R))
        assert talk.ask(CLUSTER, held={"a": A.version}) == ["cds a"]
        assert talk.ask(ENDPOINT, "a", held={"a": EA.version}) == ["eds a"]

    def test_large_answers_come_in_parts_each_with_its_endpoints(self) -> None:
        half = "x" * (LIMIT * 2 // 3)
        talk = connected(*BASE, B, EB)
        changed = (cluster("a", half), EA, cluster("b", half), EB, L, R)
        assert talk.offer(resources(*changed)) == ["cds a", "eds a", "cds b", "eds b"]


class TestRule2EveryEndpointNameIsAnswered:
    def test_an_unknown_name_gets_an_empty_assignment(self) -> None:
        talk = Talk(resources(*BASE))
        talk.ask(CLUSTER)
        assert talk.ask(ENDPOINT, "a", "nobody") == ["eds a nobody()"]

    def test_a_name_that_goes_becomes_an_empty_assignment(self) -> None:
        talk = connected(*BASE)
        assert talk.offer(resources(A, L, R)) == ["eds a()"]

    def test_a_name_asked_for_later_is_answered(self) -> None:
        talk = connected(*BASE)
        assert talk.ask(ENDPOINT, "nobody") == ["eds nobody()"]

    def test_a_name_asked_for_again_is_answered_again(self) -> None:
        talk = connected(*BASE)
        assert talk.ask(ENDPOINT, "a") == ["eds a"]

    def test_a_name_dropped_and_asked_for_again_is_answered_again(self) -> None:
        talk = connected(*BASE)
        assert talk.ask(ENDPOINT, drop=["a"]) == []
        assert talk.offer(resources(A, endpoints("a", "new"), L, R)) == []
        assert talk.ask(ENDPOINT, "a") == ["eds a"]

    def test_an_unknown_route_is_said_to_be_gone(self) -> None:
        talk = connected(*BASE)
        assert talk.ask(ROUTE, "nobody") == ["rds -nobody"]

    def test_who_offers_only_a_part_stays_silent_about_the_rest(self) -> None:
        talk = Talk(resources(*BASE), partial=lambda: False)
        talk.ask(CLUSTER)
        assert talk.ask(ENDPOINT, "a", "nobody") == ["eds a"]
        assert talk.offer(resources(*BASE, endpoints("nobody"))) == ["eds nobody"]

    def test_who_offers_only_a_part_takes_nothing_back_that_it_does_not_know(self) -> None:
        slot, other = extension("policy"), extension("other")
        talk = Talk(resources(*BASE, other), partial=lambda: False)
        held = {"policy": slot.version, "other": other.version}
        assert talk.ask(EXTENSION, "policy", "other", held=held) == []
        assert talk.later(60) == []
        assert talk.offer(resources(*BASE, other, slot)) == ["ecds policy"]
        talk.settle()
        assert talk.offer(resources(*BASE, other)) == ["ecds -policy"]

    def test_a_client_that_may_hold_newer_things_keeps_them_until_what_is_offered_changes(self) -> None:
        talk = Talk(resources(*BASE), partial=lambda: True)
        assert talk.ask(LISTENER, held={"l": "newer", "more": "x"}) == []
        assert talk.ask(CLUSTER, held={"a": "newer", "b": "x"}) == []
        assert talk.ask(ENDPOINT, "a", held={"a": "newer"}) == []
        assert talk.later(60) == []
        assert talk.offer(resources(*BASE[:1], endpoints("a", "new"), *BASE[2:])) == ["eds a"]

    def test_who_offers_only_a_part_stays_silent_about_a_type(self) -> None:
        talk = Talk(Resources(tables=FrozenMap({CLUSTER: (Table(CLUSTER, [A]),)})), partial=lambda: False)
        assert talk.ask(CLUSTER) == ["cds a"]
        assert talk.ask(LISTENER) == []


class TestRule3RoutesWaitForTheirClusters:
    def test_a_route_waits_for_its_new_cluster(self) -> None:
        talk = connected(*BASE)
        assert talk.offer(resources(*BASE[:3], B, EB, route("r", ["a", "b"]))) == ["cds b"]
        assert talk.ask(ENDPOINT, "b") == ["eds b"]
        assert talk.ack(ENDPOINT) == []
        assert talk.ack(CLUSTER) == ["rds r"]

    def test_a_listener_waits_for_its_new_cluster(self) -> None:
        talk = connected(*BASE)
        fresh = (*BASE, B, EB, listener("tcp", clusters=["b"]))
        assert talk.offer(resources(*fresh)) == ["cds b"]
        talk.ask(ENDPOINT, "b")
        assert talk.ack(CLUSTER) == ["lds tcp"]

    def test_another_route_does_not_wait(self) -> None:
        talk = connected(*BASE, route("other", ["a"]))
        fresh = (A, EA, L, B, EB, route("r", ["b"]), route("other", ["a"], "new"))
        assert talk.offer(resources(*fresh)) == ["cds b", "rds other"]

    def test_the_wait_has_a_bound(self) -> None:
        talk = connected(*BASE)
        talk.offer(resources(*BASE[:3], B, EB, route("r", ["b"])))
        assert talk.stream.deadline() == pytest.approx(5.0)
        assert talk.later(4.9) == []
        assert talk.later(0.2) == ["rds r"]

    def test_a_cluster_that_never_warms_delays_only_once(self) -> None:
        talk = connected(*BASE)
        talk.offer(resources(*BASE[:3], B, EB, route("r", ["b"])))
        talk.later(5.1)
        talk.ack(ROUTE)
        assert talk.offer(resources(*BASE[:3], B, EB, route("r", ["b"], "new"))) == ["rds r"]

    def test_a_first_answer_waits_too_and_is_not_an_empty_one(self) -> None:
        talk = Talk(resources(A, EA, listener("l", clusters=["a"])))
        talk.ask(CLUSTER)
        assert talk.ask(LISTENER) == []
        assert talk.ack(CLUSTER) == ["lds l"]

    def test_what_may_name_anything_waits_for_all_clusters(self) -> None:
        talk = connected(*BASE)
        bare = Resource(type_url=ROUTE, name="r", version="1", body=b"")
        assert talk.offer(resources(*BASE[:3], B, EB, bare)) == ["cds b"]
        assert talk.ack(CLUSTER) == ["rds r"]

    def test_a_policy_of_unknown_content_does_not_wait(self) -> None:
        talk = connected(*BASE, extension("deny"))
        bare = Resource(type_url=EXTENSION, name="deny", version="1", body=b"")
        assert talk.offer(resources(*BASE, B, EB, bare)) == ["cds b", "ecds deny"]

    def test_what_has_requests_decided_by_another_filter_goes_after_it(self) -> None:
        def asking(content: str) -> tuple[Resource, Resource]:
            named = [(EXTENSION, "authorizer")]
            return resource(EXTENSION, "ask", content, named), resource(EXTENSION, "authorizer", content, ())

        talk = connected(*BASE, extension("ask"), extension("authorizer"))
        assert talk.offer(resources(*BASE, *asking("new"))) == ["ecds authorizer"]
        assert talk.ack(EXTENSION) == ["ecds ask"]
        talk.settle()
        nobody = (resource(EXTENSION, "ask", "denies", ()), resource(EXTENSION, "authorizer", "empty", ()))
        assert talk.offer(resources(*BASE, *nobody)) == ["ecds ask", "ecds authorizer"]
        talk.settle()
        assert talk.offer(resources(*BASE, *asking("newer"))) == ["ecds authorizer"]
        assert talk.later(5.1) == ["ecds ask"], "within a bound"

    def test_a_refused_cluster_holds_up_nobody(self) -> None:
        talk = connected(*BASE)
        talk.offer(resources(*BASE[:3], B, EB, route("r", ["a", "b"])))
        assert talk.nack(CLUSTER) == ["rds r"]


class TestRule4ListenerBeforeTheRouteThatConfiguresItsFilter:
    def test_a_route_waits_for_its_listener(self) -> None:
        talk = connected(*BASE)
        fresh = resources(A, EA, listener("l", routes=["r"], content="filter"), route("r", ["a"], "filter"))
        assert talk.offer(fresh) == ["lds l"]
        assert talk.ack(LISTENER) == ["rds r"]

    def test_a_route_of_another_listener_does_not_wait(self) -> None:
        other = listener("m", routes=["s"])
        talk = connected(*BASE, other, route("s", ["a"]))
        changed = (A, EA, listener("l", routes=["r"], content="new"), other, R, route("s", ["a"], "new"))
        assert talk.offer(resources(*changed)) == ["lds l", "rds s"]

    def test_a_listener_gets_its_first_routes_without_waiting(self) -> None:
        talk = connected(*BASE)
        talk.offer(resources(*BASE, listener("m", routes=["s"]), route("s", ["a"])))
        assert talk.ask(ROUTE, "s") == ["rds s"]  # its listener is not acknowledged yet

    def test_the_wait_has_a_bound(self) -> None:
        talk = connected(*BASE)
        talk.offer(resources(A, EA, listener("l", routes=["r"], content="new"), route("r", ["a"], "new")))
        assert talk.later(5.1) == ["rds r"]


class TestRule5ClustersGoLast:
    def test_a_cluster_goes_after_the_route_that_dropped_it_is_acknowledged(self) -> None:
        talk = connected(A, EA, B, EB, L, route("r", ["a", "b"]))
        assert talk.offer(resources(*BASE)) == ["rds r"]
        assert talk.ack(ROUTE) == ["cds -b"]

    def test_its_endpoints_stay_until_then(self) -> None:
        talk = connected(A, EA, B, EB, L, route("r", ["a", "b"]))
        talk.offer(resources(*BASE))
        assert talk.ack(ROUTE) == ["cds -b"]
        assert talk.ack(CLUSTER) == ["eds b()"]  # a client that wants them still is answered

    def test_an_envoy_drops_its_endpoints_with_the_cluster(self) -> None:
        talk = connected(A, EA, B, EB, L, route("r", ["a", "b"]))
        talk.offer(resources(*BASE))
        talk.ack(ROUTE)
        assert talk.ask(ENDPOINT, drop=["b"]) == []
        assert talk.ack(CLUSTER) == []

    def test_a_cluster_that_a_listener_dropped_goes_after_the_drain_time(self) -> None:
        tcp = listener("tcp", clusters=["b"])
        talk = connected(*BASE, B, EB, tcp)
        assert talk.offer(resources(*BASE)) == ["lds -tcp"]
        assert talk.ack(LISTENER) == []
        assert talk.later(9.9) == []
        assert talk.later(0.2) == ["cds -b"]

    def test_a_changed_listener_drains_what_it_named(self) -> None:
        talk = connected(*BASE, B, EB, listener("tcp", clusters=["b"]))
        assert talk.offer(resources(*BASE, listener("tcp", clusters=["a"]))) == ["lds tcp"]
        talk.ack(LISTENER)
        assert talk.later(9.9) == []
        assert talk.later(0.2) == ["cds -b"]

    def test_the_drain_starts_when_the_new_listener_has_its_routes(self) -> None:
        talk = connected(*BASE, B, EB, listener("m", routes=["s"]), route("s", ["b"]))
        talk.offer(resources(*BASE, listener("m", routes=["s2"]), route("s2", ["a"])))
        talk.ack(LISTENER)
        talk.now = 3.0
        assert talk.ask(ROUTE, "s2") == ["rds s2"]
        talk.ack(ROUTE)
        assert talk.later(9.9) == []
        assert talk.later(0.2) == ["rds -s"]
        assert talk.ack(ROUTE) == ["cds -b"]

    def test_a_route_that_the_client_dropped_holds_up_nothing(self) -> None:
        talk = connected(*BASE, B, EB, listener("m", routes=["s"]), route("s", ["b"]))
        talk.offer(resources(*BASE))
        talk.ack(LISTENER)
        assert talk.ask(ROUTE, drop=["s"]) == ["cds -b"]  # its last connection has ended

    def test_routes_of_a_draining_listener_stay_and_with_them_their_clusters(self) -> None:
        talk = connected(*BASE, B, EB, listener("m", routes=["s"]), route("s", ["b"]))
        assert talk.offer(resources(*BASE)) == ["lds -m"]
        assert talk.ack(LISTENER) == []
        assert talk.later(10.1) == ["rds -s"]
        assert talk.ack(ROUTE) == ["cds -b"]

    def test_a_refused_route_keeps_the_clusters_of_the_one_in_use(self) -> None:
        talk = connected(A, EA, B, EB, L, route("r", ["a", "b"]))
        talk.offer(resources(*BASE))
        assert talk.nack(ROUTE) == []
        assert talk.later(100) == []
        assert talk.offer(resources(A, EA, L, route("r", ["a"], "mended"))) == ["rds r"]
        assert "cds -b" in talk.ack(ROUTE)

    def test_a_listener_is_not_removed_before_the_one_in_its_place_can_come(self) -> None:
        talk = connected(*BASE)
        fresh = (B, EB, listener("l2", clusters=["b"]))
        assert talk.offer(resources(*fresh)) == ["cds b"]
        talk.ask(ENDPOINT, "b")
        assert talk.ack(CLUSTER) == ["lds l2 -l"]

    def test_a_cluster_that_comes_back_is_not_removed(self) -> None:
        talk = connected(A, EA, B, EB, L, route("r", ["a", "b"]))
        talk.offer(resources(*BASE))
        talk.offer(resources(A, EA, B, EB, L, route("r", ["a", "b"])))
        assert "cds" not in " ".join(talk.settle())

    def test_what_a_reconnecting_client_should_not_hold_goes_after_its_routes(self) -> None:
        talk = Talk(resources(*BASE), drain_s=1)
        assert talk.ask(CLUSTER, held={"a": A.version, "b": B.version}) == []
        assert talk.ask(LISTENER, held={"l": L.version}) == []
        assert talk.ask(ROUTE, "r", held={"r": "old"}) == ["rds r"]
        assert talk.later(5.1) == []
        assert talk.ack(ROUTE) == ["cds -b"]


class TestRule6Reconnecting:
    HELD = {"a": A.version}

    def test_a_client_that_has_everything_is_sent_nothing(self) -> None:
        talk = Talk(resources(*BASE))
        assert talk.ask(CLUSTER, held=self.HELD) == []
        assert talk.ask(ENDPOINT, "a", held={"a": EA.version}) == []
        assert talk.ask(LISTENER, held={"l": L.version}) == []
        assert talk.ask(ROUTE, "r", held={"r": R.version}) == []

    def test_it_is_sent_what_changed_meanwhile(self) -> None:
        talk = Talk(resources(A, endpoints("a", "new"), L, R))
        assert talk.ask(CLUSTER, held=self.HELD) == []
        assert talk.ask(ENDPOINT, "a", held={"a": EA.version}) == ["eds a"]

    def test_endpoints_without_clusters_are_sent_again(self) -> None:
        talk = Talk(resources(*BASE))
        assert talk.ask(ENDPOINT, "a", held={"a": EA.version}) == ["eds a"]

    def test_the_same_when_the_offer_comes_after_the_client(self) -> None:
        talk = Talk()
        talk.ask(CLUSTER, held=self.HELD)
        talk.ask(ENDPOINT, "a", held={"a": EA.version})
        assert talk.offer(resources(*BASE)) == []
        talk = Talk()
        talk.ask(CLUSTER, held=self.HELD)
        talk.ask(ENDPOINT, "a", held={"a": EA.version})
        assert talk.offer(resources(cluster("a", "new"), EA, L, R)) == ["cds a", "eds a"]


class TestRule7OneGuiltyAmongMany:
    def refused(self) -> Talk:
        talk = connected(*BASE, B, EB)
        changed = (cluster("a", "bad"), EA, cluster("b", "good"), EB, L, R)
        assert talk.offer(resources(*changed)) == ["cds a b", "eds a b"]
        assert talk.nack(CLUSTER, "a is bad") == ["cds a", "eds a", "cds b", "eds b"]
        return talk

    def test_everything_is_sent_again_one_by_one_and_the_guilty_one_is_kept_back(self) -> None:
        talk = self.refused()
        assert talk.nack(CLUSTER, "a is bad") == []
        assert talk.settle() == []
        assert talk.state(CLUSTER) is SyncState.REJECTED
        (rejection,) = talk.stream.rejections
        assert (rejection.name, rejection.message) == ("a", "a is bad")

    def test_the_origin_is_named(self) -> None:
        from gossamer.core.ids import Origin, ResourceId

        origin = Origin(resource=ResourceId(kind="VirtualService", namespace="n", name="v"), rule="spec.http[0]")
        bad = Resource(type_url=ROUTE, name="r", version="2", body=b"", references=frozenset(), origins=(origin,))
        talk = connected(*BASE)
        talk.offer(resources(A, EA, L, bad))
        talk.nack(ROUTE)
        assert talk.stream.rejections[0].origins == (origin,)

    def test_the_refused_version_is_not_sent_again(self) -> None:
        talk = self.refused()
        talk.nack(CLUSTER)
        talk.settle()
        changed = (cluster("a", "bad"), EA, cluster("b", "good"), endpoints("b", "new"), L, R)
        assert talk.offer(resources(*changed)) == ["eds b"]

    def test_another_version_is_tried(self) -> None:
        talk = self.refused()
        talk.nack(CLUSTER)
        talk.settle()
        mended = (cluster("a", "mended"), EA, cluster("b", "good"), EB, L, R)
        assert talk.offer(resources(*mended)) == ["cds a", "eds a"]
        talk.settle()
        assert talk.state(CLUSTER) is SyncState.SYNCED

    def test_going_back_to_what_the_client_has_ends_the_matter(self) -> None:
        talk = self.refused()
        talk.nack(CLUSTER)
        talk.settle()
        talk.offer(resources(A, EA, cluster("b", "good"), EB, L, R))
        talk.settle()
        assert talk.state(CLUSTER) is SyncState.SYNCED

    def test_a_version_sent_meanwhile_is_judged_by_itself(self) -> None:
        talk = connected(*BASE)
        talk.offer(resources(A, EA, L, route("r", ["a"], "bad")))
        talk.offer(resources(A, EA, L, route("r", ["a"], "good")))
        assert talk.nack(ROUTE) == []
        assert talk.settle() == []
        assert talk.state(ROUTE) is SyncState.SYNCED

    def test_refused_twice_the_client_still_has_the_first(self) -> None:
        talk = connected(*BASE)
        talk.offer(resources(A, EA, L, route("r", ["a"], "bad")))
        talk.offer(resources(A, EA, L, route("r", ["a"], "worse")))
        talk.nack(ROUTE)
        talk.nack(ROUTE)
        assert talk.offer(resources(A, EA, L, route("r", ["a"], "bad"))) == ["rds r"]

    def test_a_refused_removal_is_not_repeated_for_ever(self) -> None:
        talk = connected(*BASE, B, EB)
        assert talk.offer(resources(*BASE)) == ["cds -b"]
        assert talk.nack(CLUSTER) == ["eds b()"]

    def test_a_refused_listener_is_tried_again_ever_more_rarely(self) -> None:
        talk = connected(*BASE)
        talk.offer(resources(A, EA, R, listener("l", ["r"], content="port in use")))
        talk.nack(LISTENER)
        assert talk.later(9.9) == []
        assert talk.later(0.2) == ["lds l"]
        talk.nack(LISTENER)
        assert talk.later(19.9) == []
        assert talk.later(0.2) == ["lds l"]
        assert len(talk.stream.rejections) == 1  # told once
        talk.settle()
        assert talk.state(LISTENER) is SyncState.SYNCED

    def test_a_refused_route_is_not_tried_again(self) -> None:
        talk = connected(*BASE)
        talk.offer(resources(A, EA, L, route("r", ["a"], "bad")))
        talk.nack(ROUTE)
        assert talk.later(1000) == []

    def test_asking_again_tries_a_refused_version_again(self) -> None:
        talk = connected(*BASE)
        talk.offer(resources(A, EA, L, route("r", ["a"], "bad")))
        talk.nack(ROUTE)
        assert talk.ask(ROUTE, "r") == ["rds r"]


class TestRule8OneSlotAResponse:
    def test_every_slot_has_a_response_of_its_own(self) -> None:
        talk = connected(*BASE, extension("x"), extension("y"))
        assert talk.offer(resources(*BASE, extension("x", "1"), extension("y", "1"))) == ["ecds x", "ecds y"]

    def test_a_slot_is_not_taken_away_from_a_draining_listener(self) -> None:
        talk = connected(A, EA, R, listener("l", routes=["r"], filters=["x"]), extension("x"))
        talk.offer(resources(*BASE))
        assert talk.ack(LISTENER) == []
        assert talk.later(9.9) == []
        assert talk.later(0.2) == ["ecds -x"]


def test_a_slow_client_is_sent_the_newest_only() -> None:
    talk = connected(*BASE)
    for number in range(300):
        talk.offer(resources(A, endpoints("a", str(number)), L, R))
    assert len(talk.sent) == 256  # the window
    talk.ack(ENDPOINT)
    assert talk.sent[-1].resources[0] == endpoints("a", "299")
    assert len(talk.sent) == 257


def test_wildcard_may_be_spelled_out_and_ended() -> None:
    talk = Talk(resources(A, EA, B, EB))
    assert talk.ask(CLUSTER, "*") == ["cds a b"]
    talk.ask(CLUSTER, drop=["*"])
    assert talk.offer(resources(cluster("a", "new"), EA, B, EB)) == []


def test_an_unknown_type_is_answered_like_any_other() -> None:
    url = "type.googleapis.com/some.Thing"
    thing = resource(url, "x", "", ())
    goal = Resources(tables=FrozenMap({url: (Table(url, [thing]),)}))
    assert [r.resources for r in _asked(goal, url, "x")] == [(thing,)]


def test_a_client_cannot_make_the_server_remember_types_without_end() -> None:
    talk = Talk(resources())
    for number in range(1000):
        talk.ask(f"type.googleapis.com/x{number}", "name")
    assert len(talk.stream.channels) <= 32


def _asked(goal: Resources, url: str, *names: str) -> list[Response]:
    talk = Talk(goal)
    talk.ask(url, *names)
    return talk.sent
