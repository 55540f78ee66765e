"""What is done with a request that a route takes: forwarding with weights, retries, rewrites, mirrors.

Invariant: a route without a timeout of its own has none, and without retries of its own has the mesh's (Istio's
documented defaults).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from envoy.config.core.v3.base_pb2 import HeaderValue, HeaderValueOption, RuntimeFractionalPercent
from envoy.config.route.v3.route_components_pb2 import FilterConfig, RetryPolicy, Route, RouteAction, WeightedCluster
from envoy.extensions.retry.host.previous_hosts.v3.previous_hosts_pb2 import PreviousHostsPredicate
from envoy.extensions.retry.priority.previous_priorities.v3.previous_priorities_config_pb2 import (
    PreviousPrioritiesConfig,
)
from envoy.type.v3.percent_pb2 import FractionalPercent
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import UInt32Value

from gossamer.api.virtual_service import (
    Destination,
    HeaderOperations,
    Headers,
    HTTPMatchRequest,
    HTTPRetry,
    HTTPRewrite,
    HTTPRoute,
    HTTPRouteDestination,
)
from gossamer.compile.balancing import hash_policies
from gossamer.compile.draft import pack
from gossamer.compile.hcm import ALPN_FILTER
from gossamer.compile.limits import seconds
from gossamer.compile.names import target_name
from gossamer.compile.path_rewrites import replace_matched, substitution
from gossamer.model.settings import MeshSettings
from gossamer.model.targets import Targets
from gossamer.model.view import Target

RETRY_ON: Final = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
"""Istio's default conditions, with 503 for the status codes."""
_RETRIES: Final = 2


def forward(rule: HTTPRoute, targets: Targets, settings: MeshSettings) -> RouteAction:
    """The action of a rule that forwards."""
    action = RouteAction(
        timeout=_duration(rule.timeout),
        retry_policy=retry_policy(rule.retries or settings.default_retries),
        hash_policy=_hashes(rule, targets),
        request_mirror_policies=_mirrors(rule, targets),
    )
    parts = rule.route
    if len(parts) == 1:
        action.cluster = target_name(targets[parts[0].destination])
    else:
        action.weighted_clusters.CopyFrom(WeightedCluster(clusters=[_weighted(part, targets) for part in parts]))
    _rewrite_host(action, rule)
    action.append_x_forwarded_host = settings.keeps_rewritten_host and bool(action.host_rewrite_literal)
    return action


def forwarded_here(rule: HTTPRoute, match: HTTPMatchRequest | None, cluster: str) -> RouteAction:
    """The action of a rule that leads to the application itself."""
    action = RouteAction(cluster=cluster, timeout=_duration(rule.timeout), retry_policy=RESENT)
    if rule.rewrite is not None:
        rewrite_path(action, rule.rewrite, match, segments=False)
    _rewrite_host(action, rule)
    return action


RESENT: Final = RetryPolicy(retry_on="reset-before-request", num_retries=UInt32Value(value=2))
"""A request that the application's closing connection never took is sent again."""


def forward_default(target: Target, settings: MeshSettings) -> RouteAction:
    """The action of a service that no VirtualService speaks for."""
    return RouteAction(
        cluster=target_name(target),
        timeout=Duration(),
        retry_policy=retry_policy(settings.default_retries),
        hash_policy=hash_policies(target.consistent_hash),
    )


def retry_policy(retries: HTTPRetry | None) -> RetryPolicy | None:
    """Envoy's policy; None for no retries at all (`attempts: 0`)."""
    if retries is not None and retries.attempts <= 0:
        return None
    retries = retries or HTTPRetry(attempts=_RETRIES)
    conditions = [part.strip() for part in (retries.retry_on or RETRY_ON).split(",") if part.strip()]
    codes = [int(part) for part in conditions if part.isdigit()] or ([] if retries.retry_on else [503])
    words = [part for part in conditions if not part.isdigit()]
    if codes and "retriable-status-codes" not in words:
        words.append("retriable-status-codes")
    policy = RetryPolicy(
        retry_on=",".join(words),
        num_retries=UInt32Value(value=retries.attempts),
        retriable_status_codes=codes,
        host_selection_retry_max_attempts=5,
    )
    if retries.retry_ignore_previous_hosts is not False:
        policy.retry_host_predicate.append(_PREVIOUS_HOSTS)
    if retries.retry_remote_localities:
        policy.retry_priority.CopyFrom(_PREVIOUS_PRIORITIES)
    if retries.per_try_timeout is not None:
        policy.per_try_timeout.CopyFrom(_duration(retries.per_try_timeout))
    if retries.backoff is not None:
        policy.retry_back_off.base_interval.CopyFrom(_duration(retries.backoff))
    return policy


_PREVIOUS_HOSTS: Final = RetryPolicy.RetryHostPredicate(
    name="envoy.retry_host_predicates.previous_hosts", typed_config=pack(PreviousHostsPredicate())
)
_PREVIOUS_PRIORITIES: Final = RetryPolicy.RetryPriority(
    name="envoy.retry_priorities.previous_priorities", typed_config=pack(PreviousPrioritiesConfig(update_frequency=2))
)


def _duration(value: timedelta | None) -> Duration:
    return seconds(value.total_seconds()) if value else Duration()


def _weighted(part: HTTPRouteDestination, targets: Targets) -> WeightedCluster.ClusterWeight:
    target = targets[part.destination]
    weight = WeightedCluster.ClusterWeight(
        name=target_name(target),
        weight=UInt32Value(value=part.weight),
        typed_per_filter_config=per_target(target),
    )
    change_headers(weight, part.headers)
    rewritten = rewritten_host(part.headers)
    if rewritten:
        weight.host_rewrite_literal = rewritten
    return weight


def per_target(target: Target) -> dict[str, Any]:
    """Filters set for one destination: TLS that is not the mesh's keeps the ALPN of its own cluster."""
    return {} if target.mesh_tls else {ALPN_FILTER: pack(FilterConfig(disabled=True))}


def _hashes(rule: HTTPRoute, targets: Targets) -> list[RouteAction.HashPolicy]:
    """Those of all destinations, in their order, once each."""
    found = [policy for part in rule.route for policy in hash_policies(targets[part.destination].consistent_hash)]
    return [policy for place, policy in enumerate(found) if policy not in found[:place]]


def _mirrors(rule: HTTPRoute, targets: Targets) -> Iterator[RouteAction.RequestMirrorPolicy]:
    if rule.mirror is not None:
        share = rule.mirror_percentage.value if rule.mirror_percentage is not None else None
        if share is None and rule.mirror_percent is not None:
            share = float(rule.mirror_percent)
        yield from _mirror(rule.mirror, share, targets)
    for part in rule.mirrors:
        yield from _mirror(part.destination, part.percentage.value if part.percentage else None, targets)


def _mirror(
    destination: Destination, share: float | None, targets: Targets
) -> Iterator[RouteAction.RequestMirrorPolicy]:
    if share is None or share > 0:
        fraction = RuntimeFractionalPercent(default_value=percentage(100.0 if share is None else share))
        yield RouteAction.RequestMirrorPolicy(cluster=target_name(targets[destination]), runtime_fraction=fraction)


def percentage(value: float) -> FractionalPercent:
    """A percentage to four digits behind the point."""
    return FractionalPercent(numerator=round(value * 10_000), denominator=FractionalPercent.MILLION)


def rewrite_path(action: RouteAction, rewrite: HTTPRewrite, match: HTTPMatchRequest | None, *, segments: bool) -> None:
    """Have the path rewritten that was matched; `segments` says that a prefix is one of whole path segments."""
    if rewrite.uri_regex_rewrite is not None:
        pattern = rewrite.uri_regex_rewrite
        action.regex_rewrite.CopyFrom(substitution(pattern.match, pattern.rewrite))
    elif rewrite.uri:
        replace_matched(action, rewrite.uri, match, segments=segments)


def _rewrite_host(action: RouteAction, rule: HTTPRoute) -> None:
    host = rewritten_host(rule.headers)
    if len(rule.route) == 1:
        host = rewritten_host(rule.route[0].headers) or host
    rewrite = rule.rewrite
    if rewrite is not None:
        host = rewrite.authority or host
    if host:
        action.host_rewrite_literal = host


_HOST: Final = frozenset({":authority", "host"})


def rewritten_host(headers: Headers | None) -> str:
    """The Host that a rule sets as if it were a header."""
    request = headers.request if headers else None
    return next((value for name, value in request.set.items() if name.lower() in _HOST), "") if request else ""


def change_headers(part: Route | WeightedCluster.ClusterWeight, headers: Headers | None) -> None:
    """Add a rule's header changes to a route, or to one of its destinations."""
    if headers is not None and headers.request is not None:
        part.request_headers_to_add.extend(_added(headers.request))
        part.request_headers_to_remove.extend(headers.request.remove)
    if headers is not None and headers.response is not None:
        part.response_headers_to_add.extend(_added(headers.response))
        part.response_headers_to_remove.extend(headers.response.remove)


def _added(operations: HeaderOperations) -> list[HeaderValueOption]:
    """`set` overwrites, `add` appends; both in order of names."""
    kinds = (
        (operations.set, HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD),
        (operations.add, HeaderValueOption.APPEND_IF_EXISTS_OR_ADD),
    )
    return [
        HeaderValueOption(header=HeaderValue(key=name, value=value), append_action=action)
        for changes, action in kinds
        for name, value in sorted(changes.items())
        if name.lower() not in _HOST
    ]
