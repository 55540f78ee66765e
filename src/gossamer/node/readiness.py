"""Where a sidecar or gateway says whether it is ready: `GET /healthz/ready`, on port 15021 as Istio's.

Envoy itself answers, 200 while it serves with its configuration and 503 while it drains; until it has its first
configuration nobody listens there. Invariant: never in the way: without a free port it serves all the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gossamer.model.proxy import CaptureMode, ProxyType
from gossamer.node.capture.ports import Ports
from gossamer.node.capture.workloads import Captured
from gossamer.node.workload import WorkloadSpec

READY_PORT: Final = 15021
_ANY: Final = "0.0.0.0"  # noqa: S104 - inside a network of the workload's own, or for load balancers to ask


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """Where readiness is asked for; port 0 where it is not. `network` is the path of a network namespace, empty for the
    host's; `problem` says why there is no port although one is wanted."""

    address: str = ""
    port: int = 0
    network: str = ""
    problem: str = ""

    def __str__(self) -> str:
        """`HOST:PORT`, empty without a port."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}" if self.port else ""


def choose_readiness(spec: WorkloadSpec, captured: Captured, ports: Ports, *, runs: bool) -> Readiness:
    """The readiness port of one Envoy, which `runs` already where an earlier agent left it.

    A workload with a network or a loopback address of its own has 15021 to itself; on the host's network the first that
    wants a port has it.
    """
    port = READY_PORT if spec.readiness_port is None else spec.readiness_port
    capture = captured.capture
    if not port:
        return Readiness()
    if capture.network_namespace:
        return Readiness(address=_ANY, port=port, network=capture.network_namespace)
    if spec.type is ProxyType.SIDECAR and capture.mode is CaptureMode.EXPLICIT:
        return Readiness(address=capture.address, port=port)
    address = spec.gateway_address if spec.type is ProxyType.ROUTER else _ANY
    if ports.claim(f"{spec.slug}/ready", address, port, held=runs):
        return Readiness(address=address, port=port)
    problem = f"its readiness port {port} is taken at {address}: give it another by readinessPort, or 0 for none"
    return Readiness(problem=problem)
