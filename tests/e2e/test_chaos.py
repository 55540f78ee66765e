"""kill -9 of every part of the mesh in turn, under constant load: what each costs, and that each comes back.

One mesh for all tests, as on a host of its own: a control plane and an agent, each started by itself and started again
by the test, as a supervisor would.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from gossamer.cli.tour.load import Record, Requests
from gossamer.cli.tour.scene import DETAILS, PAGE, REVIEWS, version_of
from gossamer.demo.mesh import apply_edit, undo_edit
from tests.e2e.hosts import AgentHost, Plane, load
from tests.e2e.meshes import Place, free_port, get, place, until

PROXIES = 7
RATE = 40.0


@dataclass(slots=True, kw_only=True)
class Mesh:
    """The mesh, and what its test does to it."""

    place: Place
    port: int
    plane: Plane
    host: AgentHost

    @contextmanager
    def load(self, path: str = REVIEWS) -> Iterator[Record]:
        requests = Requests(base=f"http://127.0.0.1:{self.port}", path=path, rate=RATE, connections=4, label=version_of)
        with load(requests) as record:
            time.sleep(0.5)
            yield record
            time.sleep(0.5)

    def envoy(self, name: str) -> int:
        """The process id of a workload's Envoy; 0 when none runs or nobody can say."""
        found = self.host.rows().get(name, {}).get("envoy_pid", 0)
        assert isinstance(found, int)
        return found

    def serves(self, name: str, before: int) -> bool:
        """Whether a workload has another Envoy than `before`, and that is ready."""
        row = self.host.rows().get(name, {})
        return row.get("envoy_pid") not in (0, before, None) and row.get("envoy") == "ready"

    def envoys(self) -> dict[str, int]:
        return {name: self.envoy(name) for name in self.host.rows()}

    def whole(self) -> bool:
        """Whether everything runs, is connected and has the last configuration."""
        return self.place.ready() and self.place.synced(PROXIES)

    def edit_is_live(self) -> float:
        """Seconds from an edit of the configuration on disk to its effect, both ways."""
        apply_edit(self.place.mesh, "reviews/v3")
        took = until(lambda: self.versions(14) == {"v3"}, "an edit is live", 20)
        undo_edit(self.place.mesh, "reviews/v3")
        until(lambda: self.versions(14) == {"v1", "v2", "v3"}, "the undoing of the edit is live", 20)
        return took

    def versions(self, count: int) -> set[str]:
        """The versions of reviews that answer; the status of what fails among them."""
        return {self._version() for _ in range(count)}

    def _version(self) -> str:
        reply = get(self.port, REVIEWS)
        return reply.body.partition('"version":"')[2].partition('"')[0] or str(reply.status)


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    with place() as found:
        port = free_port()
        found.write(port)
        plane = Plane(place=found)
        plane.start()
        until(lambda: found.status("control-plane").get("ready"), "the control plane is ready")
        host = AgentHost(place=found, plane=plane, token=plane.token("one", "*/*"))
        host.start()
        running = Mesh(place=found, port=port, plane=plane, host=host)
        until(running.whole, "ready")
        yield running


def _told(what: str, record: Record) -> None:
    print(f"{what}: {len(record.failed)} of {len(record)} requests failed {dict(record.problems())}")


def test_control_plane(mesh: Mesh) -> None:
    """Its death costs no request; when it is back, everything reconnects and edits work."""
    assert mesh.plane.part is not None
    with mesh.load() as record:
        mesh.plane.part.kill()
        time.sleep(2)
        mesh.plane.start()
        back = until(mesh.whole, "every proxy is back in sync")
    _told(f"kill -9 control plane (back in sync after {back:.1f} s)", record)
    assert not record.failed
    print(f"an edit is live after {mesh.edit_is_live():.2f} s")


def test_agent(mesh: Mesh) -> None:
    """Its death costs no request: its Envoys and applications go on, and the next agent takes them over as they are."""
    before = mesh.envoys()
    assert mesh.host.part is not None
    with mesh.load() as record:
        mesh.host.part.kill()
        time.sleep(2)
        mesh.host.start()
        back = until(mesh.whole, "the agent is back")
    _told(f"kill -9 agent (whole again after {back:.1f} s)", record)
    assert not record.failed
    assert mesh.envoys() == before
    print(f"an edit is live after {mesh.edit_is_live():.2f} s")


@pytest.mark.parametrize(
    ("name", "path"), [("reviews-v1", REVIEWS), ("details-v1", DETAILS), ("istio-ingressgateway", REVIEWS)]
)
def test_envoy(mesh: Mesh, name: str, path: str) -> None:
    """An Envoy's death costs nothing where others can take over, and else what comes before it is back."""
    before = mesh.envoy(name)
    with mesh.load(path) as record:
        os.kill(before, signal.SIGKILL)
        killed = time.monotonic()
        back = until(lambda: mesh.serves(name, before), "the Envoy is back")
        time.sleep(1)
    _told(f"kill -9 Envoy of {name} (serves again after {back:.1f} s)", record)
    late = record.between(killed + back + 0.5, killed + 60)
    assert len(late) > RATE / 4
    assert not late.failed, late.problems()
    assert not record.failed or name != "reviews-v1"
    until(mesh.whole, "everything is in sync")
    print(f"an edit is live after {mesh.edit_is_live():.2f} s")


def test_warden(mesh: Mesh) -> None:
    """The process that holds the namespaces takes all that runs on the host with it; the next agent starts it anew."""
    assert mesh.host.part is not None
    os.kill(_warden(mesh.place), signal.SIGKILL)
    assert mesh.host.part.wait() == 1
    assert "start the agent again" in mesh.host.part.said
    left = [words for words in mesh.place.processes().values() if "control-plane" not in words]
    assert left == []
    mesh.host.start()
    print(f"kill -9 warden: whole again {until(mesh.whole, 'the host is whole again'):.1f} s after the agent's start")
    assert mesh.versions(30) == {"v1", "v2", "v3"}


def _warden(found: Place) -> int:
    """The first of its name; those that it forked are below it."""
    wardens = {pid for pid, words in found.processes().items() if "sandbox_warden" in words}
    parents = {pid: int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) for pid in wardens}
    (first,) = [pid for pid in wardens if parents[pid] not in wardens]
    return first


def test_restarts_while_the_control_plane_is_away(mesh: Mesh) -> None:
    """Envoy, the agent, the whole host: each starts again with what it had, and traffic goes on."""
    assert mesh.plane.part is not None
    assert mesh.host.part is not None
    mesh.plane.part.kill()
    before = mesh.envoy("reviews-v1")
    with mesh.load(PAGE) as record:
        os.kill(before, signal.SIGKILL)
        until(lambda: mesh.serves("reviews-v1", before), "the Envoy is back")
        mesh.host.part.kill()
        time.sleep(0.5)
        mesh.host.start()
        until(mesh.place.ready, "the agent is back")
        time.sleep(1)
    _told("kill -9 Envoy, then agent, with no control plane", record)
    assert not record.failed  # the page is whole whatever fails behind it; its own way in was never touched
    assert mesh.versions(30) == {"v1", "v2", "v3"}
    assert mesh.host.part.stop() == 0
    assert get(mesh.port, PAGE).status == 0
    mesh.host.start()
    print(f"the host starts without a control plane: ready after {until(mesh.place.ready, 'ready'):.1f} s")
    assert mesh.versions(30) == {"v1", "v2", "v3"}
    mesh.plane.start()
    until(mesh.whole, "every proxy is back in sync")
    print(f"an edit is live after {mesh.edit_is_live():.2f} s")
