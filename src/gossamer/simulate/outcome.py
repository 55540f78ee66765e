"""The answer: what becomes of a request, at which stations, and who decided.

One of the two shapes shown to users that are designed to last (the other is `Diagnostic`): fields are only ever added.
Empty text and empty tuples mean that the request did not get that far or that the station has no name.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from typing import Any

from gossamer.core.ids import Origin
from gossamer.simulate.request import Address, HttpRequest


class Verdict(StrEnum):
    """How it ends at this proxy."""

    SERVED = "served"
    """It goes to an endpoint of the cluster."""
    DENIED = "denied"
    """An access policy turns it away: 403, or a closed connection."""
    REFUSED = "refused"
    """The connection itself is not accepted: nobody listens, no filter chain fits, the handshake fails."""
    BAD_REQUEST = "bad request"
    """What was sent is not what this connection's protocol allows (400)."""
    REDIRECTED = "redirected"
    """The proxy answers with the address to go to."""
    ANSWERED = "answered"
    """The proxy answers by itself: a direct response, a CORS preflight."""
    NOT_FOUND = "not found"
    """No virtual host or no route fits (404)."""
    FAULT = "fault"
    """The configuration injects an error."""
    UNAVAILABLE = "unavailable"
    """Routed, but there is nowhere to go: no such cluster, or no endpoint (503, or a closed connection)."""
    UNKNOWN = "unknown"
    """The configuration uses something that the simulator does not know; `reason` says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterWeight:
    """One destination of a split; `weight` is its part of all weights, from 0 to 1."""

    name: str
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointChoice:
    """A place that may get the request. `share` is the part of the cluster's requests that goes there, from 0 to 1."""

    address: Address
    """Port 0 and a path or name in `ip` for what is no IP address."""
    locality: str = ""
    priority: int = 0
    weight: int = 1
    health: str = "HEALTHY"
    share: float = 0.0
    tls: UpstreamTls | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamTls:
    """TLS towards an endpoint. `mutual`: the proxy shows a certificate of its own."""

    mutual: bool
    server_name: str = ""
    alpn: tuple[str, ...] = ()
    subject_alt_names: tuple[str, ...] = ()
    """What the server's certificate must name, as matchers in words; empty: whatever its roots vouch for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """An injected delay or error and the part of requests (from 0 to 1) that suffers it; 0 stands for "no such"."""

    delay: float = 0.0
    """Seconds."""
    delay_fraction: float = 0.0
    status: int = 0
    abort_fraction: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """How often, when, and how long each try may take (seconds; 0: no limit of its own)."""

    attempts: int
    on: str = ""
    per_try_timeout: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteChoice:
    """The route that was chosen and what it does, in seconds and words.

    `match` is its condition in words. `timeout` is None where the route has none (0 switches it off in Envoy).
    """

    name: str = ""
    match: str = ""
    timeout: float | None = None
    retries: Retries | None = None
    fault: Fault | None = None
    mirrors: tuple[ClusterWeight, ...] = ()
    origins: tuple[Origin, ...] = ()


class Missed(StrEnum):
    """Which half of a rule did not match."""

    NOTHING = ""
    """It matched."""
    CALLER = "caller"
    """What it asks of who calls: sources, and conditions on them."""
    REQUEST = "request"
    """What it asks of what is asked for: operations, and conditions on them."""
    UNKNOWN = "unknown"
    """It uses something that the simulator does not know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Considered:
    """A rule that an access filter looked at, in Envoy's order. `policy` is its name in Envoy."""

    policy: str
    missed: Missed
    origins: tuple[Origin, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyDecision:
    """What one access filter said. `policy` is the policy's name in Envoy, empty when none matched.

    `shadow` decisions are only reported. `origins` are the policies to read: the one that matched or, where an ALLOW
    filter turned the request away, all that could have let it in.
    """

    filter: str
    action: str
    allowed: bool
    policy: str = ""
    shadow: bool = False
    origins: tuple[Origin, ...] = ()
    asks: str = ""
    """The cluster of the authorizer that is asked; what it says nobody knows here."""
    considered: tuple[Considered, ...] = ()
    """Every rule of the filter, and whether it matched; the first that did decided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What Envoy would do. `status` is the HTTP status that the client gets from this proxy, 0 where it gives none."""

    verdict: Verdict
    reason: str
    """One sentence for people."""
    status: int = 0
    flag: str = ""
    """Envoy's response flag in access logs (NR, NC, UH, FI, ...)."""
    listener: str = ""
    listener_address: str = ""
    filter_chain: str = ""
    transport: str = ""
    """How the client's connection was accepted: `plaintext`, `tls`, `mtls`, or `tls passthrough`."""
    protocol: str = ""
    """`http` or `tcp`: as what the filter chain treats it."""
    route_configuration: str = ""
    virtual_host: str = ""
    domains: tuple[str, ...] = ()
    route: RouteChoice | None = None
    location: str = ""
    """Where a redirect sends the client."""
    cluster: str = ""
    clusters: tuple[ClusterWeight, ...] = ()
    """Every cluster that the same request may end in, with its part."""
    endpoints: tuple[EndpointChoice, ...] = ()
    """Empty for clusters that resolve names by themselves."""
    forwarded: HttpRequest | None = None
    """The request as it leaves for the cluster, rewritten."""
    policies: tuple[PolicyDecision, ...] = ()
    origins: tuple[Origin, ...] = ()
    """The user resources that decided, most telling first."""
    notes: tuple[str, ...] = ()
    """What the simulator passed over, or what a reader should know."""

    @property
    def decided_by(self) -> PolicyDecision | None:
        """The access policy that turned the request away, if one did."""
        return next((d for d in self.policies if not d.allowed and not d.shadow), None)

    def to_json(self) -> dict[str, Any]:
        """The published JSON object: these fields by these names, origins as kind, namespace, name and rule."""
        found = plain(self)
        assert isinstance(found, dict)
        return found


def plain(value: object) -> object:
    """A value of these types as JSON has it."""
    if isinstance(value, Origin):
        resource = value.resource
        return {"kind": resource.kind, "namespace": resource.namespace, "name": resource.name, "rule": value.rule}
    if isinstance(value, Address):
        return str(value) if value.port else value.ip
    if isinstance(value, StrEnum):
        return value.value
    if is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return value
