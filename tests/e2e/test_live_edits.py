"""A minute of random edits under constant load, whatever the edit: no request fails.

What is edited is routes (weights, matches, subsets, destinations), subsets and their settings, the labels by which a
service selects its instances, the names of its ports, and whole services that come and go. Two clients ask all the
while: one from outside through the gateway, one inside the mesh through its sidecar, both over connections that they
keep.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from gossamer.cli.tour.load import Requests
from tests.e2e.agreement.world import World, running
from tests.e2e.hosts import load
from tests.e2e.meshes import until

EDITS_S = 60.0
RATE = 40.0
BASE = """\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: live, namespace: default}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [live.test]}]
"""


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with running() as found:
        yield found


@pytest.mark.timeout(180)
def test_random_edits_fail_no_request(world: World) -> None:
    seed = int(os.environ.get("SEED", time.time_ns() % 1_000_000))
    print(f"SEED={seed}")
    chance = random.Random(seed)
    world.apply(_config(chance))
    until(lambda: all(_asked(world)), "both clients are served", 10)
    base = f"http://127.0.0.1:{world.ports[80]}"
    outside = Requests(base=base, path="/x", headers={"host": "live.test"}, rate=RATE)
    inside = Requests(base=base, path="/-/to/live/x", headers={"host": "caller.test"}, rate=RATE)
    edits = 0
    with load(outside) as first, load(inside) as second:
        ends = time.monotonic() + EDITS_S
        while time.monotonic() < ends:
            world.write(_config(chance))
            edits += 1
            time.sleep(chance.choice((0.02, 0.1, 0.3, 1.0)))
        time.sleep(1)
    for name, record in (("outside", first), ("inside", second)):
        print(f"{name}: {len(record.failed)} of {len(record)} failed over {edits} edits {dict(record.problems())}")
        print(f"  50 % within {record.quantile_s(0.5) * 1000:.0f} ms, all within {record.quantile_s(1) * 1000:.0f} ms")
    assert edits > 60
    said = [row for row in world.place.status("control-plane")["diagnostics"] if row["severity"] == "error"]
    assert not said
    for record in (first, second):
        assert len(record) > RATE * EDITS_S / 2
        assert not record.failed, (seed, record.problems())


def _asked(world: World) -> tuple[bool, bool]:
    outside = world.from_outside("http://live.test/x", 80)
    inside = world.from_caller(url="http://live/x")
    return outside["status"] == 200, inside["status"] == 200


def _config(chance: random.Random) -> str:
    """Any configuration in which whoever asks for `live` is answered."""
    subsets = chance.sample(("one", "two", "three", "four"), chance.randint(1, 3))
    passing = chance.choice((None, "come", "go"))
    documents = [_service(chance), _destination_rule(chance, subsets), _virtual_service(chance, subsets, passing)]
    if passing:
        documents.append(_service(chance, passing))
    if chance.random() < 0.3:
        documents.append(_policy(chance))
    chance.shuffle(documents)
    return "---\n".join([BASE, *(yaml.safe_dump(document) for document in documents)])


def _resource(kind: str, group: str, spec: dict[str, Any], name: str = "live") -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": group, "kind": kind, "metadata": metadata, "spec": spec}


def _service(chance: random.Random, name: str = "live") -> dict[str, Any]:
    port = {"name": chance.choice(("http", "http-web", "http-live")), "port": 80, "targetPort": 8080}
    more = [{"name": "tcp", "port": 9090}] if chance.random() < 0.5 else []
    selector = chance.choice(({"app": "a"}, {"app": "a", "version": "v1"}, {"app": "a", "version": "v2"}))
    return _resource("Service", "v1", {"selector": selector, "ports": [port, *more]}, name)


def _destination_rule(chance: random.Random, subsets: list[str]) -> dict[str, Any]:
    policies: list[dict[str, Any]] = [
        {"loadBalancer": {"simple": chance.choice(("ROUND_ROBIN", "LEAST_REQUEST", "RANDOM"))}},
        {"loadBalancer": {"consistentHash": {"httpHeaderName": "x-user"}}},
        {"connectionPool": {"http": {"maxRequestsPerConnection": chance.randint(1, 50)}}},
        {"connectionPool": {"tcp": {"connectTimeout": f"{chance.randint(1, 5)}s"}}},
        {"connectionPool": {"http": {"h2UpgradePolicy": chance.choice(("UPGRADE", "DO_NOT_UPGRADE"))}}},
        {"outlierDetection": {"consecutive5xxErrors": chance.randint(3, 9)}},
    ]
    spec: dict[str, Any] = {"host": "live", "subsets": [{"name": name, "labels": {"app": "a"}} for name in subsets]}
    for settled in (spec, *spec["subsets"]):
        if chance.random() < 0.5:
            settled["trafficPolicy"] = chance.choice(policies)
    return _resource("DestinationRule", "networking.istio.io/v1", spec)


def _virtual_service(chance: random.Random, subsets: list[str], passing: str | None) -> dict[str, Any]:
    rules = [_rule(chance, subsets, passing) for _ in range(chance.randint(1, 3))]
    for rule in rules[:-1]:
        rule["match"] = [{"uri": {"prefix": chance.choice(("/x", "/y"))}}]
    spec = {"hosts": ["live", "live.test"], "gateways": ["live", "mesh"], "http": rules}
    return _resource("VirtualService", "networking.istio.io/v1", spec)


def _rule(chance: random.Random, subsets: list[str], passing: str | None) -> dict[str, Any]:
    port = {"number": 80}
    places: list[dict[str, Any]] = [{"host": "live", "subset": name, "port": port} for name in subsets]
    places += [{"host": "live", "port": port}, {"host": "b.other.svc.cluster.local", "port": port}]
    places += [{"host": passing, "port": port}] if passing else []
    chosen = chance.sample(places, chance.randint(1, 3))
    rule: dict[str, Any] = {"route": [{"destination": place, "weight": chance.randint(1, 9)} for place in chosen]}
    if chance.random() < 0.3:
        rule["timeout"] = f"{chance.randint(3, 9)}s"
    if chance.random() < 0.3:
        rule["headers"] = {"request": {"set": {"x-edit": str(chance.randint(1, 99))}}}
    if chance.random() < 0.2:
        rule["rewrite"] = {"uri": "/z"}
    if chance.random() < 0.3:
        rule["retries"] = {"attempts": chance.randint(1, 3), "retryOn": "connect-failure,refused-stream"}
    return rule


def _policy(chance: random.Random) -> dict[str, Any]:
    rules = [{"to": [{"operation": {"paths": [chance.choice(("/never", "/no"))]}}]}]
    return _resource("AuthorizationPolicy", "security.istio.io/v1", {"action": "DENY", "rules": rules})
