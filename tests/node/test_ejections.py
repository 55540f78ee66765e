"""Which endpoints an Envoy leaves out, as its admin interface tells."""

from __future__ import annotations

import json
from typing import Any

from gossamer.node.ejections import observations_in
from gossamer.rpc import gossamer_pb2 as rpc


def host(address: str, **health: Any) -> dict[str, Any]:
    return {"address": {"socket_address": {"address": address, "port_value": 80}}, "health_status": health}


def test_endpoints_that_an_envoy_leaves_out_by_itself() -> None:
    hosts = [
        host("10.0.0.1", eds_health_status="HEALTHY"),
        host("10.0.0.2", failed_outlier_check=True),
        host("10.0.0.3", failed_active_health_check=True),
        host("10.0.0.4", failed_active_health_check=True, active_hc_timeout=True),
        host("10.0.0.5", failed_active_health_check=True, pending_active_hc=True, failed_outlier_check=True),
        host("10.0.0.6", eds_health_status="UNHEALTHY"),
        {"address": {"pipe": {"path": "/run/x.sock"}}, "health_status": {"failed_outlier_check": True}},
    ]
    clusters = [
        {"name": "outbound|80||a", "host_statuses": hosts},
        {"name": "inbound|80||", "host_statuses": [host("127.0.0.1", failed_outlier_check=True)]},
        {"name": "outbound|81||a"},
    ]
    found = observations_in(json.dumps({"cluster_statuses": clusters}), ("default", "client"))
    assert all((one.caller.namespace, one.caller.name) == ("default", "client") for one in found)
    assert [(one.cluster, one.address, one.port, list(one.exclusions)) for one in found] == [
        ("outbound|80||a", "10.0.0.2", 80, [rpc.EXCLUSION_OUTLIER]),
        ("outbound|80||a", "10.0.0.3", 80, [rpc.EXCLUSION_CHECK_FAILED]),
        ("outbound|80||a", "10.0.0.4", 80, [rpc.EXCLUSION_CHECK_TIMEOUT]),
        ("outbound|80||a", "10.0.0.5", 80, [rpc.EXCLUSION_OUTLIER, rpc.EXCLUSION_CHECK_PENDING]),
        ("outbound|80||a", "/run/x.sock", 0, [rpc.EXCLUSION_OUTLIER]),
    ]


def test_an_envoy_without_clusters() -> None:
    assert observations_in("{}", ("default", "client")) == []
