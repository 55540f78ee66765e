"""Locality and zone-aware load balancing, as DestinationRule and MeshConfig hold it.

Rules: Istio's documentation of LocalityLoadBalancerSetting and ZoneAwareLoadBalancerSetting.
"""

from __future__ import annotations

from collections.abc import Sequence

from gossamer.api.destination_rule import (
    Distribute,
    Failover,
    LocalityLoadBalancerSetting,
    ZoneAwareLoadBalancerSetting,
)
from gossamer.api.findings import At
from gossamer.api.rules.common import check_range, require

_WHOLE = 100
_LEVELS = 3


def check_locality(setting: LocalityLoadBalancerSetting, at: At) -> None:
    """Shares that make a whole, and one way to choose."""
    if setting.distribute and (setting.failover or setting.failover_priority):
        other = "failover" if setting.failover else "failoverPriority"
        message = f"distribute and {other} exclude each other: distribute already says where everything goes"
        at[other].error("exclusive-fields", message)
    for index, rule in enumerate(setting.distribute):
        _check_distribute(rule, at["distribute", index])
    sources = [rule.from_ for rule in setting.distribute]
    _check_apart(sources, [at["distribute", index, "from"] for index in range(len(sources))])
    _check_failover(setting.failover, at["failover"])


def check_zones(setting: ZoneAwareLoadBalancerSetting, at: At) -> None:
    _check_failover(setting.failover, at["failover"])
    if setting.min_cluster_size == 0:
        at["minClusterSize"].error("out-of-range", "Invalid value: 0: minClusterSize must be at least 1")


def _check_distribute(rule: Distribute, at: At) -> None:
    if require(rule.from_, at["from"], "say whose traffic is distributed: a locality such as region/zone/*"):
        _check_pattern(rule.from_, at["from"])
    if not require(rule.to, at["to"], "say where the traffic goes: localities with their weights"):
        return
    total = sum(rule.to.values())
    if total != _WHOLE:
        at["to"].error("invalid-weight", f"total locality weight {total} != {_WHOLE}: the weights must sum to 100")
    for pattern, weight in rule.to.items():
        _check_pattern(pattern, at["to", pattern])
        check_range(weight, 1, _WHOLE, at["to", pattern])
    _check_apart(list(rule.to), [at["to", pattern] for pattern in rule.to])


def _check_apart(patterns: Sequence[str], places: Sequence[At]) -> None:
    """No endpoint is claimed twice."""
    for index, pattern in enumerate(patterns):
        others = (*patterns[:index], *(other for other in patterns[index + 1 :] if other != pattern))
        wider = next((other for other in others if _covers(other, pattern)), None)
        if wider is not None:
            places[index].error("overlap", f"locality {pattern} overlaps with {wider}: both claim its endpoints")


def _check_pattern(pattern: str, at: At) -> None:
    parts = pattern.split("/")
    if len(parts) > _LEVELS or not all(parts):
        at.error("invalid-value", f"{pattern!r} is no locality; write region/zone/subzone, or * from some level on")
    elif "*" in "".join(parts[:-1]) or ("*" in parts[-1] and parts[-1] != "*"):
        at.error("invalid-value", f"{pattern!r}: * stands for all that is left, at the end and by itself")


def _covers(wider: str, narrower: str) -> bool:
    left, right = wider.removesuffix("*").rstrip("/").split("/"), narrower.removesuffix("*").rstrip("/").split("/")
    return wider == "*" or (len(left) <= len(right) and right[: len(left)] == left)


def _check_failover(rules: Sequence[Failover], at: At) -> None:
    for index, rule in enumerate(rules):
        here = at[index]
        require(rule.from_, here["from"], "say which region fails")
        require(rule.to, here["to"], "say which region takes its traffic")
        if rule.from_ and rule.from_ == rule.to:
            here["to"].error("invalid-value", f"failover from {rule.from_} to itself leads nowhere")
        for name, region in (("from", rule.from_), ("to", rule.to)):
            if "/" in region or "*" in region:
                here[name].error("invalid-value", f"{region!r} is no region, and failover goes by regions alone")
