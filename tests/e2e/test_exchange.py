"""Every Envoy of a mesh is exchanged for another under load: no request fails, and the applications notice nothing."""

from __future__ import annotations

import json
import re
import time

from gossamer.cli.tour.load import Requests
from gossamer.node.binary import find_envoy
from gossamer.node.envoy_settings import DRAIN_SECONDS
from tests.e2e.hosts import load
from tests.e2e.meshes import SMALL, Place, free_port, get, place, until
from tests.e2e.users import ordinary

PAGE = "/api/v1/products/0"
"""Of productpage and, behind it, details."""
WORKLOADS = ("default/details-v1", "default/productpage-v1", "istio-system/istio-ingressgateway")
THREADS = """\
apiVersion: networking.istio.io/v1beta1
kind: ProxyConfig
metadata: {name: threads, namespace: default}
spec: {concurrency: 2}
"""


def test_envoys_are_exchanged_under_load_without_a_failed_request() -> None:
    with place(ordinary()) as found:
        port = free_port()
        found.write(port, SMALL)
        newer = found.folder("mesh") / "newer-envoy"
        newer.symlink_to(find_envoy())
        up = found.up()
        until(found.ready, "ready")
        until(lambda: get(port, PAGE).status == 200, "the page", 10)
        before = _pids(found)
        known = found.status("control-plane")["generation"]
        (found.mesh / "config" / "threads.yaml").write_text(THREADS)
        until(lambda: found.status("control-plane")["generation"] > known, "the edit is known")
        with load(Requests(base=f"http://127.0.0.1:{port}", path=PAGE, rate=60)) as record:
            state = f"--state={found.state}"
            exchanged = found.run("proxy", "upgrade", "--all", f"--envoy={newer}", state)
            assert exchanged.child.returncode == 0, exchanged.said
            assert set(re.findall(r"(\S+): Envoy \d+\.\d+\.\d+, process", exchanged.said)) == set(WORKLOADS)
            again = found.run("proxy", "upgrade", "details-v1", state)
            assert again.child.returncode == 1
            assert "still drains" in again.said
            time.sleep(DRAIN_SECONDS + 1.5)
        assert record.statuses().keys() == {"200"}, record.statuses()
        assert len(record) > 100
        now = _pids(found)
        for name in WORKLOADS:
            assert now[name][0] != before[name][0], "another Envoy"
            assert now[name][1] == before[name][1], "the same application"
        listed = json.loads(found.run("proxy", "list", "-o", "json", state).said)
        assert {row["name"] for row in listed if re.fullmatch(r"\d+\.\d+\.\d+", row["envoy_version"])} == set(WORKLOADS)
        options = json.loads(
            found.run("proxy", "stats", "details-v1", "^server.concurrency$", "-o", "json", state).said
        )
        assert options == {"server.concurrency": 2}, "what ProxyConfig says of its start acts with it"
        assert up.stop() == 0
        assert not found.sockets()


def _pids(found: Place) -> dict[str, tuple[int, int]]:
    rows = {name: found.row(name) for name in WORKLOADS}
    return {name: (row["envoy_pid"], row["application_pid"]) for name, row in rows.items()}
