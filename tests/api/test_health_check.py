"""What a HealthCheck may say."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.documents import errors


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"host": "a", "tcp": {}}, []),
        ({"host": "a", "http": {"path": "/x", "expectedStatuses": [200, 204]}, "interval": "250ms"}, []),
        ({"host": "a.b.c", "port": 80, "grpc": {"service": "s"}}, []),
        ({"host": "a"}, [("required", "spec")]),
        ({"host": "", "tcp": {}}, [("required", "spec.host")]),
        ({"host": "*.a", "tcp": {}}, [("invalid-host", "spec.host")]),
        ({"host": "a", "tcp": {}, "grpc": {}}, [("exclusive-fields", "spec.tcp")]),
        ({"host": "a", "tcp": {}, "interval": "0s"}, [("invalid-duration", "spec.interval")]),
        ({"host": "a", "tcp": {}, "port": 70000}, [("invalid-port", "spec.port")]),
        ({"host": "a", "tcp": {}, "unhealthyThreshold": 0}, [("out-of-range", "spec.unhealthyThreshold")]),
        ({"host": "a", "http": {"path": "x"}}, [("invalid-value", "spec.http.path")]),
        ({"host": "a", "http": {"expectedStatuses": [99]}}, [("out-of-range", "spec.http.expectedStatuses[0]")]),
        ({"host": "a", "http": {"expectedStatuses": []}}, [("required", "spec.http.expectedStatuses")]),
        ({"host": "a", "tcp": {}, "retries": 1}, [("unknown-field", "spec.retries")]),
    ],
)
def test_a_health_check(spec: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert errors("HealthCheck", spec) == expected
