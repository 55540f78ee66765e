"""What an agent shows of one workload."""

from __future__ import annotations

from dataclasses import dataclass

from gossamer.node.envoy import EnvoyState
from gossamer.node.sidecar import Sidecar


@dataclass(frozen=True, slots=True, kw_only=True)
class SidecarStatus:
    """What `gossamer proxy list` shows of one workload's host side."""

    namespace: str
    name: str
    type: str
    envoy: str
    envoy_pid: int
    envoy_restarts: int
    envoy_version: str
    """Empty until it serves."""
    application: str
    application_pid: int
    application_restarts: int
    problem: str
    log: str
    application_log: str
    certificate_ends: str
    control_plane: str
    mesh_address: str
    mesh_ports: dict[int, int]
    readiness: str
    """`HOST:PORT` where readiness is asked for; empty where it is not."""
    notice: str
    """What is not as it was asked for although it serves."""


def view_sidecar(sidecar: Sidecar) -> SidecarStatus:
    """How a workload is now."""
    envoy, application, relay, identity = sidecar.envoy, sidecar.application, sidecar.relay, sidecar.identity
    capture = sidecar.captured.capture if sidecar.captured else None
    return SidecarStatus(
        namespace=sidecar.spec.namespace,
        name=sidecar.spec.name,
        type=sidecar.spec.type.value,
        envoy=envoy.state.value.value if envoy else EnvoyState.STARTING.value,
        envoy_pid=envoy.pid if envoy else 0,
        envoy_restarts=envoy.restarts if envoy else 0,
        envoy_version=envoy.version if envoy else "",
        application=application.state.value.value if application else "",
        application_pid=application.pid if application else 0,
        application_restarts=application.restarts if application else 0,
        problem=sidecar.problem or (application.problem if application else ""),
        log=str(sidecar.log),
        application_log=str(sidecar.application_log),
        certificate_ends=identity.value.not_after.isoformat() if identity else "",
        control_plane=relay.status.problem or "connected" if relay else "",
        mesh_address=capture.mesh_address if capture else "",
        mesh_ports=dict(capture.mesh_ports) if capture else {},
        readiness=str(sidecar.readiness),
        notice=sidecar.readiness.problem,
    )
