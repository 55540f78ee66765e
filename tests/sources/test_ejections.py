"""What hosts report of endpoints that their Envoys leave out."""

from __future__ import annotations

from gossamer.rpc import gossamer_pb2 as rpc
from gossamer.sources.ejections import REPORT_S, Ejections


def observation(name: str = "client", **fields: object) -> rpc.Observation:
    base: dict[str, object] = {
        "caller": rpc.WorkloadKey(namespace="default", name=name),
        "cluster": "outbound|80||a",
        "address": "10.0.0.1",
        "port": 80,
        "exclusions": [rpc.EXCLUSION_OUTLIER],
        "seconds": 3.0,
    }
    return rpc.Observation(**(base | fields))  # type: ignore[arg-type]


def own(_namespace: str, name: str) -> bool:
    return name.startswith("client")


def test_a_report_is_the_whole_truth_of_its_host_and_ends() -> None:
    ejections = Ejections()
    ejections.report("host-b", [observation("client-b")], 10, own)
    ejections.report("host-a", [observation("client-a"), observation("client-a", port=81)], 10, own)
    assert [(one.caller[1], one.port, one.why, one.since) for one in ejections.current(11)] == [
        ("client-a", 80, ("outlier detection",), 7.0),
        ("client-a", 81, ("outlier detection",), 7.0),
        ("client-b", 80, ("outlier detection",), 7.0),
    ]
    ejections.report("host-a", [], 12, own)
    assert [one.caller[1] for one in ejections.current(12)] == ["client-b"]
    assert ejections.current(10 + REPORT_S) == ()


def test_a_host_speaks_for_its_own_workloads_and_says_nothing_unprintable() -> None:
    ejections = Ejections()
    said = [
        observation("other"),
        observation(address="\x1b[2J"),
        observation(port=99999),
        observation(cluster="x" * 999),
    ]
    ejections.report("host-a", said, 0, own)
    assert ejections.current(0) == ()


def test_what_a_newer_agent_says_is_shown_as_far_as_it_is_understood() -> None:
    ejections = Ejections()
    newer = rpc.Observation.FromString(observation().SerializeToString() + b"\x2a\x01\x63")
    ejections.report("host-a", [newer], 0, own)
    (found,) = ejections.current(0)
    assert found.why == ("outlier detection", "reasons of its own")
