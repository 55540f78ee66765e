"""The HTTP filters that can answer or turn away a request, in the order of the chain.

Invariant: a filter that is not simulated is either known to change nothing here or named in the outcome's notes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from envoy.extensions.filters.http.cors.v3.cors_pb2 import Cors, CorsPolicy
from envoy.extensions.filters.http.ext_authz.v3 import ext_authz_pb2
from envoy.extensions.filters.http.fault.v3.fault_pb2 import HTTPFault
from envoy.extensions.filters.http.jwt_authn.v3.config_pb2 import JwtAuthentication
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2
from envoy.extensions.filters.http.router.v3.router_pb2 import Router
from envoy.extensions.filters.http.set_filter_state.v3.set_filter_state_pb2 import Config as SetFilterState
from google.protobuf.message import Message

from gossamer.compile import two_meanings
from gossamer.compile.claims import JWT_METADATA
from gossamer.simulate.connection import Trace
from gossamer.simulate.headers import Headers
from gossamer.simulate.index import Filter
from gossamer.simulate.matchers import as_float, happens, matches_headers, matches_string
from gossamer.simulate.outcome import Fault, Outcome, Verdict
from gossamer.simulate.policies import ask, judge
from gossamer.simulate.rbac import Facts
from gossamer.simulate.request import CheckToken
from gossamer.simulate.selection import Selection
from gossamer.simulate.tokens import verify

_SILENT: Final = frozenset(
    {
        *("GrpcStats", "FilterConfig", "GrpcWeb", "HeaderToMetadata", "Compressor", "Decompressor", "Tap"),
        *("Buffer", "AlternateProtocolsCacheFilterConfig", "SetMetadata"),
    }
)
"""Filters that neither answer nor choose, by the last word of their type."""
_UPSTREAM_ALPN: Final = "envoy.network.application_protocols"


@dataclass(slots=True, kw_only=True)
class Passage:
    """One request between its route and the router: what filters read and leave behind."""

    selection: Selection | None
    headers: Headers
    facts: Facts
    chance: float
    trace: Trace
    alpn: tuple[str, ...] = ()
    delay: float = 0.0
    faults: list[Fault] = field(default_factory=list)
    missing: str = ""
    """Why there is no route, if there is none."""
    check: CheckToken | None = None
    reselect: Callable[[], None] = lambda: None
    """Chooses the route anew, by what filters have left since."""


def run_filters(filters: tuple[Filter, ...], passage: Passage) -> Outcome | None:
    """Let the request through the filters; an Outcome when one of them ends it before the router."""
    for found in filters:
        config, disabled = passage.selection.filter_config(found.name) if passage.selection else (None, None)
        if disabled or (found.disabled and disabled is None):
            continue
        if isinstance(found.config, Router):
            return None
        outcome = _run(found, config, passage)
        if outcome is not None:
            return outcome
    return None


def _run(found: Filter, per_route: Message | None, passage: Passage) -> Outcome | None:
    match found.config:
        case rbac_pb2.RBAC():
            if isinstance(per_route, rbac_pb2.RBACPerRoute):
                found = replace(found, config=per_route.rbac)
            return judge(found, passage.facts, passage.trace)
        case JwtAuthentication():
            return _tokens(found, passage)
        case ext_authz_pb2.ExtAuthz():
            ask(found, passage.facts, passage.trace)
        case HTTPFault() if found.name == two_meanings.NAME:
            return _one_meaning(found.config, passage)
        case HTTPFault():
            return _fault(per_route if isinstance(per_route, HTTPFault) else found.config, passage)
        case Cors():
            return _cors(per_route, passage)
        case SetFilterState():
            _set_filter_state(found.config, passage)
        case None if found.type not in _SILENT:
            passage.trace.note(f"the filter {found.name} ({found.type}) was passed over")
    return None


def _tokens(found: Filter, passage: Passage) -> Outcome | None:
    """What the JWT filter makes of the request's tokens; a good one may lead to another route."""
    ended = verify(found, passage.headers, passage.facts, passage.check, passage.trace)
    if ended is None and passage.check is not None and passage.facts.metadata.get(JWT_METADATA):
        passage.reselect()
    return ended


def _one_meaning(config: HTTPFault, passage: Passage) -> Outcome | None:
    """Turned away where its path would be another to the next who reads it."""
    if not matches_headers(config.headers, passage.headers):
        return None
    reason = f"{two_meanings.NAME}: others would read this path differently"
    return passage.trace.end(Verdict.DENIED, reason, status=config.abort.http_status, flag="FI")


def _fault(config: Message, passage: Passage) -> Outcome | None:
    assert isinstance(config, HTTPFault)
    cluster = passage.selection.cluster if passage.selection else ""
    if config.upstream_cluster and config.upstream_cluster != cluster:
        return None
    if not matches_headers(config.headers, passage.headers):
        return None
    fault = _describe_fault(config)
    if fault == Fault():
        return None
    passage.faults.append(fault)
    if fault.delay and happens(config.delay.percentage, passage.chance):
        passage.delay += fault.delay
    if not fault.status or not happens(config.abort.percentage, passage.chance):
        return None
    late = f" after {passage.delay:g} s" if passage.delay else ""
    part = f" ({fault.abort_fraction:.3%} of requests)".replace(".000", "") if fault.abort_fraction < 1 else ""
    return passage.trace.end(
        Verdict.FAULT, f"an injected fault answers {fault.status}{late}{part}", status=fault.status, flag="FI"
    )


def _describe_fault(config: HTTPFault) -> Fault:
    delay = config.delay.fixed_delay
    status = 0
    match config.abort.WhichOneof("error_type"):
        case "http_status":
            status = config.abort.http_status
        case "grpc_status":
            status = 200
    return Fault(
        delay=delay.seconds + delay.nanos / 1e9 if config.HasField("delay") else 0.0,
        delay_fraction=as_float(config.delay.percentage) if config.HasField("delay") else 0.0,
        status=status,
        abort_fraction=as_float(config.abort.percentage) if status else 0.0,
    )


def _cors(config: Message | None, passage: Passage) -> Outcome | None:
    """A preflight from an origin that is allowed is answered here."""
    if not isinstance(config, CorsPolicy):
        return None
    origin, method = passage.headers.get("origin"), passage.headers.get(":method")
    asked = "access-control-request-method" in passage.headers
    allowed = origin and any(matches_string(matcher, origin) for matcher in config.allow_origin_string_match)
    if allowed and method == "OPTIONS" and asked:
        return passage.trace.end(Verdict.ANSWERED, f"the CORS preflight of {origin} is answered", status=200)
    return None


def _set_filter_state(config: SetFilterState, passage: Passage) -> None:
    for value in config.on_request_headers:
        if value.object_key == _UPSTREAM_ALPN:
            names = value.format_string.text_format_source.inline_string
            passage.alpn = tuple(name for name in names.split(",") if name)
