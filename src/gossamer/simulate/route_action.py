"""What a route does with a request that it forwards.

Invariant: a request fails as in Envoy where it has nowhere to go: no such cluster (NC), no endpoint (UH).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from envoy.config.route.v3.route_components_pb2 import RetryPolicy, Route, RouteAction, VirtualHost
from google.protobuf.duration_pb2 import Duration

from gossamer.simulate.clusters import Upstream, speaks_http2
from gossamer.simulate.connection import Connection, Trace
from gossamer.simulate.http_filters import Passage
from gossamer.simulate.index import Decoder
from gossamer.simulate.matchers import as_float
from gossamer.simulate.outcome import ClusterWeight, EndpointChoice, Outcome, Retries, RouteChoice, Verdict
from gossamer.simulate.rewrites import edit_headers, rewrite
from gossamer.simulate.selection import Selection

_DEFAULT_TIMEOUT: Final = 15.0
_UNAVAILABLE: Final = {
    RouteAction.SERVICE_UNAVAILABLE: 503,
    RouteAction.NOT_FOUND: 404,
    RouteAction.INTERNAL_SERVER_ERROR: 500,
}


def seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9


def describe_action(choice: RouteChoice, action: RouteAction, virtual_host: VirtualHost) -> RouteChoice:
    """The route with its timeout, retries and mirrors."""
    given = action.retry_policy if action.HasField("retry_policy") else virtual_host.retry_policy
    inherits = action.HasField("retry_policy") or virtual_host.HasField("retry_policy")
    timeout = seconds(action.timeout) if action.HasField("timeout") else _DEFAULT_TIMEOUT
    mirrors = action.request_mirror_policies or virtual_host.request_mirror_policies
    return replace(
        choice,
        timeout=timeout or None,
        retries=_retries(given) if inherits else None,
        mirrors=tuple(
            ClusterWeight(
                name=mirror.cluster,
                weight=as_float(mirror.runtime_fraction.default_value) if mirror.HasField("runtime_fraction") else 1.0,
            )
            for mirror in mirrors
        ),
    )


def _retries(policy: RetryPolicy) -> Retries | None:
    attempts = policy.num_retries.value if policy.HasField("num_retries") else 1
    if not attempts or not policy.retry_on:
        return None
    return Retries(attempts=attempts, on=policy.retry_on, per_try_timeout=seconds(policy.per_try_timeout))


def forward(selection: Selection, passage: Passage, connection: Connection, decoder: Decoder) -> Outcome:
    """Send the request to its cluster."""
    trace, headers, route = passage.trace, passage.headers, selection.route
    assert route is not None
    cluster = decoder.cluster(selection.cluster)
    if cluster is None:
        status = _UNAVAILABLE[route.route.cluster_not_found_response_code]
        reason = f"the cluster {selection.cluster or '(none)'} does not exist"
        return trace.end(Verdict.UNAVAILABLE, reason, status=status, flag="NC")
    trace.origins.append(cluster.origins)
    _rewrite(selection, route, passage)
    incoming = connection.request.http
    http2 = speaks_http2(cluster, downstream=incoming is not None and incoming.http2)
    forwarded = headers.to_request(http2=http2)
    upstream = Upstream(decoder, connection, trace)
    upstream.http, upstream.alpn = forwarded, passage.alpn
    endpoints = upstream.endpoints(cluster, selection.subset())
    trace.outcome = replace(trace.outcome, forwarded=forwarded, endpoints=endpoints)
    if not endpoints:
        reason = f"no endpoint of the cluster {selection.cluster} can take it"
        return trace.end(Verdict.UNAVAILABLE, reason, status=503, flag="UH")
    late = f" after an injected delay of {passage.delay:g} s" if passage.delay else ""
    return trace.end(Verdict.SERVED, f"goes to {selection.cluster}{late}")


def _rewrite(selection: Selection, route: Route, passage: Passage) -> None:
    edit_headers(passage.headers, selection.edits())
    if selection.weighted is not None and selection.weighted.host_rewrite_literal:
        passage.headers.set(":authority", selection.weighted.host_rewrite_literal)
        without_host = RouteAction()
        without_host.CopyFrom(route.route)
        without_host.ClearField("host_rewrite_literal")
        rewrite(passage.headers, without_host, route.match)
    else:
        rewrite(passage.headers, route.route, route.match)


def connect(
    name: str, clusters: tuple[ClusterWeight, ...], connection: Connection, decoder: Decoder, trace: Trace
) -> Outcome:
    """Tunnel a connection to its cluster."""
    trace.outcome = replace(trace.outcome, cluster=name, clusters=clusters)
    cluster = decoder.cluster(name)
    if cluster is None:
        return trace.end(Verdict.UNAVAILABLE, f"the cluster {name} does not exist", flag="NC")
    trace.origins.append(cluster.origins)
    endpoints: tuple[EndpointChoice, ...] = Upstream(decoder, connection, trace).endpoints(cluster, None)
    trace.outcome = replace(trace.outcome, endpoints=endpoints)
    if not endpoints:
        return trace.end(Verdict.UNAVAILABLE, f"no endpoint of the cluster {name} can take it", flag="UH")
    return trace.end(Verdict.SERVED, f"goes to {name}")
