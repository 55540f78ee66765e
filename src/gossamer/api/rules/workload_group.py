"""WorkloadGroup, and health probes.

Rules: Istio's documentation of WorkloadGroup, and what its CRD enforces.
"""

from __future__ import annotations

from typing import Any, Final

from gossamer.api.findings import At
from gossamer.api.resource import Resource
from gossamer.api.rules.common import (
    check_count,
    check_filled,
    check_labels,
    check_not_negative,
    check_one_of,
    check_pattern,
    check_port,
    require,
)
from gossamer.api.rules.request_authentication import HEADER_PATTERN
from gossamer.api.rules.services import check_workload_entry
from gossamer.api.workload_group import HTTPHealthCheckConfig, ReadinessProbe, WorkloadGroup

SCHEMES: Final = ("", "HTTP", "HTTPS")


def check_workload_group(resource: Resource[WorkloadGroup], _raw: Any, at: At) -> None:
    spec = resource.spec
    if spec.metadata:
        check_labels(spec.metadata.labels, at["metadata", "labels"])
        check_count(spec.metadata.labels, 256, at["metadata", "labels"])
        check_count(spec.metadata.annotations, 256, at["metadata", "annotations"])
    check_workload_entry(spec.template, at["template"], template=True)
    if spec.template.address:
        message = "each instance brings its own address; the template's is not used"
        at["template", "address"].warning("no-effect", message)
    if spec.probe:
        check_probe(spec.probe, at["probe"])


def check_probe(probe: ReadinessProbe, at: At) -> None:
    """At most one way to probe, and one that can be tried."""
    methods = {
        "httpGet": probe.http_get is not None,
        "tcpSocket": probe.tcp_socket is not None,
        "exec": probe.exec is not None,
        "grpc": probe.grpc is not None,
    }
    check_one_of(at, methods)
    if not any(methods.values()):
        at.error("required", f"the probe must say what is asked: one of {', '.join(methods)}")
    check_periods(probe, at)
    if probe.http_get:
        _check_http(probe.http_get, at["httpGet"])
    if probe.tcp_socket:
        check_port(probe.tcp_socket.port, at["tcpSocket", "port"])
    if probe.grpc:
        check_port(probe.grpc.port, at["grpc", "port"])
    if probe.exec:
        require(probe.exec.command, at["exec", "command"], "Required value: the command to run")
        check_filled(probe.exec.command, at["exec", "command"])


def check_periods(probe: ReadinessProbe, at: At) -> None:
    """When and how often it is probed."""
    for name, number in (
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ):
        check_not_negative(number, at[name])


def _check_http(probe: HTTPHealthCheckConfig, at: At) -> None:
    check_port(probe.port, at["port"])
    if probe.scheme not in SCHEMES:
        at["scheme"].error("invalid-value", f'scheme must be one of [HTTP, HTTPS], not "{probe.scheme}"')
    for index, header in enumerate(probe.http_headers):
        check_pattern(header.name, HEADER_PATTERN, at["httpHeaders", index, "name"])
