"""What an application in a mesh must carry from the request it got to the requests it makes.

A sidecar sees two unrelated requests; only the application knows that one caused the other. So it copies the trace
headers (Istio's documentation on distributed tracing lists them) and those that say on whose behalf it acts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

Headers = list[tuple[bytes, bytes]]

TRACE_HEADERS = frozenset(
    {
        b"x-request-id",
        b"traceparent",  # W3C Trace Context
        b"tracestate",
        b"baggage",
        b"b3",  # Zipkin, in one header and in several
        b"x-b3-traceid",
        b"x-b3-spanid",
        b"x-b3-parentspanid",
        b"x-b3-sampled",
        b"x-b3-flags",
        b"x-ot-span-context",
        b"x-cloud-trace-context",
        b"grpc-trace-bin",
        b"sw8",  # SkyWalking
        b"x-datadog-trace-id",
        b"x-datadog-parent-id",
        b"x-datadog-sampling-priority",
    }
)
CALLER_HEADERS = frozenset({b"end-user", b"user-agent", b"authorization", b"cookie", b"jwt", b"x-ext-authz"})

_URI = re.compile(r'(?:^|[;,])\s*URI="?([^;,"]+)')


def forward_headers(received: Iterable[tuple[bytes, bytes]], *, end_user: str | None = None) -> Headers:
    """Those of `received` (names in lower case, as ASGI has them) to send on; `end_user` replaces an `end-user`."""
    kept = TRACE_HEADERS | CALLER_HEADERS
    headers = [(name, value) for name, value in received if name in kept]
    if end_user is None:
        return headers
    return [*((name, value) for name, value in headers if name != b"end-user"), (b"end-user", end_user.encode("ascii"))]


def peer_identity(certificates: Sequence[str]) -> str | None:
    """The SPIFFE identity of the nearest caller in `x-forwarded-client-cert`, to which each proxy appends its own."""
    found = _URI.findall(",".join(certificates))
    return found[-1] if found else None
