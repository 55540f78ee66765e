"""`gossamer up` from the command to the first page, in every capture mode, and to an end that leaves nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gossamer.node import sandbox_linux as linux
from tests.conftest import need
from tests.e2e.meshes import (
    INGRESS,
    PRODUCTPAGE,
    SMALL,
    Part,
    Place,
    free_port,
    get,
    is_left_of,
    links,
    place,
    until,
)
from tests.e2e.users import ordinary

PAGE = "/productpage"


def _page(port: int) -> Callable[[], bool]:
    return lambda: get(port, PAGE).status == 200


def test_first_page_and_two_meshes_side_by_side() -> None:
    """Two meshes on one machine, of the same names and addresses, know nothing of one another; of one file and state
    there is one at a time."""
    with place() as one, place() as two:
        ports = free_port(), free_port()
        one.write(ports[0])
        two.write(ports[1], SMALL)
        first = one.up()
        print(f"first 200 through ingress and two sidecars after {until(_page(ports[0]), 'the page'):.2f} s")
        print(f"all seven ready after another {until(one.ready, 'ready'):.2f} s")
        second = two.up()
        until(two.ready, "the second mesh is ready")
        until(_page(ports[1]), "the second page")  # its gateway hears of the last endpoint a moment after that is ready
        assert [get(port, PAGE).status for port in ports] == [200, 200]
        assert get(ports[0], "/api/v1/products/0/reviews").status == 200
        # the second has no reviews: had it the first's endpoints, or its trust, it would have an answer
        assert get(ports[1], "/api/v1/products/0/reviews").status == 503
        second.stop()
        again = one.run("up", "-f", str(one.mesh / "gossamer.yaml"), f"--state={one.state}")
        assert again.child.returncode == 1
        assert f"(process {first.pid})" in again.said
        assert get(ports[0], PAGE).status == 200


@pytest.mark.parametrize(
    ("who", "capture"), [("root", "transparent"), ("ordinary user", "transparent"), ("ordinary user", "explicit")]
)
def test_mutual_tls_in_each_capture_mode(who: str, capture: str) -> None:
    """A request passes ingress and two sidecars, each of which proves who it is; plaintext gets nowhere."""
    need(who == "ordinary user" or os.geteuid() == 0, "this needs root")
    with place(ordinary() if who == "ordinary user" else None) as found:
        port = free_port()
        ready = free_port()
        found.write(port, SMALL.replace("address: 127.0.0.1", f"address: 127.0.0.1\n    readinessPort: {ready}"))
        up = found.up(f"--capture={capture}")
        until(lambda: found.ready() or up.child.poll() is not None, "ready")
        need("does not allow transparent capture" not in up.said, f"{who} may not make namespaces here")
        until(lambda: PRODUCTPAGE in get(port, PAGE).body, "details has seen productpage's certificate", 5)
        assert get(port, PAGE).peer == INGRESS
        if who != "root":
            _tells_who_could_be_bypassed(found, bypassable=capture == "explicit")
        chosen = found.status("agent")["capture"]
        assert chosen.startswith(_name(capture, who)), chosen
        row = found.row("default/details-v1")
        assert get(row["mesh_ports"]["9080"], "/details/0", host=row["mesh_address"]).status == 0
        assert _says_ready(found.row("istio-system/istio-ingressgateway")) == (f"127.0.0.1:{ready}", 200)
        if os.geteuid() == 0 or capture == "explicit":  # else this process cannot go where the application is
            assert _says_ready(row)[1] == 200
        assert up.stop() == 0


def _tells_who_could_be_bypassed(found: Place, *, bypassable: bool) -> None:
    """Both in the list of proxies and in the overview; a gateway captures nothing."""
    sidecars = ["default/details-v1", "default/productpage-v1"]
    state = f"--state={found.state}"
    (mesh,) = json.loads(found.run("status", "-o", "json", state).said)["meshes"]
    assert mesh["capture"]["bypassable"] == (sidecars if bypassable else [])
    assert mesh["well"] is not bypassable, mesh
    assert mesh["proxies"]["known"] == mesh["proxies"]["in_sync"] == 3
    assert found.run("proxy", "list", state).said.count("(bypassable)") == (2 if bypassable else 0)


def _says_ready(row: dict[str, Any]) -> tuple[str, int]:
    """Where readiness is asked for, and the answer on the application's own network."""
    host, _, port = row["readiness"].rpartition(":")

    def ask() -> int:
        if row["application_pid"] and os.geteuid() == 0:
            with Path(f"/proc/{row['application_pid']}/ns/net").open() as network:
                linux.setns(network.fileno(), linux.CLONE_NEWNET)
        return get(int(port), "/healthz/ready", host=host).status

    with ThreadPoolExecutor(1) as thread:
        return row["readiness"], thread.submit(ask).result()


def _name(capture: str, who: str) -> str:
    if capture == "explicit":
        return "explicit"
    return "transparent (root)" if who == "root" else "transparent (user namespace)"


# ---- how it ends


@dataclass(slots=True)
class Terminal:
    """A pseudo-terminal that somebody looks at."""

    ours: int
    theirs: int
    closed: bool = False

    def look(self) -> None:
        """Take what was written to it, so that there is room for more."""
        with contextlib.suppress(OSError):  # nothing more, or nobody there any more
            while os.read(self.ours, 65536):
                pass

    def type(self, text: bytes) -> None:
        os.write(self.ours, text)

    def type_twice(self, text: bytes) -> None:
        self.type(text)
        time.sleep(0.3)
        self.type(text)

    def close(self) -> None:
        """Close it, if it is not closed yet."""
        if not self.closed:
            self.closed = True
            os.close(self.ours)


def looked_at(terminal: Terminal, condition: Callable[[], bool]) -> bool:
    terminal.look()
    return condition()


@pytest.fixture(scope="module")
def one_place() -> Iterator[tuple[Place, int]]:
    with place() as found:
        port = free_port()
        found.write(port, SMALL)
        yield found, port


@pytest.fixture
def used(one_place: tuple[Place, int]) -> Iterator[tuple[Place, int]]:
    """A place in which mesh after mesh runs, each on the state of the one before, and its ingress's port."""
    yield one_place
    one_place[0].end()


ENDS: dict[str, Callable[[Part, Terminal], object]] = {
    "Ctrl-C": lambda _, terminal: terminal.type(b"\x03"),
    "SIGTERM": lambda up, _: up.send(signal.SIGTERM),
    # the kernel sends SIGHUP, and what is written to it fails
    "its terminal dies": lambda _, terminal: terminal.close(),
    "kill -9": lambda up, _: up.send(signal.SIGKILL),
    "Ctrl-C twice": lambda _, terminal: terminal.type_twice(b"\x03"),
}


@pytest.mark.parametrize("end", ENDS)
def test_nothing_is_left(used: tuple[Place, int], end: str) -> None:
    """However it ends: no process, namespace, link, socket or mount; and the next starts where it left off."""
    found, port = used
    before = links()
    terminal = Terminal(*pty.openpty())
    os.set_blocking(terminal.ours, False)
    try:
        up = found.up(terminal=terminal.theirs)
        os.close(terminal.theirs)
        until(lambda: looked_at(terminal, found.ready), "ready")
        until(_page(port), "the page", 5)  # callers hear a moment later that it is
        networks = found.namespaces()
        began = time.monotonic()
        ENDS[end](up, terminal)
        until(lambda: looked_at(terminal, lambda: up.child.poll() is not None), "the end of `up`")
        until(lambda: not found.processes(), "the end of what it started", 15)
    finally:
        terminal.close()
    print(f"{end}: all is gone after {time.monotonic() - began:.2f} s")
    assert is_left_of(found, networks) == []
    assert links() <= before
    assert up.child.returncode == {"kill -9": -signal.SIGKILL, "Ctrl-C twice": 130}.get(end, 0)


def test_files_that_are_no_meshes() -> None:
    """What is wrong is said with its line, and nothing was started, or what was has ended."""
    with place() as found:
        missing = found.run("up", "-f", str(found.root / "nowhere.yaml"))
        assert missing.child.returncode == 2
        assert "nowhere.yaml" in missing.said
        found.write(free_port(), SMALL.replace("ports: [9080]", "ports: [high]"))
        wrong = found.run("up", "-f", str(found.mesh / "gossamer.yaml"))
        assert wrong.child.returncode == 1
        assert "gossamer.yaml:14:13" in wrong.said
        assert "ports: [high]" in wrong.said
        assert found.processes() == {}


def test_a_gateway_whose_port_is_taken() -> None:
    """`up` says which, and the gateway opens it once it is free."""
    with place() as found, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = int(taken.getsockname()[1])
        found.write(port, SMALL)
        up = found.up()
        said = f"Gateway default/bookinfo spec.servers[0] asks for: 127.0.0.1_{port}"
        until(lambda: said in up.said and f"cannot bind '127.0.0.1:{port}'" in up.said, "it says what is wrong")
        taken.close()
        print(f"the page is there {until(_page(port), 'the page'):.1f} s after its port is free")
