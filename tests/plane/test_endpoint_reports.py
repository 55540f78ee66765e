"""Endpoints explain themselves: in or out, why, for how long, by whose judgement."""

from __future__ import annotations

import time
from typing import Any

import pytest

from gossamer.core.errors import UsageError
from gossamer.core.frozen import FrozenMap
from gossamer.plane.endpoint_reports import EndpointReports
from gossamer.plane.pipeline import Pipeline
from gossamer.rpc import gossamer_pb2 as rpc
from gossamer.sources.files import Files
from gossamer.sources.registry import LEASE_S, Registry
from tests.plane.running import SELECTED, reviews, service

HOST = "reviews.default.svc.cluster.local"
DETECTS = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews, namespace: default}
spec:
  host: reviews
  trafficPolicy: {outlierDetection: {consecutive5xxErrors: 1}}
  subsets: [{name: v1, labels: {version: v1}}]
"""
CHECK = """
apiVersion: gossamer.io/v1
kind: HealthCheck
metadata: {name: reviews, namespace: default}
spec: {host: reviews, tcp: {}}
"""


def member(number: int, locality: str = "", **fields: Any) -> rpc.Workload:
    return reviews(f"reviews-{number}", addresses=[f"10.0.0.{number}"], locality=locality, **fields)


def client(name: str, locality: str = "") -> rpc.Workload:
    return reviews(
        name, labels={"app": name}, service_account=name, addresses=["10.9.0.1"], ports=[], locality=locality
    )


class Held:
    """A pipeline and a registry; `rows` are what is answered, by address."""

    def __init__(self, *workloads: rpc.Workload, documents: str = SELECTED) -> None:
        self.registry = Registry("cluster.local")
        self.registry.renew("host-a", workloads, time.monotonic() - 5)
        self.registry.renew("host-a", [], time.monotonic())
        self.pipeline = Pipeline(mesh_config=None, last_good=None)
        self.reports = EndpointReports(pipeline=self.pipeline, registrations=lambda: self.registry.snapshot)
        self.documents = documents
        self.build()

    def build(self) -> None:
        registrations = tuple(entry.workload for entry in self.registry.snapshot.values())
        self.pipeline.build(Files(texts=FrozenMap({"a.yaml": self.documents})), registrations)
        self.reports.look()

    def rows(self, name: str = "reviews", caller: str = "") -> dict[str, dict[str, Any]]:
        return {row["address"]: row for row in self.reports.answer(name, caller)}

    def lose(self, name: str) -> None:
        """Let a workload's lease have ended three seconds ago."""
        self.registry._leases["default", name].ends = time.monotonic() - 3
        self.registry.expire(time.monotonic())
        self.build()

    def eject(self, caller: str, address: str, cluster: str = f"outbound|9080||{HOST}") -> None:
        observation = rpc.Observation(
            caller=rpc.WorkloadKey(namespace="default", name=caller),
            cluster=cluster,
            address=address,
            port=9080,
            exclusions=[rpc.EXCLUSION_OUTLIER],
            seconds=7,
        )
        now = time.monotonic()
        self.reports.ejections.report("host-a", [observation], now, lambda *_: True)


def test_how_a_workload_is_and_since_when() -> None:
    held = Held(
        member(1),
        member(2, state=rpc.WORKLOAD_STATE_STARTING),
        member(3, state=rpc.WORKLOAD_STATE_UNHEALTHY, state_message="GET /health: 500"),
        member(4, state=rpc.WORKLOAD_STATE_DRAINING),
    )
    rows = held.rows()
    assert [(row["state"], row["why"]) for row in rows.values()] == [
        ("in", ["ready"]),
        ("out", ["starting"]),
        ("out", ["unhealthy: GET /health: 500"]),
        ("out", ["draining"]),
    ]
    first = rows["10.0.0.1:9080"]
    assert 4.5 < first["age_s"] < 30
    assert (first["service"], first["port"], first["workload"], first["host"]) == (
        *(HOST, 9080, "default/reviews-1", "host-a"),
    )


def test_a_lost_heartbeat() -> None:
    held = Held(member(1), member(2))
    held.registry.renew("host-a", [member(2)], time.monotonic() + LEASE_S)
    held.lose("reviews-1")
    row = held.rows()["10.0.0.1:9080"]
    assert (row["state"], row["why"]) == ("out", ["heartbeat lost"])
    assert 2.5 < row["age_s"] < 10


def test_declared_endpoints_say_who_declares_them_and_age_too() -> None:
    held = Held(documents=service("ext"))
    (row,) = held.reports.answer("ext.example.com")
    assert (row["state"], row["why"]) == ("in", ["declared by ServiceEntry default/ext spec.endpoints[0]"])
    time.sleep(0.15)
    held.documents = service("ext") + "---\n" + service("other", "10.0.0.2")
    held.build()
    (row,) = held.reports.answer("ext.example.com")
    assert row["age_s"] >= 0.1
    held.documents = service("ext", "10.0.0.3")
    held.build()
    (row,) = held.reports.answer("ext.example.com")
    assert row["age_s"] < 0.1


def test_the_callers_that_eject_an_endpoint() -> None:
    held = Held(member(1), client("web"), documents=SELECTED + "---" + DETECTS)
    held.eject("web", "10.0.0.1")
    row = held.rows()["10.0.0.1:9080"]
    assert row["state"] == "partly", "the service's own workload calls it still"
    assert row["ejected_by"] == [{"caller": "default/web", "subset": "", "why": ["outlier detection"], "age_s": 7.0}]
    assert row["why"] == ["ready", "ejected by default/web (outlier detection, 7 s)"]
    assert held.rows(caller="web")["10.0.0.1:9080"]["state"] == "out"
    assert held.rows(caller="default/reviews-1")["10.0.0.1:9080"]["state"] == "in"
    held.eject("web", "10.0.0.1", f"outbound|9080|v1|{HOST}")
    assert held.rows()["10.0.0.1:9080"]["why"][1].startswith("ejected by default/web in subset v1 (")


def test_what_callers_looked_up_themselves() -> None:
    entry = service("ext").replace("STATIC", "DNS").replace("endpoints: [{address: 10.0.0.1}]", "")
    held = Held(client("web"), documents=entry)
    held.eject("web", "93.0.0.1", "outbound|80||ext.example.com")
    rows = held.rows("ext.example.com")
    assert rows["93.0.0.1:9080"]["why"] == [
        "looked up by its callers",
        "ejected by default/web (outlier detection, 7 s)",
    ]


def test_another_localitys_turn() -> None:
    members = (member(1, "r1/z1"), member(2, "r1/z2"), client("near", "r1/z1"), client("far", "r1/z2"))
    held = Held(*members, documents=SELECTED + "---" + DETECTS)
    one, two = held.rows(caller="near").values()
    assert (one["state"], one["why"]) == ("in", ["ready"])
    assert (two["state"], two["why"]) == ("out", ["ready", "another locality's turn for callers in r1/z1"])
    assert (two["turns"][0]["priority"], two["turns"][0]["share"]) == (1, 0.0)
    everybody = held.rows()["10.0.0.2:9080"]
    assert everybody["state"] == "partly"
    assert [(turn["localities"], turn["priority"]) for turn in everybody["turns"]] in (
        [(["r1/z1"], 1), (["r1/z2"], 0)],
        [(["r1/z2"], 0), (["r1/z1"], 1)],
    )


def test_in_a_panic_all_are_called() -> None:
    """But for those that said themselves that they are not well."""
    held = Held(member(1), member(2, state=rpc.WORKLOAD_STATE_UNHEALTHY), client("web"))
    held.lose("reviews-1")
    lost, unwell = held.rows().values()
    assert (lost["state"], lost["why"]) == ("in", ["heartbeat lost", "too few are well, so all are called"])
    assert (unwell["state"], unwell["why"]) == ("out", ["unhealthy"])


def test_agents_look_only_where_there_is_something_to_see() -> None:
    assert not Held().pipeline.watches
    assert Held(documents=SELECTED + "---" + DETECTS).pipeline.watches
    assert Held(documents=SELECTED + "---" + CHECK).pipeline.watches


def test_names_of_services_and_callers() -> None:
    held = Held(member(1))
    assert held.rows("reviews.default").keys() == held.rows(HOST).keys() == held.rows().keys()
    for service_, caller in (("nobody", ""), ("reviews", "nobody")):
        with pytest.raises(UsageError, match="nobody"):
            held.reports.answer(service_, caller)
