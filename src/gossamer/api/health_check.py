"""HealthCheck (gossamer.io): callers of a service ask its endpoints, at intervals, how they are.

Istio has active checks only on the workload's own side. Invariant: nothing is interpreted here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from gossamer.api.common import STRICT, Duration, UInt32

GROUP: Final = "gossamer.io"


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck:
    """`HealthCheck`: exactly one of `http`, `grpc` and `tcp` says how to ask."""

    __pydantic_config__ = STRICT
    host: str
    """A service of the resource's own namespace; short names are Kubernetes services there."""
    port: UInt32 = 0
    """The service's port that is asked; 0: every one."""
    interval: Duration = timedelta(seconds=5)
    timeout: Duration = timedelta(seconds=1)
    unhealthy_threshold: UInt32 = 3
    """Failures in a row after which an endpoint gets no traffic from the caller that saw them."""
    healthy_threshold: UInt32 = 2
    """Successes in a row after which it gets traffic again."""
    http: HTTPCheck | None = None
    grpc: GRPCCheck | None = None
    tcp: TCPCheck | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPCheck:
    """`HealthCheck.http`: a GET has to be answered with one of the statuses."""

    path: str = "/"
    host: str = ""
    """The Host header; empty: the service's name."""
    expected_statuses: tuple[UInt32, ...] = (200,)


@dataclass(frozen=True, slots=True, kw_only=True)
class GRPCCheck:
    """`HealthCheck.grpc`: grpc.health.v1.Health/Check has to say SERVING. It is asked on ports that speak HTTP/2."""

    service: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TCPCheck:
    """`HealthCheck.tcp`: a connection (with its TLS) has to be made."""
