"""An agent that is stopped leaves its workloads to the next one when told to: as a service manager restarts it."""

from __future__ import annotations

import json
import signal

from tests.e2e.hosts import AgentHost, Plane
from tests.e2e.meshes import SMALL, Place, free_port, get, place, until

PAGE = "/productpage"
RUN = ("default/productpage-v1", "default/details-v1", "istio-system/istio-ingressgateway")


def test_workloads_outlive_their_agent() -> None:
    with place() as found:
        port = free_port()
        found.write(port, SMALL)
        plane = Plane(place=found)
        plane.start()
        until(lambda: found.status("control-plane").get("ready"), "the control plane is ready")
        agent = AgentHost(place=found, plane=plane, token=plane.token("one", "*/*"), options=("--on-stop=leave",))
        first = agent.start()

        def pids() -> list[tuple[int, int]]:
            return [(row["envoy_pid"], row["application_pid"]) for row in map(found.row, RUN)]

        until(found.ready, "ready")
        until(lambda: get(port, PAGE).status == 200, "the page", 5)
        before = pids()
        assert first.stop(signal.SIGTERM) == 0
        assert "agent-left" in first.said
        assert [get(port, PAGE).status for _ in range(20)] == [200] * 20, "nobody notices"
        second = agent.start()
        until(found.ready, "ready again")
        assert pids() == before
        assert get(port, PAGE).status == 200
        assert second.stop(signal.SIGINT) == 0
        until(lambda: len(found.processes()) == 1, "all but the control plane has ended", 15)
        assert _kept(found) == {"productpage-v1", "details-v1", "istio-ingressgateway"}
        found.write(port, SMALL.partition("  - name: details-v1")[0])
        third = agent.start()
        until(found.ready, "ready without one of them")
        assert _kept(found) == {"productpage-v1", "istio-ingressgateway"}, "its key, ports and last copy are forgotten"
        third.stop(signal.SIGINT)


def _kept(found: Place) -> set[str]:
    """The workloads of which an agent keeps anything."""
    state = found.root / "state"
    names = {path.name.partition(".")[0] for path in (state / "identity" / "workloads").iterdir()}
    ports = json.loads((state / "ports.json").read_text())
    for purpose in (*ports["ports"], *ports["addresses"]):
        names.add(purpose.partition("/")[0].partition(".")[2])
    for folder, end in (("proxies/manifests", ".json"), ("starts", ".start")):
        names |= {path.name.removesuffix(end).partition(".")[2] for path in (state / folder).glob(f"*{end}")}
    return names
