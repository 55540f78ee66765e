"""ProxyConfig, the kind.

Rules: Istio's documentation of ProxyConfig, and what its CRD enforces.
"""

from __future__ import annotations

from typing import Any

from gossamer.api.findings import At
from gossamer.api.positions import path_text
from gossamer.api.resource import Resource
from gossamer.api.rules.common import check_length
from gossamer.api.rules.targets import check_workload_selector
from gossamer.api.workload_proxy_config import WorkloadProxyConfig


def check_proxy_config(resource: Resource[WorkloadProxyConfig], _raw: Any, at: At) -> None:
    spec = resource.spec
    check_workload_selector(spec.selector, at["selector"])
    if spec.concurrency is not None and spec.concurrency < 0:
        here = at["concurrency"]
        message = f"{path_text(here.path)} in body should be greater than or equal to 0"
        here.error("out-of-range", message, "0 is one thread for each core")
    for name, value in spec.environment_variables.items():
        here = at["environmentVariables", name]
        if not name or "=" in name:
            here.error("invalid-value", f'"{name}" is not the name of a variable', on_key=True)
        check_length(value, 0, 2048, here)
