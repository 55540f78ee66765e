"""Two machines with a network between them, one agent each, joined by tokens: one mesh, in every capture mode.

The way in and the product page are on the first, the services that it asks on the second; every call crosses the link.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from gossamer.cli.tour.load import Requests
from gossamer.cli.tour.scene import DETAILS, JASON, PAGE, RATINGS, REVIEWS, status_of
from gossamer.demo.mesh import apply_edit, undo_edit
from tests.conftest import need
from tests.e2e.hosts import AgentHost, Plane, load
from tests.e2e.meshes import INGRESS, PRODUCTPAGE, Place, Reply, get, place, until
from tests.e2e.networks import Machine, two_machines
from tests.e2e.users import NOT_ALLOWED, OWN_ROOT, User, ordinary

PORT = 8080
FIRST = f"""\
version: 1
gateways:
  - name: istio-ingressgateway
    namespace: istio-system
    serviceAccount: istio-ingressgateway-service-account
    labels: {{app: istio-ingressgateway, istio: ingressgateway}}
    address: 127.0.0.1
    ports: [{{name: http2, port: 80, targetPort: {PORT}}}]
workloads:
"""
SECOND = "version: 1\nworkloads:\n"
PROXIES = 6
RATE = 20.0


def _workload(name: str) -> str:
    service, _, version = name.partition("-")
    return f"""\
  - name: {name}
    serviceAccount: bookinfo-{service}
    labels: {{app: {service}, version: {version}}}
    ports: [9080]
    command: ["${{PYTHON}}", -m, gossamer.demo.bookinfo, {service}, --version, {version}]
    health: {{path: /health, port: 9080}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoHosts:
    """The mesh that runs on two machines."""

    machines: tuple[Machine, Machine]
    places: tuple[Place, Place]
    plane: Plane

    def get(self, path: str, *, jason: bool = False) -> Reply:
        """A request to the ingress, as from the first machine."""
        return self.machines[0].inside(lambda: get(PORT, path, JASON if jason else {}))

    def versions(self, count: int = 16) -> set[str]:
        bodies = [self.get(REVIEWS) for _ in range(count)]
        return {reply.body.partition('"version":"')[2].partition('"')[0] or str(reply.status) for reply in bodies}

    def whole(self) -> bool:
        return all(found.ready() for found in self.places) and self.places[0].synced(PROXIES)


MODES = ("transparent", "transparent without root", "explicit")


@pytest.fixture(scope="module", params=MODES)
def hosts(request: pytest.FixtureRequest) -> Iterator[TwoHosts]:
    if os.geteuid() != 0:
        pytest.skip("an ordinary user has two hosts in a user namespace alone: see the last test of this file")
    user = ordinary() if request.param == "transparent without root" else User.current()
    capture = f"--capture={request.param.split()[0]}"
    with ExitStack() as stack:
        machines = stack.enter_context(two_machines())
        one, two = (stack.enter_context(place(user)) for _ in machines)
        one.before, two.before = machines[0].before, machines[1].before
        _write(one, FIRST + _workload("productpage-v1"))
        _write(two, SECOND + "".join(map(_workload, ("details-v1", "ratings-v1", "reviews-v1", "reviews-v3"))))
        plane = Plane(place=one, host=machines[0].address, xds=15012, join=15013)
        plane.start()
        until(lambda: one.status("control-plane").get("ready"), "the control plane is ready")
        first = plane.token("one", "istio-system/*", "default/bookinfo-productpage")
        second = plane.token("two", *(f"default/bookinfo-{name}" for name in ("details", "ratings", "reviews")))
        began = time.monotonic()
        for found, token in ((one, first), (two, second)):
            AgentHost(place=found, plane=plane, token=token, options=(capture,)).start()
        running = TwoHosts(machines=machines, places=(one, two), plane=plane)
        until(running.whole, "both hosts are ready", 60)
        until(lambda: PRODUCTPAGE in running.get(PAGE).body, "a page with details", 5)
        print(f"{request.param}: both hosts ready after {time.monotonic() - began:.1f} s")
        yield running


def _write(found: Place, text: str) -> None:
    file = found.write(PORT)
    file.write_text(text)
    found.user.give(Path(file))


def test_calls_cross_between_hosts(hosts: TwoHosts) -> None:
    """The page is whole, each service sees its caller's certificate, and routes and policies hold as on one host."""
    page = hosts.get(PAGE)
    assert page.status == 200
    assert page.peer == INGRESS
    assert PRODUCTPAGE in page.body
    assert hosts.get(DETAILS).status == 200
    assert hosts.get(RATINGS).status == 403  # productpage may not ask ratings
    folder = hosts.places[0].mesh
    apply_edit(folder, "reviews/v3")
    until(lambda: hosts.versions() == {"v3"}, "an edit on one host is live for calls to the other", 15)
    undo_edit(folder, "reviews/v3")
    assert hosts.get(REVIEWS).status in (200, 503)  # v2 runs nowhere


def test_no_plaintext_between_hosts(hosts: TwoHosts) -> None:
    row = hosts.places[1].row("default/details-v1")
    assert row["mesh_address"] == hosts.machines[1].address
    port = row["mesh_ports"]["9080"]
    answer = hosts.machines[0].inside(lambda: get(port, "/details/0", host=hosts.machines[1].address))
    assert answer.status == 0


def test_a_host_runs_what_its_token_names_and_nothing_else(hosts: TwoHosts) -> None:
    """Whoever has the second host cannot be productpage."""
    token = hosts.plane.token("three", "default/bookinfo-details")
    thief = hosts.places[1].run(
        "run",
        "--name=thief",
        "--service-account=bookinfo-productpage",
        f"--control-plane={hosts.plane.host}:{hosts.plane.xds}",
        f"--join={hosts.plane.host}:{hosts.plane.join}",
        "--",
        "true",
        env={"GOSSAMER_TOKEN": token},
    )
    assert thief.child.returncode == 1
    assert "may not run default/bookinfo-productpage: its join token grants it default/bookinfo-details" in thief.said


def test_the_link_fails_and_returns(hosts: TwoHosts) -> None:
    """While it is down calls fail; soon after it is up again, none does, and the second host hears of edits."""
    requests = Requests(
        base=f"http://127.0.0.1:{PORT}", path=DETAILS, rate=RATE, connections=4, timeout_s=5, label=status_of
    )
    with load(requests, hosts.machines[0].enter) as record:
        time.sleep(0.5)
        hosts.machines[1].link("down")
        time.sleep(3)
        hosts.machines[1].link("up")
        up = time.monotonic()
        back = until(lambda: _good(hosts), "calls cross again", 20)
        time.sleep(1)
    late = record.between(up + back, up + 60)
    print(f"link down for 3 s: {len(record.failed)} of {len(record)} failed {dict(record.problems())}", end="; ")
    print(f"calls cross again {back:.1f} s after it is up")
    assert record.failed
    assert len(late) > RATE / 4
    assert not late.failed, late.problems()
    until(hosts.whole, "every proxy is in sync again", 30)


def _good(hosts: TwoHosts) -> bool:
    return all(hosts.get(DETAILS).status == 200 for _ in range(4))


def test_as_root_of_a_user_namespace() -> None:
    """All of the above, by an ordinary user who is root in a user namespace alone, as in a container without rights.

    When these tests run as root, only what crosses between the hosts, since the rest was above.
    """
    names = "(transparent or explicit) and not without and not namespace"
    if os.geteuid() == 0:
        names += " and transparent and (cross or plaintext)"
    with place(ordinary()) as found:
        command = [*found.user.before, *OWN_ROOT, sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-s"]
        # what has no other mark of this place, Envoy that is, has it in its PATH
        env = found.env | {"PATH": f"{found.root}/bin:{os.environ['PATH']}", "GOSSAMER_REQUIRE": ""}
        inner = subprocess.run(
            [*command, __file__, "-k", names],
            env=env,
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
        print(inner.stdout)
        need(inner.returncode != NOT_ALLOWED, "user namespaces are not allowed here")
        assert inner.returncode == 0, inner.stdout
        assert " passed" in inner.stdout
        assert "skipped" not in inner.stdout
