"""What hosts say their sidecars have seen is added once, kept over restarts, and what never arrived is a number."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import grpc

from gossamer.plane.kept import SEEN_FILE, load_seen
from gossamer.plane.seen import KEEP_S, SeenStore
from gossamer.plane.seen_view import view_seen
from gossamer.rpc import calls
from gossamer.rpc import gossamer_pb2 as rpc
from gossamer.sources.state import save_document
from tests.plane.running import SELECTED, Mesh, refused, reviews, run

KEY = ("default", "reviews-v1")
LABELS = {"app": "reviews"}


def own(namespace: str, name: str) -> tuple[Mapping[str, str], bool] | None:
    return (LABELS, False) if (namespace, name) == KEY else None


def request(sequence: int, *rows: rpc.SeenRow, agent: str = "one", **said: object) -> rpc.ObserveRequest:
    taken = sum(row.count for row in rows)
    seen = rpc.SeenBy(
        workload=rpc.WorkloadKey(namespace=KEY[0], name=KEY[1]),
        rows=rows,
        **({"taken": taken} | said),  # type: ignore[arg-type]
    )
    return rpc.ObserveRequest(agent=agent, sequence=sequence, seen=[seen])


def seen(path: str = "/", count: int = 1, **other: object) -> rpc.SeenRow:
    base: dict[str, object] = {
        "caller": "spiffe://td/ns/a/sa/b", "port": 80, "protocol": "http", "method": "GET", "path": path,
        "verdict": "allowed", "count": count, "first": 1.0, "last": 2.0,
    }  # fmt: skip
    return rpc.SeenRow(**(base | other))  # type: ignore[arg-type]


def counts(store: SeenStore) -> dict[str, int]:
    return {row.path: row.tally.count for row in store.records[KEY].table.rows()} if KEY in store.records else {}


def test_what_is_said_twice_counts_once() -> None:
    store = SeenStore()
    store.take("host", request(1, seen(count=3)), 10, own)
    store.take("host", request(1, seen(count=3)), 10, own)
    store.take("host", request(2, seen(count=2)), 10, own)
    assert counts(store) == {"/": 5}
    store.take("host", request(1, seen(count=1), agent="the next"), 10, own)
    assert counts(store) == {"/": 6}
    again = SeenStore.restore(json.loads(json.dumps(store.save())))
    again.take("host", request(1, seen(count=1), agent="the next"), 10, own)
    assert counts(again) == {"/": 6}, "over a restart too"


def test_a_host_speaks_for_its_own_workloads_alone_and_may_have_the_last_word() -> None:
    store = SeenStore()
    store.take("host", request(1, seen()), 10, lambda *_: None)
    assert not store.records
    store.take("host", request(2, seen()), 10, own)
    store.take("host", request(3, seen()), 10, lambda *_: None)
    store.take("other", request(1, seen()), 10, lambda *_: None)
    assert counts(store) == {"/": 2}


def test_what_is_not_sound_is_counted_and_not_kept() -> None:
    store = SeenStore()
    bad = [seen(path="/{**}"), seen(path="x"), seen(verdict="fine"), seen(caller="\x1b[2J"), seen(method="x" * 600)]
    store.take("host", request(1, *bad, seen()), 10, own)
    assert counts(store) == {"/": 1}
    assert store.records[KEY].table.unrecorded == 5


def test_what_an_envoy_wrote_and_never_arrived_is_a_number() -> None:
    store = SeenStore()
    store.take("host", request(1, seen(count=4)), 10, own)
    record = store.records[KEY]
    assert record.missed == 0
    store.take("host", request(2, seen(count=2), envoy="7", written=6), 10, own)
    assert record.missed == 0
    store.take("host", request(3, envoy="7", written=9, taken=0), 10, own)
    assert record.missed == 3
    store.take("host", request(4, seen(count=1), envoy="8", written=1), 10, own)
    assert record.missed == 3, "another life of the Envoy"
    store.take("host", request(5, envoy="8", written=2, taken=0), 10, own)
    assert record.missed == 4
    assert SeenStore.restore(store.save()).records[KEY].missed == 4


def test_what_is_long_ago_is_forgotten() -> None:
    store = SeenStore()
    store.take("host", request(1, seen()), 10, own)
    store.forget(KEEP_S + 1.5)
    assert counts(store) == {"/": 1}
    store.forget(KEEP_S + 2.5)
    assert counts(store) == {}


def test_a_damaged_file_is_set_aside(tmp_path: Path) -> None:
    save_document(tmp_path / SEEN_FILE, 1, {"workloads": 3})
    assert not load_seen(tmp_path).records
    assert [path.name for path in tmp_path.iterdir()] == [f"{SEEN_FILE}.damaged"]


def test_an_agent_hands_over_and_the_next_control_plane_knows_it(tmp_path: Path) -> None:
    made = Mesh(tmp_path)
    made.write(reviews=SELECTED)

    async def first() -> None:
        async with made.run() as running, running.host("host-a", "default/reviews") as channel:
            stream = calls.REGISTER.call(channel)()
            await stream.write(rpc.RegisterRequest(sequence=1, workloads=[reviews(labels=LABELS | {"version": "v1"})]))
            await stream.read()
            await calls.OBSERVE.call(channel)(request(1, seen("/reviews/0", 7)))
            (found,) = running.plane.view_seen()["workloads"]
            assert (found["name"], found["running"], found["reporting"], found["taken"]) == (KEY[1], True, True, 7)
            assert found["selector"] == {"app": "reviews"}
            assert [one["hostname"] for one in found["services"]] == ["reviews.default.svc.cluster.local"]
            assert [(one["path"], one["count"]) for one in found["rows"]] == [("/reviews/0", 7)]
            (ended,) = view_seen(running.plane.seen, running.plane.pipeline.built, {}, 10.0)["workloads"]
            assert (ended["running"], ended["labels"], ended["selector"]) == (False, LABELS | {"version": "v1"}, LABELS)
            async with running.proxy() as web:
                with refused(grpc.StatusCode.PERMISSION_DENIED, "only a host"):
                    await calls.OBSERVE.call(web.channel)(request(2))

    async def second() -> None:
        async with made.run() as running:
            (found,) = running.plane.view_seen()["workloads"]
            assert (found["taken"], found["since"] is not None) == (7, True)

    run(first)
    run(second)
