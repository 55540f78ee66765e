"""HealthCheck: what can be asked, and of whom."""

from __future__ import annotations

from typing import Any

from gossamer.api import names
from gossamer.api.findings import At
from gossamer.api.health_check import HealthCheck
from gossamer.api.resource import Resource
from gossamer.api.rules.common import check, check_duration, check_one_of, check_port, check_range, require


def check_health_check(resource: Resource[HealthCheck], _raw: Any, at: At) -> None:
    spec = resource.spec
    if require(spec.host, at["host"], "host must not be empty: it names the service whose endpoints are checked"):
        check(names.domain_problem(spec.host), at["host"], "invalid-host")
    if spec.port:
        check_port(spec.port, at["port"])
    check_duration(spec.interval, at["interval"])
    check_duration(spec.timeout, at["timeout"])
    check_range(spec.unhealthy_threshold, 1, 1000, at["unhealthyThreshold"])
    check_range(spec.healthy_threshold, 1, 1000, at["healthyThreshold"])
    ways = {"http": spec.http is not None, "grpc": spec.grpc is not None, "tcp": spec.tcp is not None}
    check_one_of(at, ways)
    if not any(ways.values()):
        at.error("required", "say how to check: one of http, grpc or tcp (tcp: {} tries to connect)")
    if spec.http is not None:
        if not spec.http.path.startswith("/"):
            at["http", "path"].error("invalid-value", "path must begin with /")
        require(spec.http.expected_statuses, at["http", "expectedStatuses"], "name at least one status")
        for index, status in enumerate(spec.http.expected_statuses):
            check_range(status, 100, 599, at["http", "expectedStatuses", index])
