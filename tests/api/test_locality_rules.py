"""What may be said of localities, zones, tunnels and retry budgets."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.documents import errors, load_one, resource

POLICY = "spec.trafficPolicy"
LOCALITY = f"{POLICY}.loadBalancer.localityLbSetting"


def policy(**fields: Any) -> dict[str, Any]:
    return {"host": "a", "trafficPolicy": fields}


def locality(**fields: Any) -> dict[str, Any]:
    return policy(loadBalancer={"localityLbSetting": fields}, outlierDetection={})


def share(to: dict[str, int], from_: str = "a/*") -> dict[str, Any]:
    return locality(distribute=[{"from": from_, "to": to}])


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (share({"a/b/*": 80, "c/*": 20}), []),
        (share({"*": 100}, from_="*"), []),
        (locality(failover=[{"from": "a", "to": "b"}], failoverPriority=["x"], enabled=True), []),
        (share({"a/*": 80}), [("invalid-weight", f"{LOCALITY}.distribute[0].to")]),
        (share({}), [("required", f"{LOCALITY}.distribute[0].to")]),
        (share({"a/b": 100}, from_=""), [("required", f"{LOCALITY}.distribute[0].from")]),
        (share({"a": 100}, from_="a/b/c/d"), [("invalid-value", f"{LOCALITY}.distribute[0].from")]),
        (share({"a": 100}, from_="*/b"), [("invalid-value", f"{LOCALITY}.distribute[0].from")]),
        (share({"a/*": 50, "a/b/*": 50}), [("overlap", f'{LOCALITY}.distribute[0].to["a/b/*"]')]),
        (
            locality(distribute=[{"from": "a", "to": {"a": 100}}], failover=[{"from": "a", "to": "b"}]),
            [("exclusive-fields", f"{LOCALITY}.failover")],
        ),
        (locality(failover=[{"from": "a", "to": "a"}]), [("invalid-value", f"{LOCALITY}.failover[0].to")]),
        (locality(failover=[{"from": "a/b", "to": "c"}]), [("invalid-value", f"{LOCALITY}.failover[0].from")]),
        (locality(failover=[{"from": "a", "to": "*"}]), [("invalid-value", f"{LOCALITY}.failover[0].to")]),
        (share({"a": 0, "b": 100}), [("out-of-range", f"{LOCALITY}.distribute[0].to.a")]),
        (
            locality(distribute=[{"from": "a", "to": {"d": 100}}, {"from": "a/b", "to": {"d": 100}}]),
            [("overlap", f"{LOCALITY}.distribute[1].from")],
        ),
        (
            locality(distribute=[{"from": "a", "to": {"d": 100}}, {"from": "a", "to": {"d": 100}}]),
            [("overlap", f"{LOCALITY}.distribute[1].from")],
        ),
        (
            policy(outlierDetection={"consecutiveErrors": -1}),
            [("out-of-range", f"{POLICY}.outlierDetection.consecutiveErrors")],
        ),
        (
            policy(outlierDetection={"consecutiveLocalOriginFailures": 3}),
            [("invalid-value", f"{POLICY}.outlierDetection.consecutiveLocalOriginFailures")],
        ),
        (
            policy(loadBalancer={"backendUtilization": {"weightUpdatePeriod": "0s"}}),
            [("invalid-duration", f"{POLICY}.loadBalancer.backendUtilization.weightUpdatePeriod")],
        ),
        (
            policy(loadBalancer={"localityLbSetting": {}, "zoneAwareLbSetting": {"enabled": True}}),
            [("exclusive-fields", f"{POLICY}.loadBalancer.zoneAwareLbSetting")],
        ),
        (policy(tunnel={"targetHost": "a.com", "targetPort": 443, "protocol": "POST"}), []),
        (policy(tunnel={"targetHost": "10.0.0.1", "targetPort": 1}), []),
        (policy(tunnel={"targetHost": "", "targetPort": 443}), [("required", f"{POLICY}.tunnel.targetHost")]),
        (policy(tunnel={"targetHost": "a", "targetPort": 0}), [("invalid-port", f"{POLICY}.tunnel.targetPort")]),
        (
            policy(tunnel={"targetHost": "a", "targetPort": 1, "protocol": "GET"}),
            [("invalid-value", f"{POLICY}.tunnel.protocol")],
        ),
        (policy(retryBudget={"percent": 101.0}), [("out-of-range", f"{POLICY}.retryBudget.percent")]),
        (policy(retryBudget={"budgetInterval": "0s"}), []),
    ],
)
def test_a_policy(spec: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert errors("DestinationRule", spec) == expected


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        (policy(loadBalancer={"simple": "RANDOM", "warmup": {"duration": "1s"}}), f"{POLICY}.loadBalancer.warmup"),
    ],
)
def test_what_changes_nothing_is_said(spec: dict[str, Any], path: str) -> None:
    (warning,) = load_one(resource("DestinationRule", spec)).diagnostics
    assert (warning.code, warning.path, warning.is_error) == ("no-effect", path, False)
