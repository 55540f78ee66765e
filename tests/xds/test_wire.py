"""What is encoded by hand is what protobuf reads, and says itself."""

from __future__ import annotations

from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse
from google.protobuf.any_pb2 import Any
from hypothesis import given
from hypothesis import strategies as st

from gossamer.core.frozen import FrozenMap
from gossamer.core.resources import CLUSTER, ENDPOINT, EXTENSION, Resource, Table
from gossamer.xds.batches import ALONE, APART, LIMIT, Batches
from gossamer.xds.channel import find
from gossamer.xds.codec import encode_request, load_request, load_update
from gossamer.xds.messages import Batch, Request, Response
from gossamer.xds.wire import empty_assignment, encode_any, encode_varint

text = st.text(max_size=300)
loaded = st.lists(st.tuples(text, text, st.binary(max_size=400)), max_size=4)


@given(loaded, st.lists(text, max_size=3), st.text(min_size=1, max_size=20))
def test_a_response_is_what_protobuf_would_write(
    items: list[tuple[str, str, bytes]], gone: list[str], nonce: str
) -> None:
    resources = tuple(
        Resource(type_url=CLUSTER, name=name, version=version, body=encode_any(CLUSTER, value))
        for name, version, value in items
    )
    response = Response(batch=Batch(CLUSTER, resources, tuple(gone)), nonce=nonce)
    expected = DeltaDiscoveryResponse(type_url=CLUSTER, removed_resources=gone, nonce=nonce)
    for name, version, value in items:
        expected.resources.add(name=name, version=version, resource=Any(type_url=CLUSTER, value=value))
    assert DeltaDiscoveryResponse.FromString(response.encode()) == expected


@given(loaded, st.lists(text, max_size=3))
def test_a_client_reads_what_a_server_wrote(items: list[tuple[str, str, bytes]], gone: list[str]) -> None:
    resources = tuple(
        Resource(type_url=CLUSTER, name=name, version=version, body=encode_any(CLUSTER, value))
        for name, version, value in items
    )
    update = load_update(Response(batch=Batch(CLUSTER, resources, tuple(gone)), nonce="n").encode())
    assert (update.type_url, update.nonce, update.removed) == (CLUSTER, "n", tuple(gone))
    assert [(r.name, r.version, r.body) for r in update.changed] == [(r.name, r.version, r.body) for r in resources]


@given(st.integers(0, 2**63))
def test_varints(value: int) -> None:
    assert int.from_bytes(bytes(b & 0x7F for b in encode_varint(value)[:1])) == value & 0x7F
    decoded = sum((byte & 0x7F) << (7 * index) for index, byte in enumerate(encode_varint(value)))
    assert decoded == value


def test_an_empty_assignment() -> None:
    found = Any.FromString(empty_assignment("outbound|80||x").body)
    assert found.type_url == ENDPOINT
    assert ClusterLoadAssignment.FromString(found.value) == ClusterLoadAssignment(cluster_name="outbound|80||x")


def test_requests_survive_the_wire() -> None:
    for request in (
        Request(type_url=CLUSTER, subscribe=("a", "*"), unsubscribe=("b",), initial_versions=FrozenMap({"a": "1"})),
        Request(type_url=CLUSTER, nonce="7"),
        Request(type_url=CLUSTER, nonce="7", error="no good"),
        Request(type_url=CLUSTER, nonce="7", error=""),
    ):
        assert load_request(encode_request(request)) == (request, None)


def test_the_node_is_read_once_it_comes() -> None:
    message = DeltaDiscoveryRequest(type_url=CLUSTER)
    message.node.id = "sidecar"
    message.node.user_agent_build_version.version.major_number = 1
    message.node.user_agent_build_version.version.minor_number = 40
    _, node = load_request(message.SerializeToString())
    assert node is not None
    assert (node.id, node.version) == ("sidecar", "1.40.0")


class TestBatches:
    def items(self, count: int, size: int, type_url: str = CLUSTER) -> list[Resource]:
        return [Resource(type_url=type_url, name=str(i), version="1", body=b"x" * size) for i in range(count)]

    def test_equal_needs_share_one_batch(self) -> None:
        batches, items = Batches(), self.items(3, 10)
        assert batches.split(CLUSTER, items)[0] is batches.split(CLUSTER, list(items))[0]

    def test_many_are_cut(self) -> None:
        parts = Batches().split(CLUSTER, self.items(40, LIMIT // 16))
        assert [len(part.resources) for part in parts] == [16, 16, 8]

    def test_a_large_one_is_shared_whatever_comes_with_it(self) -> None:
        batches, (large,) = Batches(), self.items(1, ALONE + 1)
        first, second = self.items(1, 10), self.items(1, 11)
        assert batches.split(CLUSTER, [*first, large])[1] is batches.split(CLUSTER, [large, *second])[0]

    def test_one_that_is_too_large_alone_travels_alone(self) -> None:
        parts = Batches().split(CLUSTER, self.items(2, LIMIT * 2))
        assert [len(part.resources) for part in parts] == [1, 1]

    def test_removals_travel_with_the_first(self) -> None:
        parts = Batches().split(CLUSTER, self.items(40, LIMIT // 16), ["gone"])
        assert [part.removed for part in parts] == [("gone",), (), ()]

    def test_filters_travel_one_by_one(self) -> None:
        assert len(Batches().split(EXTENSION, self.items(3, 1, EXTENSION))) == 3

    def test_what_is_kept_is_bounded(self) -> None:
        batches = Batches(kept_bytes=100_000)
        old = batches.split(CLUSTER, self.items(1, 60_000))[0]
        assert old.encoded
        batches.split(CLUSTER, self.items(1, 60_000))
        assert old._encoded is None
        assert DeltaDiscoveryResponse.FromString(old.encoded).type_url == CLUSTER

    def test_what_a_large_table_holds_is_shared_whatever_else_a_proxy_has(self) -> None:
        batches, large = Batches(), Table(CLUSTER, self.items(APART, 10))
        own = [Table(CLUSTER, [Resource(type_url=CLUSTER, name=name, version="1", body=b"")]) for name in "abc"]
        first = batches.whole(CLUSTER, (own[0], large, own[1]), None, find)
        second = batches.whole(CLUSTER, (own[0], own[2], large), None, find)
        assert [len(part.resources) for part in first] == [1, APART, 1]
        assert [len(part.resources) for part in second] == [2, APART]
        assert first[1] is second[1]

    def test_equal_responses_are_the_same_bytes_on_every_stream(self) -> None:
        (batch,) = Batches().split(CLUSTER, self.items(1, 10))
        shared = Response(batch=batch, nonce=batch.nonce)
        assert shared.encode() is Response(batch=batch, nonce=batch.nonce).encode()
        assert DeltaDiscoveryResponse.FromString(shared.encode()).nonce == batch.nonce != ""
        again = DeltaDiscoveryResponse.FromString(Response(batch=batch, nonce="other").encode())
        assert (again.nonce, list(again.resources)) == (
            "other",
            list(DeltaDiscoveryResponse.FromString(shared.encode()).resources),
        )

    def test_a_first_answer_is_shared(self) -> None:
        batches, goal = Batches(), (Table(CLUSTER, self.items(3, 10)),)
        names = frozenset({"0", "2"})
        first = batches.whole(CLUSTER, goal, names, find)
        assert [r.name for r in first[0].resources] == ["0", "2"]
        assert batches.whole(CLUSTER, goal, frozenset({"0", "2"}), find)[0] is first[0]
        assert batches.intern(frozenset({"0", "2"})) is batches.intern(frozenset({"2", "0"}))
