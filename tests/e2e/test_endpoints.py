"""A failing endpoint in a running mesh: ejected by its caller, the next locality's turn, and all of it explained."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.meshes import Place, Reply, free_port, get, place, until

ROOT = Path(__file__).parents[2]
LOCALITIES = {"caller": "r1.z1", "a-1": "r1.z1", "a-2": "r2.z1", "b-1": "r1.z1"}
CONFIG = """
apiVersion: v1
kind: Service
metadata: {name: caller}
spec: {selector: {app: caller}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: a}
spec: {selector: {app: a}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: b}
spec: {selector: {app: b}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: a}
spec:
  host: a
  trafficPolicy:
    outlierDetection: {consecutive5xxErrors: 1, interval: 1s, baseEjectionTime: 5m, maxEjectionPercent: 100}
---
apiVersion: gossamer.io/v1
kind: HealthCheck
metadata: {name: b}
spec: {host: b, interval: 200ms, unhealthyThreshold: 1, healthyThreshold: 1, http: {path: /-/fail}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: door}
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: door}
spec: {hosts: ["*"], gateways: [door], http: [{route: [{destination: {host: caller}}]}]}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """A caller in one region, and services whose endpoints are not all well; `port` is the gateway's."""

    place: Place
    port: int

    def call(self, path: str) -> Reply:
        """What the caller gets of `HOST/path`."""
        return get(self.port, f"/-/to/{path}")

    def rows(self, *arguments: str) -> dict[str, dict[str, Any]]:
        """What `gossamer endpoints` says, by workload."""
        part = self.place.run("endpoints", *arguments, f"--state={self.place.state}", "-o", "json")
        assert part.wait() == 0, part.said
        return {row["workload"]: row for row in json.loads(part.said)}


def _mesh_file(port: int) -> str:
    workloads = "".join(
        f"""\
  - name: {name}
    serviceAccount: {name.partition("-")[0]}
    labels: {{app: {name.partition("-")[0]}, istio-locality: {locality}}}
    ports: [{{name: http, port: 8080}}]
    command: ["${{PYTHON}}", -m, tests.e2e.agreement.app, {name}]
    env: {{PYTHONPATH: "{os.pathsep.join((str(ROOT / "src"), str(ROOT)))}"}}
    health: {{path: /, port: 8080}}
"""
        for name, locality in LOCALITIES.items()
    )
    return f"""\
version: 1
config: [config]
gateways:
  - name: ingress
    namespace: default
    labels: {{istio: ingressgateway}}
    address: 127.0.0.1
    ports: [{{name: http, port: 80, targetPort: {port}}}]
workloads:
{workloads}"""


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    with place() as found:
        port = free_port()
        folder = found.folder("mesh") / "config"
        folder.mkdir()
        (folder / "mesh.yaml").write_text(CONFIG)
        (found.mesh / "gossamer.yaml").write_text(_mesh_file(port))
        found.user.give(found.mesh)
        found.up()
        until(found.ready, "the mesh is ready", 60)
        until(lambda: found.synced(len(LOCALITIES) + 1), "every proxy has its configuration", 20)
        yield Mesh(place=found, port=port)


def answered_by(reply: Reply) -> str:
    return str(json.loads(reply.body).get("name")) if reply.status == 200 else f"{reply.status}: {reply.body}"


def test_a_caller_leaves_its_locality_when_what_is_near_fails_and_says_so(mesh: Mesh) -> None:
    assert {answered_by(mesh.call("a/x")) for _ in range(5)} == {"a-1"}, "the near one, as long as it is well"
    before = mesh.rows("a", "--from", "caller")
    assert (before["default/a-1"]["state"], before["default/a-1"]["why"]) == ("in", ["ready"])
    assert before["default/a-2"]["why"] == ["ready", "another locality's turn for callers in r1/z1"]
    assert before["default/a-2"]["state"] == "out"

    assert mesh.call("a/-/fail").body == "a-1 fails"
    until(lambda: answered_by(mesh.call("a/x")) == "a-2", "ejected: the next locality's turn", 5)
    assert {answered_by(mesh.call("a/x")) for _ in range(5)} == {"a-2"}

    def explained() -> bool:
        return any(one["caller"] == "default/caller" for one in mesh.rows("a")["default/a-1"]["ejected_by"])

    until(explained, "the control plane knows who ejected whom", 20)
    after = mesh.rows("a", "--from", "default/caller")
    assert after["default/a-1"]["state"] == "out"
    assert after["default/a-1"]["ejected_by"][0]["why"] == ["outlier detection"]
    assert (after["default/a-2"]["state"], after["default/a-2"]["why"]) == ("in", ["ready"])
    everybody = mesh.rows("a")["default/a-1"]
    assert everybody["state"] == "partly", "others call it still"
    assert everybody["age_s"] > 0

    table = mesh.place.run("endpoints", "a", f"--state={mesh.place.state}")
    assert "ejected by default/caller (outlier detection" in table.said


def test_an_endpoint_that_fails_its_callers_checks(mesh: Mesh) -> None:
    def checked() -> bool:
        found = mesh.rows("b")["default/b-1"]["ejected_by"]
        return {"default/caller", "default/a-1"} <= {one["caller"] for one in found if "health check" in one["why"]}

    until(checked, "callers say that the check fails", 25)
    row = mesh.rows("b.default", "--from", "caller")["default/b-1"]
    assert any("health check" in why for why in row["why"])


def test_a_service_that_is_not_there(mesh: Mesh) -> None:
    part = mesh.place.run("endpoints", "nobody", f"--state={mesh.place.state}")
    assert part.wait() == 1
    assert "the mesh has no service 'nobody'" in part.said
