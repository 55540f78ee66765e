"""MeshConfig's `defaultConfig`: how proxies are started and their workloads probed.

Rules: Istio's documentation of ProxyConfig.
"""

from __future__ import annotations

from datetime import timedelta

from gossamer.api.findings import At
from gossamer.api.proxy_config import ConnectionSettings, InboundInterceptionMode, ProxyConfig
from gossamer.api.rules.workload_group import check_probe


def check_default_config(config: ProxyConfig, at: At) -> None:
    drain = config.drain_duration
    if drain is not None and (drain < timedelta(seconds=1) or drain % timedelta(seconds=1)):
        at["drainDuration"].error("invalid-duration", "must be whole seconds, at least 1s")
    if config.interception_mode is InboundInterceptionMode.NONE:
        message = "`gossamer up` captures explicitly for it; an agent on another host does so with --capture explicit"
        at["interceptionMode"].info("capture", message)
    if config.readiness_probe is not None:
        check_probe(config.readiness_probe, at["readinessProbe"])
    limit = (config.connection_settings or ConnectionSettings()).listener_connection_limit
    if limit is not None and limit < 0:
        at["connectionSettings", "listenerConnectionLimit"].error("out-of-range", "must not be negative")
