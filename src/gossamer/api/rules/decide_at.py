"""VirtualServices that the destination decides: what can be said there, and what cannot.

Rules: `docs/decisions/0007-decided-at-the-destination.md`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from gossamer.api import names
from gossamer.api.decide_at import DECIDE_AT, NAMESPACE, PLACES, PRINCIPAL, DecideAt, decide_at, is_source
from gossamer.api.findings import At
from gossamer.api.resource import Resource
from gossamer.api.structure import closest
from gossamer.api.virtual_service import HTTPMatchRequest, HTTPRoute, VirtualService

_ELSEWHERE: Final = ("delegate", "fault", "mirror", "mirrors", "cors_policy", "retries")
_JSON: Final = {"cors_policy": "corsPolicy"}


def check_decide_at(resource: Resource[VirtualService], at: At) -> None:
    """The annotation, and what it rules out."""
    spec, where = resource.spec, decide_at(resource.annotations)
    said = resource.annotations.get(DECIDE_AT)
    if said is not None and said not in PLACES:
        here = At(("metadata", "annotations", DECIDE_AT), at.findings)
        here.error("invalid-value", f'"{said}" is no place to decide at', closest(said, PLACES))
    for index, route in enumerate(spec.http):
        for number, match in enumerate(route.match):
            _check_sources(match, where, at["http", index, "match", number])
    if where.at_destination:
        _check_whole(spec, resource.namespace, at)
        for index, route in enumerate(spec.http):
            _check_rule(route, at["http", index])
            _check_destinations(route, spec.hosts, resource.namespace, at["http", index, "route"])


def _check_sources(match: HTTPMatchRequest, where: DecideAt, at: At) -> None:
    for field, headers in (("headers", match.headers), ("withoutHeaders", match.without_headers)):
        for name in filter(is_source, headers):
            here = at[field, name]
            if name not in (PRINCIPAL, NAMESPACE):
                message = f'"{name}" is nothing that a certificate says'
                here.error("invalid-source", message, closest(name, (PRINCIPAL, NAMESPACE)))
            elif where is not DecideAt.DESTINATION:
                hint = f"annotate the VirtualService with {DECIDE_AT}: destination"
                here.error("invalid-source", f"{name} is known only where the destination decides", hint)


def _check_whole(spec: VirtualService, namespace: str, at: At) -> None:
    for field, value in (("tls", spec.tls), ("tcp", spec.tcp)):
        if value:
            at[field].error("not-at-destination", f"the destination decides HTTP only, not {field}", on_key=True)
    if not spec.hosts:
        at.error("not-at-destination", "a VirtualService without hosts (a delegate) is not decided anywhere by itself")
    if spec.gateways and "mesh" not in spec.gateways:
        message = "the destination decides calls inside the mesh: mesh must be among the gateways"
        at["gateways"].error("not-at-destination", message)
    for index, host in enumerate(spec.hosts):
        parts = host.split(".")
        if len(parts) > 2 and parts[2] == "svc" and parts[1] != namespace:
            message = f"only the namespace of a service ({parts[1]}) and the root namespace decide at its side"
            at["hosts", index].warning("no-effect", message)
    if not any(not route.match and route.route for route in spec.http):
        hint = "end with a rule without a match that routes to the service, if they are to be let through"
        at["http"].warning("no-fall-through", "callers that no rule takes are refused (403)", hint)


def _check_rule(route: HTTPRoute, at: At) -> None:
    for name in _ELSEWHERE:
        if getattr(route, name):
            json = _JSON.get(name, name)
            at[json].error("not-at-destination", f"{json} has no meaning at the destination", on_key=True)
    for number, match in enumerate(route.match):
        here = at["match", number]
        if match.source_labels:
            hint = "ask for sourceNamespace, or for @source.principal among the headers"
            message = "a certificate does not say what labels its workload has"
            here["sourceLabels"].error("not-at-destination", message, hint, on_key=True)
        if match.gateways:
            message = "gateways cannot be told apart here"
            here["gateways"].error("not-at-destination", message, on_key=True)


def _check_destinations(route: HTTPRoute, hosts: Iterable[str], namespace: str, at: At) -> None:
    if len(route.route) > 1:
        at.error("not-at-destination", "there is one destination only: the workload that is called")
    for index, part in enumerate(route.route):
        here = at[index, "destination"]
        if part.destination.subset or part.destination.port:
            here.error("not-at-destination", "which instance and port is called has been decided before")
        elif not any(
            names.is_within(_full(part.destination.host, namespace), _full(host, namespace)) for host in hosts
        ):
            message = "the destination decides whether it serves a call, it cannot send it to another service"
            here["host"].error("not-at-destination", message, "name a host of this VirtualService")


def _full(host: str, namespace: str) -> str:
    """A short name as it is meant in this namespace."""
    return host if "." in host or host.startswith("*") else f"{host}.{namespace}.svc.cluster.local"
