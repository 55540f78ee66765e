"""The client's side, against a real server's side."""

from __future__ import annotations

from gossamer.core.resources import CLUSTER, ENDPOINT, ROUTE, Resource, Resources
from gossamer.xds.batches import Batches
from gossamer.xds.client import Client, Update
from gossamer.xds.messages import Request, Response
from gossamer.xds.stream import Stream
from tests.xds.model import cluster, endpoints, resources, route

A, EA, R = cluster("a"), endpoints("a"), route("r", ["a"])


class Pair:
    """A client and a server with nothing between them."""

    def __init__(self, goal: Resources, client: Client | None = None) -> None:
        self.client = client or Client()
        self.stream = Stream(Batches(), drain_s=1)
        self.stream.offer(goal, 0)
        self.got: list[Update] = []

    def say(self, requests: list[Request]) -> list[Update]:
        """What the server answers."""
        return self.take([response for request in requests for response in self.stream.receive(request, 0)])

    def take(self, responses: list[Response]) -> list[Update]:
        updates = [
            Update(type_url=r.type_url, nonce=r.nonce, changed=r.resources, removed=r.removed) for r in responses
        ]
        for update in updates:
            self.client.receive(update)
        self.got += updates
        return updates


def names(updates: list[Update]) -> list[str]:
    return [resource.name for update in updates for resource in update.changed]


def test_subscribing_by_name_and_by_wildcard() -> None:
    pair = Pair(resources(A, EA, R))
    assert names(pair.say(pair.client.subscribe(CLUSTER, ["*"]))) == ["a"]
    assert names(pair.say(pair.client.subscribe(ENDPOINT, ["a"]))) == ["a"]
    assert pair.client.subscribe(ENDPOINT, ["a"]) == []


def test_an_update_is_held_only_when_it_is_accepted() -> None:
    pair = Pair(resources(A))
    (update,) = pair.say(pair.client.subscribe(CLUSTER, ["*"]))
    assert pair.client.held(CLUSTER) == {}
    assert list(pair.client.pending) == [update.nonce]
    pair.say(pair.client.ack(update.nonce))
    assert pair.client.held(CLUSTER) == {"a": A}
    assert not pair.client.pending
    assert pair.client.ack(update.nonce) == []


def test_a_refused_update_is_not_held_but_what_was_good_in_it_is() -> None:
    pair = Pair(resources(A, cluster("b")))
    (update,) = pair.say(pair.client.subscribe(CLUSTER, ["*"]))
    again = pair.say(pair.client.nack(update.nonce, "b: no", accepted=["a"]))
    assert set(pair.client.held(CLUSTER)) == {"a"}
    assert [names([item]) for item in again] == [["a"], ["b"]]
    pair.say(pair.client.ack(again[0].nonce))
    pair.say(pair.client.nack(again[1].nonce, "b: no"))
    assert [item.name for item in pair.stream.rejections] == ["b"]
    assert pair.stream.rejections[0].message == "b: no"


def test_a_reconnect_asks_only_for_what_differs() -> None:
    pair = Pair(resources(A, EA, R))
    for url, name in ((CLUSTER, "*"), (ENDPOINT, "a"), (ROUTE, "r")):
        for update in pair.say(pair.client.subscribe(url, [name])):
            pair.say(pair.client.ack(update.nonce))
    fresh = Pair(resources(A, endpoints("a", "new"), R), pair.client)
    requests = fresh.client.connect()
    assert [request.type_url for request in requests] == [CLUSTER, ENDPOINT, ROUTE]
    assert [update.type_url for update in fresh.say(requests)] == [ENDPOINT]


def test_what_was_pending_can_be_accepted_after_its_stream_is_lost() -> None:
    pair = Pair(resources(A))
    pair.say(pair.client.subscribe(CLUSTER, ["*"]))
    assert pair.client.connect()[0].initial_versions == {}
    (key,) = pair.client.pending
    assert pair.client.ack(key) == []  # nobody waits for it
    assert pair.client.held(CLUSTER) == {"a": A}
    assert pair.client.connect()[0].initial_versions == {"a": A.version}


def test_names_that_are_dropped_are_forgotten() -> None:
    pair = Pair(resources(A, EA))
    (update,) = pair.say(pair.client.subscribe(ENDPOINT, ["a"]))
    pair.say(pair.client.ack(update.nonce))
    (request,) = pair.client.unsubscribe(ENDPOINT, ["a", "never"])
    assert request.unsubscribe == ("a",)
    assert pair.client.held(ENDPOINT) == {}


def test_an_update_of_a_name_dropped_meanwhile_is_not_held() -> None:
    pair = Pair(resources(A, EA))
    (update,) = pair.say(pair.client.subscribe(ENDPOINT, ["a"]))
    pair.client.unsubscribe(ENDPOINT, ["a"])
    pair.client.ack(update.nonce)
    assert pair.client.held(ENDPOINT) == {}


def test_a_removal_is_forgotten() -> None:
    pair = Pair(resources(A, cluster("b")))
    (update,) = pair.say(pair.client.subscribe(CLUSTER, ["*"]))
    pair.say(pair.client.ack(update.nonce))
    (gone,) = pair.take(pair.stream.offer(resources(A), 1))
    pair.say(pair.client.ack(gone.nonce))
    assert set(pair.client.held(CLUSTER)) == {"a"}


def test_what_was_held_before_is_where_it_starts() -> None:
    stored = Resource(type_url=CLUSTER, name="a", version=A.version, body=b"")
    pair = Pair(resources(A), Client([stored]))
    pair.client.subscribe(CLUSTER, ["*"])
    assert pair.say(pair.client.connect()) == []
    assert pair.client.answered == {CLUSTER}


def test_asking_again_brings_a_resource_that_is_held() -> None:
    pair = Pair(resources(A, EA))
    for update in pair.say(pair.client.subscribe(CLUSTER, ["*"])):
        pair.say(pair.client.ack(update.nonce))
    assert names(pair.say(pair.client.ask_again(CLUSTER, "a"))) == ["a"]
