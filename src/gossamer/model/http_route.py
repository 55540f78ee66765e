"""HTTPRoutes of the Gateway API as rules like those of VirtualServices, whatever they are attached to.

Rules: the Gateway API's documentation of HTTPRoute. A rule is there once for each of its matches, since precedence is
between matches. A backend that may not be referred to, or is of a kind that nobody knows, answers 500 for its share,
and so does a rule with nothing to forward to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from gossamer.api import virtual_service as istio
from gossamer.api.common import Exact, PortSelector, Prefix, Regex
from gossamer.api.gateway_api import http_route as api
from gossamer.api.gateway_api.common import BackendObjectReference
from gossamer.api.gateway_api.reference_grant import ReferenceGrant
from gossamer.api.resource import Resource
from gossamer.core.frozen import FrozenMap
from gossamer.core.ids import Origin
from gossamer.model.grants import is_granted
from gossamer.model.http_filters import Filters, translate_filters
from gossamer.model.routing import HttpRule
from gossamer.model.settings import MeshSettings

INVALID: Final = istio.Destination(host="invalid-backend", port=PortSelector(number=80))
"""No host of the mesh: requests to it fail."""
_FAILS: Final = istio.HTTPDirectResponse(status=500)
_RETRIED: Final = "connect-failure,refused-stream,unavailable,cancelled"
_ISTIO: Final = "networking.istio.io"


def http_rules(
    route: Resource[api.HTTPRoute], settings: MeshSettings, grants: tuple[Resource[ReferenceGrant], ...], port: int = 0
) -> tuple[HttpRule, ...]:
    """The rules of one route in the order in which they were written, for calls to `port` alone unless it is 0."""
    backends = _Backends(route.namespace, settings.domain, grants)
    return tuple(
        HttpRule(
            index=index,
            spec=replace(spec, match=(_match(match, port),)),
            origin=Origin(resource=route.id, rule=f"spec.rules[{index}]"),
            gateway_api=True,
        )
        for index, rule in enumerate(route.spec.rules or (api.HTTPRouteRule(),))
        for spec in (_spec(rule, backends, settings),)
        for match in rule.matches or (api.HTTPRouteMatch(),)
    )


def in_precedence(rules: Iterable[HttpRule]) -> tuple[HttpRule, ...]:
    """Rules of the Gateway API, of older routes before younger ones, in the order in which they are to be tried: an
    exact path, a regular expression, the longest prefix; then a method, the most headers, the most query parameters."""
    return tuple(sorted(rules, key=_precedence))


def _precedence(rule: HttpRule) -> tuple[int, int, bool, int, int]:
    (match,) = rule.spec.match
    uri = match.uri
    kind = 0 if isinstance(uri, Exact) else 1 if isinstance(uri, Regex) else 2
    length = len(uri.value) if isinstance(uri, Exact | Regex | Prefix) else 0
    return (kind, -length, match.method is None, -len(match.headers), -len(match.query_params))


def _match(match: api.HTTPRouteMatch, port: int) -> istio.HTTPMatchRequest:
    path = match.path
    uri: Exact | Prefix | Regex = Prefix(path.value.rstrip("/") or "/")
    if path.type is api.PathMatchType.EXACT:
        uri = Exact(path.value)
    elif path.type is api.PathMatchType.REGULAR_EXPRESSION:
        uri = Regex(path.value)
    return istio.HTTPMatchRequest(
        uri=uri,
        method=Exact(match.method.value) if match.method is not None else None,
        headers=_values((header.name.lower(), header) for header in match.headers),
        query_params=_values((parameter.name, parameter) for parameter in match.query_params),
        port=port,
    )


def _values(named: Iterable[tuple[str, api.ValueMatch]]) -> FrozenMap[str, Exact | Prefix | Regex]:
    """Of several for one name the first counts."""
    found: dict[str, Exact | Prefix | Regex] = {}
    for name, match in named:
        exact = match.type is api.ValueMatchType.EXACT
        found.setdefault(name, Exact(match.value) if exact else Regex(match.value))
    return FrozenMap(found)


class _Backends:
    """What the references of one route lead to."""

    __slots__ = ("_domain", "_grants", "_namespace")

    def __init__(self, namespace: str, domain: str, grants: tuple[Resource[ReferenceGrant], ...]) -> None:
        self._namespace = namespace
        self._domain = domain
        self._grants = grants

    def destination(self, reference: BackendObjectReference) -> istio.Destination | None:
        """Where a reference leads: a Service, or a host by its name (Istio's `Hostname`); None if it may not."""
        if reference.port is None:
            return None
        port = PortSelector(number=reference.port)
        if (reference.group, reference.kind) == (_ISTIO, "Hostname"):
            return istio.Destination(host=reference.name.lower(), port=port)
        namespace = reference.namespace or self._namespace
        if (reference.group, reference.kind) != ("", "Service") or not is_granted(
            self._grants, ("gateway.networking.k8s.io", "HTTPRoute", self._namespace), reference, namespace
        ):
            return None
        return istio.Destination(host=f"{reference.name}.{namespace}.svc.{self._domain}", port=port)


def _spec(rule: api.HTTPRouteRule, backends: _Backends, settings: MeshSettings) -> istio.HTTPRoute:
    filters = translate_filters(rule.filters, backends.destination)
    if filters is None:
        return istio.HTTPRoute(name=rule.name, direct_response=_FAILS)
    spec = istio.HTTPRoute(
        name=rule.name,
        headers=filters.headers,
        cors_policy=filters.cors,
        timeout=rule.timeouts.request if rule.timeouts else None,
        retries=_retries(rule, settings.default_retries),
    )
    if filters.redirect is not None:
        return replace(spec, redirect=filters.redirect)
    route = tuple(_destinations(rule, backends))
    if not any(part.destination is not INVALID for part in route):
        return replace(spec, direct_response=_FAILS)
    return replace(spec, route=route, rewrite=_rewrite(filters), mirrors=filters.mirrors)


def _destinations(rule: api.HTTPRouteRule, backends: _Backends) -> Iterator[istio.HTTPRouteDestination]:
    for reference in rule.backend_refs:
        if reference.weight <= 0:
            continue
        destination = backends.destination(reference)
        filters = translate_filters(reference.filters, backends.destination)
        if filters is not None and not filters.headers_only:  # nothing else can be one destination's own
            filters = None
        yield istio.HTTPRouteDestination(
            destination=destination if destination is not None and filters is not None else INVALID,
            weight=reference.weight,
            headers=filters.headers if filters is not None else None,
        )


def _rewrite(filters: Filters) -> istio.HTTPRewrite | None:
    path = filters.path
    if not filters.hostname and path is None:
        return None
    if path is None:
        return istio.HTTPRewrite(authority=filters.hostname)
    if path.type is api.PathModifierType.REPLACE_PREFIX_MATCH:
        return istio.HTTPRewrite(authority=filters.hostname, uri=path.replace_prefix_match or "/")
    whole = (path.replace_full_path or "/").replace("\\", r"\\")
    return istio.HTTPRewrite(
        authority=filters.hostname, uri_regex_rewrite=istio.RegexRewrite(match="^/.*$", rewrite=whole)
    )


def _retries(rule: api.HTTPRouteRule, default: istio.HTTPRetry | None) -> istio.HTTPRetry | None:
    """What the rule says of retries; what it leaves unsaid is the mesh's."""
    each = rule.timeouts.backend_request if rule.timeouts else None
    if rule.retry is None and not each:
        return None
    base = default or istio.HTTPRetry(attempts=2)
    said = rule.retry or api.HTTPRouteRetry()
    attempts = base.attempts if said.attempts is None else said.attempts
    return replace(
        base,
        attempts=attempts,
        retry_on=",".join((_RETRIED, *map(str, said.codes))) if said.codes else base.retry_on,
        backoff=said.backoff or base.backoff,
        per_try_timeout=each or base.per_try_timeout,
    )
