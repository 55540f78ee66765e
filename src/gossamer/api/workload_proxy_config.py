"""ProxyConfig, the kind: settings of the proxies of some workloads, over those that MeshConfig gives to all.

Invariant: every field of Istio's API is here, under its JSON name in snake_case; nothing is interpreted.
"""

from __future__ import annotations

from dataclasses import dataclass

from gossamer.api.common import STRICT, Int32, StrMap, WorkloadSelector
from gossamer.api.proxy_config import ProxyImage
from gossamer.core.frozen import EMPTY


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadProxyConfig:
    """`ProxyConfig`."""

    __pydantic_config__ = STRICT
    selector: WorkloadSelector | None = None
    concurrency: Int32 | None = None
    environment_variables: StrMap = EMPTY
    image: ProxyImage | None = None
