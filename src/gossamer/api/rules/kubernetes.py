"""Kubernetes kinds: what a mesh needs to be right in them.

Rules: the Kubernetes API reference, as far as it goes here; the API server checks the rest.
"""

from __future__ import annotations

from typing import Any, Final

from gossamer.api import names
from gossamer.api.findings import At
from gossamer.api.kubernetes import EndpointSlice, Service
from gossamer.api.resource import Resource
from gossamer.api.rules.common import check, check_port, require, written
from gossamer.api.structure import closest

SERVICE_NAME: Final = "kubernetes.io/service-name"
_SERVICE_FIELDS: Final = (
    "allocateLoadBalancerNodePorts", "clusterIP", "clusterIPs", "externalIPs", "externalName", "externalTrafficPolicy",
    "healthCheckNodePort", "internalTrafficPolicy", "ipFamilies", "ipFamilyPolicy", "loadBalancerClass",
    "loadBalancerIP", "loadBalancerSourceRanges", "ports", "publishNotReadyAddresses", "selector", "sessionAffinity",
    "sessionAffinityConfig", "trafficDistribution", "type",
)  # fmt: skip


def passes(_resource: Resource[Any], _raw: Any, _at: At) -> None:
    """Nothing to check."""


def check_service(resource: Resource[Service], raw: Any, at: At) -> None:
    spec = resource.spec
    for name in raw:
        if name not in _SERVICE_FIELDS:
            at[name].error("unknown-field", f'unknown field "{name}"', closest(name, _SERVICE_FIELDS), on_key=True)
    if spec.type == "ExternalName":
        if require(spec.external_name, at["externalName"], "an ExternalName service needs an externalName"):
            check(names.domain_problem(spec.external_name), at["externalName"], "invalid-host")
        return
    require(spec.ports or spec.headless, at["ports"], "a service needs at least one port")
    for index, port in enumerate(spec.ports):
        check_port(port.port, at["ports", index, "port"])
        if isinstance(port.target_port, int) and port.target_port:
            check_port(port.target_port, at["ports", index, "targetPort"])
        if len(spec.ports) > 1:
            require(port.name, at["ports", index, "name"], "each of several ports needs a name")
    _warn_of_equal_names(spec, at)
    _say_what_is_not_acted_on(raw, at)
    if spec.traffic_distribution not in ("", "PreferClose", "PreferSameZone", "PreferSameNode"):
        message = "trafficDistribution is PreferSameZone (or PreferClose, its former name) or PreferSameNode"
        at["trafficDistribution"].error("invalid-value", message)
    if spec.internal_traffic_policy not in ("Cluster", "Local"):
        at["internalTrafficPolicy"].error("invalid-value", "internalTrafficPolicy is Cluster or Local")


def _say_what_is_not_acted_on(raw: Any, at: At) -> None:
    """Of the fields that decide about calls, those which a mesh does not see to, Istio's neither."""
    if written(raw, "sessionAffinity") == "ClientIP":
        hint = "a DestinationRule says so with loadBalancer.consistentHash.useSourceIp"
        at["sessionAffinity"].warning("no-effect", "sidecars keep no sessionAffinity, Istio's neither", hint)
    if written(raw, "loadBalancerSourceRanges"):
        hint = "an AuthorizationPolicy says so with source.remoteIpBlocks"
        message = "it is for a cloud's load balancer; the mesh lets in whoever reaches it"
        at["loadBalancerSourceRanges"].warning("no-effect", message, hint)


def _warn_of_equal_names(spec: Service, at: At) -> None:
    """Kubernetes refuses them; to a mesh, where a name says which protocol is spoken, they mean something."""
    seen: set[str] = set()
    for index, port in enumerate(spec.ports):
        if port.name and port.name in seen:
            message = f'another port is named "{port.name}" too, which Kubernetes does not take'
            at["ports", index, "name"].warning("duplicate-value", message)
        seen.add(port.name)


def check_endpoint_slice(resource: Resource[EndpointSlice], _raw: Any, at: At) -> None:
    spec = resource.spec
    if SERVICE_NAME not in resource.labels:
        message = f"without the label {SERVICE_NAME} the endpoints belong to no Service"
        At(("metadata", "labels"), at.findings).warning("no-effect", message)
    for index, endpoint in enumerate(spec.endpoints):
        for number, address in enumerate(endpoint.addresses):
            here = at["endpoints", index, "addresses", number]
            if spec.address_type == "FQDN":
                check(names.domain_problem(address), here, "invalid-address")
            elif not names.is_ip(address):
                here.error("invalid-address", f'"{address}" is not an IP address')
    for index, port in enumerate(spec.ports):
        if port.port is not None:
            check_port(port.port, at["ports", index, "port"])
