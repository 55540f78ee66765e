"""Probes as users write them, in WorkloadGroups and in gossamer.yaml, as questions to a workload.

Invariant: a number that is left out, or 0, is the default that Istio documents.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gossamer.node.health import Probe
from gossamer.node.sandbox import Check

if TYPE_CHECKING:  # an agent that is told its workloads reads nothing of the API
    from gossamer.api.workload_group import HTTPHealthCheckConfig, ReadinessProbe

PERIOD_SECONDS: Final = 10.0
_TIMEOUT_SECONDS: Final = 1
_FAILURES: Final = 3


def probe_of(written: ReadinessProbe, period: float | None = PERIOD_SECONDS) -> Probe | None:
    """The probe, None if it says nothing to ask; `period` is that of a probe that names none."""
    timeout = written.timeout_seconds or _TIMEOUT_SECONDS
    check = _check(written, timeout)
    if check is None and written.exec is None:
        return None
    return Probe(
        check=check,
        command=written.exec.command if written.exec else (),
        timeout=timeout,
        initial_delay=written.initial_delay_seconds,
        period=written.period_seconds or period,
        successes=written.success_threshold or 1,
        failures=written.failure_threshold or _FAILURES,
    )


def _check(written: ReadinessProbe, timeout: float) -> Check | None:
    if written.http_get:
        return _http_check(written.http_get, timeout)
    if written.tcp_socket:
        return Check(port=written.tcp_socket.port, address=written.tcp_socket.host, seconds=timeout)
    if written.grpc:
        return Check(port=written.grpc.port, service=written.grpc.service, seconds=timeout)
    return None


def _http_check(written: HTTPHealthCheckConfig, timeout: float) -> Check:
    return Check(
        port=written.port,
        address=written.host,
        path=written.path if written.path.startswith("/") else f"/{written.path}",
        headers=tuple((header.name, header.value) for header in written.http_headers),
        tls=written.scheme == "HTTPS",
        seconds=timeout,
    )
