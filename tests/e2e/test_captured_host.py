"""A machine whose own processes are in the mesh, captured by their user; network namespaces play the machines.

Nothing starts these processes for the mesh, and nothing tells them of it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from tests.conftest import need
from tests.e2e.hosts import AgentHost, Plane
from tests.e2e.meshes import DOOR, STOP_S, STRICT, TELLS, Part, Place, get, place, until
from tests.e2e.networks import LINK, Machine, two_machines

PYTHON = "/usr/bin/python3"
"""One that every user can run."""
NOBODY = "import os; os.setgid(65534); os.setuid(65534); os.environ.clear()"
PORT = 8080
# Answers every request with whom its sidecar saw calling.
ECHO = (
    TELLS
    + """
http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Tells).serve_forever()
"""
)
ASK = """
import getpass, urllib.request
print(getpass.getuser(), urllib.request.urlopen("http://10.99.0.7/", timeout=5).read().decode())
"""
CONFIG = """\
apiVersion: v1
kind: Service
metadata: {name: vm}
spec: {selector: {app: vm}, ports: [{name: http, port: 80, targetPort: 8000}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.99.0.7, selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8000}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: door}
spec: {hosts: ["*"], gateways: [door], http: [{route: [{destination: {host: vm}}]}]}
"""
FIRST = f"""\
version: 1
workloads:
  - {{name: web-1, serviceAccount: web, labels: {{app: web}}, ports: [8000],
     command: [{PYTHON}, -c, {json.dumps(ECHO)}]}}
"""
SECOND = f"""\
version: 1
gateways:
  - {{name: door, labels: {{istio: ingressgateway}}, address: 127.0.0.1, ports: {{80: {PORT}}}}}
workloads:
  - {{name: vm-1, serviceAccount: vm, labels: {{app: vm}}, ports: [8000], capture: host, users: [nobody],
     health: {{httpGet: {{port: 8000}}, periodSeconds: 1, failureThreshold: 1}}}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosts:
    """Two machines: `vm` is the one whose processes are captured, `agent` runs there."""

    first: Machine
    vm: Machine
    places: tuple[Place, Place]
    plane: Plane
    agent: Part
    server: subprocess.Popen[bytes]

    def ask(self, machine: Machine, port: int, host: str = "127.0.0.1", patience_s: float = 2) -> tuple[int, str]:
        reply = machine.inside(lambda: get(port, "/", host=host, timeout_s=patience_s))
        return reply.status, reply.body

    def as_nobody(self, code: str) -> str:
        """What a program of the captured user prints on the machine, started by nobody of ours."""
        command = [*self.vm.before, PYTHON, "-I", "-c", NOBODY + code]
        return subprocess.run(command, text=True, capture_output=True, timeout=20, check=False).stdout


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    need(os.geteuid() == 0, "this needs root")
    need(Path(PYTHON).exists(), f"there is no {PYTHON} for every user")
    with ExitStack() as stack:
        machines = stack.enter_context(two_machines())
        one, two = (stack.enter_context(place()) for _ in machines)
        for found, machine, text in ((one, machines[0], FIRST), (two, machines[1], SECOND)):
            found.before = machine.before
            (found.folder("mesh") / "config").mkdir()
            (found.mesh / "gossamer.yaml").write_text(text)
        (one.mesh / "config" / "all.yaml").write_text(f"{DOOR}---\n{STRICT}---\n{CONFIG}")
        machines[1].inside(_route_everywhere)
        server = stack.enter_context(_server(machines[1]))
        plane = Plane(place=one, host=machines[0].address, xds=15012, join=15013)
        plane.start()
        until(lambda: one.status("control-plane").get("ready"), "the control plane is ready")
        AgentHost(place=one, plane=plane, token=plane.token("one", "*/*")).start()
        agent = AgentHost(place=two, plane=plane, token=plane.token("two", "default/*")).start()
        until(lambda: one.ready() and two.ready(), "both hosts are ready")
        yield Hosts(first=machines[0], vm=machines[1], places=(one, two), plane=plane, agent=agent, server=server)


def _route_everywhere() -> bool:
    with IPRoute() as ip:
        (index,) = ip.link_lookup(ifname=LINK)
        ip.route("add", dst="0.0.0.0/0", oif=index, scope="link")
    return True


@contextmanager
def _server(machine: Machine) -> Iterator[subprocess.Popen[bytes]]:
    """A service that runs on a machine already, as nobody."""
    child = subprocess.Popen([*machine.before, PYTHON, "-I", "-c", NOBODY + ECHO])
    try:
        yield child
    finally:
        child.kill()
        child.wait(STOP_S)


def test_processes_that_run_already_are_in_the_mesh(hosts: Hosts) -> None:
    """Called from their own machine and calling another, always over mutual TLS; without the agent all is as before."""
    door = "URI=spiffe://cluster.local/ns/default/sa/default;DNS=door.default."
    until(lambda: door in hosts.ask(hosts.vm, PORT)[1], "the service answers on its own machine, and sees the gateway")
    assert hosts.ask(hosts.first, 8000, hosts.vm.address)[0] == 0, "plaintext is refused"
    assert hosts.ask(hosts.vm, 8000) == (200, "nobody"), "another user of the machine is left alone"
    said = hosts.as_nobody(ASK)
    assert said.startswith("nobody ")
    assert "URI=spiffe://cluster.local/ns/default/sa/vm;DNS=vm-1.default." in said
    _hangs_and_returns(hosts)
    hosts.agent.stop()
    assert hosts.ask(hosts.first, 8000, hosts.vm.address) == (200, "nobody")
    assert hosts.as_nobody(ASK) == "", "there is no such address"
    run = hosts.places[1].run(
        *("run", "--name=vm-2", "--service-account=other", "--capture-user=nobody"),
        *(f"--control-plane={hosts.plane.host}:15012", "--", PYTHON, "-I", "-c", ASK),
        env={"GOSSAMER_TOKEN": hosts.plane.token("three", "default/other")},
    )
    assert run.child.returncode == 0, run.said
    assert "nobody " in run.said
    assert "URI=spiffe://cluster.local/ns/default/sa/other;DNS=vm-2.default." in run.said


def _hangs_and_returns(hosts: Hosts) -> None:
    """What a probe has decided, callers know: they are told at once, and wait for no answer that will not come."""
    for number, state, status in ((signal.SIGSTOP, "unhealthy", 503), (signal.SIGCONT, "healthy", 200)):
        hosts.server.send_signal(number)
        until(lambda: hosts.places[1].row("default/vm-1")["application"] == state, f"it is {state}", 5)  # noqa: B023
        # a request that is sent before its caller knows waits for the application: it must not be waited for in turn
        known = until(lambda: hosts.ask(hosts.vm, PORT, patience_s=0.2)[0] == status, f"{state} is known", 5)  # noqa: B023
        print(f"that it is {state} was known to callers after {known:.2f} s")
