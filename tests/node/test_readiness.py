"""Where readiness is asked for: which port, and what happens when it is taken."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from gossamer.core.frozen import FrozenMap
from gossamer.model.proxy import Capture, CaptureMode, ProxyType
from gossamer.node.capture.ports import Ports
from gossamer.node.capture.workloads import Captured
from gossamer.node.readiness import READY_PORT, Readiness, choose_readiness
from gossamer.node.workload import WorkloadSpec
from tests.node.capture_parts import free_port

DOOR = Captured(capture=Capture(address="127.0.0.1"))


def _gateway(port: int | None, name: str = "door") -> WorkloadSpec:
    return WorkloadSpec(name=name, type=ProxyType.ROUTER, gateway_address="127.0.0.1", readiness_port=port)


def test_a_network_of_its_own_has_the_port_to_itself() -> None:
    captured = Captured(capture=Capture(network_namespace="/run/netns/a"))
    spec = WorkloadSpec(name="a")
    found = choose_readiness(spec, captured, Ports(None), runs=False)
    assert found == Readiness(address="0.0.0.0", port=READY_PORT, network="/run/netns/a")
    other = WorkloadSpec(name="a", readiness_port=8086)
    assert choose_readiness(other, captured, Ports(None), runs=False).port == 8086


def test_explicit_capture_has_an_address_of_its_own() -> None:
    captured = Captured(capture=Capture(mode=CaptureMode.EXPLICIT, address="127.64.1.2"))
    found = choose_readiness(WorkloadSpec(name="a", labels=FrozenMap()), captured, Ports(None), runs=False)
    assert str(found) == "127.64.1.2:15021"


def test_none() -> None:
    assert choose_readiness(_gateway(0), DOOR, Ports(None), runs=False) == Readiness()


@pytest.mark.parametrize("shared", [False, True])
def test_the_first_has_it(shared: bool) -> None:
    """Also from another mesh of the same user, whose Envoys would share it."""
    with socket.socket() as taken:
        if shared:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = choose_readiness(_gateway(port), DOOR, Ports(None), runs=False)
    assert (found.port, str(found)) == (0, "")
    assert f"its readiness port {port} is taken at 127.0.0.1: give it another by readinessPort" in found.problem


def test_among_those_of_one_host(tmp_path: Path) -> None:
    """The first keeps it over restarts, though its own Envoy listens there."""
    port = free_port()
    ports = Ports(tmp_path / "ports.json")
    assert choose_readiness(_gateway(port), DOOR, ports, runs=False).port == port
    assert choose_readiness(_gateway(port, "second"), DOOR, ports, runs=False).problem
    assert f'"127.0.0.1",\n   {port}' in (tmp_path / "ports.json").read_text()
    with socket.socket() as own:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        own.bind(("127.0.0.1", port))
        own.listen()
        again = Ports(tmp_path / "ports.json")
        assert choose_readiness(_gateway(port), DOOR, again, runs=True).port == port
        assert choose_readiness(_gateway(port), DOOR, again, runs=False).problem, "then it is somebody else who listens"
    assert json.loads((tmp_path / "ports.json").read_text())["ports"] == {"default.door/ready": ["127.0.0.1", port]}
