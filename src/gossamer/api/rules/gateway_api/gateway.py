"""Gateway, GatewayClass and ReferenceGrant of the Gateway API.

Rules: the Gateway API reference, as its schemas enforce it.
"""

from __future__ import annotations

from typing import Any, Final

from gossamer.api import names
from gossamer.api.findings import At
from gossamer.api.gateway_api.gateway import FromNamespaces, KubernetesGateway, Listener, ListenerTLSConfig, TLSMode
from gossamer.api.gateway_api.gateway_class import GatewayClass
from gossamer.api.gateway_api.reference_grant import ReferenceGrant
from gossamer.api.resource import Resource
from gossamer.api.rules.common import (
    check,
    check_count,
    check_length,
    check_pattern,
    check_port,
    check_unique,
    is_written,
    require,
    written,
)
from gossamer.api.rules.gateway_api.common import GROUP, KIND, check_hostname, check_reference, check_section_name
from gossamer.api.rules.gateway_api.gateway_support import check_gateway_support

_CONTROLLER: Final = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/[A-Za-z0-9/\-._~%!$&'()*+,;=:]+"
_PROTOCOL: Final = r"[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?|[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]+)*/[A-Za-z0-9]+"


def check_kubernetes_gateway(resource: Resource[KubernetesGateway], raw: Any, at: At) -> None:
    spec = resource.spec
    check_length(spec.gateway_class_name, 1, 253, at["gatewayClassName"])
    require(spec.listeners, at["listeners"], "Required value: a Gateway has at least one listener")
    check_count(spec.listeners, 64, at["listeners"])
    check_count(spec.addresses, 16, at["addresses"])
    raw_listeners = written(raw, "listeners") or []
    for index, listener in enumerate(spec.listeners):
        _check_listener(listener, raw_listeners[index], at["listeners", index])
    check_unique(((listener.name, at["listeners", i, "name"]) for i, listener in enumerate(spec.listeners)), "listener")
    seen: set[tuple[int, str, str]] = set()
    for index, listener in enumerate(spec.listeners):
        key = (listener.port, listener.protocol, listener.hostname)
        if key in seen:
            message = "Combination of port, protocol and hostname must be unique for each listener"
            at["listeners", index].error("duplicate-value", message)
        seen.add(key)
    check_gateway_support(resource, at)


def _check_listener(listener: Listener, raw: Any, at: At) -> None:
    check_section_name(listener.name, at["name"])
    check_port(listener.port, at["port"])
    check_pattern(listener.protocol, _PROTOCOL, at["protocol"])
    if is_written(raw, "hostname"):
        if listener.protocol in ("TCP", "UDP"):
            at["hostname"].error("invalid-value", "hostname must not be specified for protocols ['TCP', 'UDP']")
        elif listener.hostname:
            check_hostname(listener.hostname, at["hostname"])
    _check_tls(listener, at)
    namespaces = listener.allowed_routes.namespaces
    if namespaces.from_ is FromNamespaces.SELECTOR and namespaces.selector is None:
        at["allowedRoutes", "namespaces", "selector"].error(
            "required", "Required value: from Selector needs a selector"
        )
    for index, kind in enumerate(listener.allowed_routes.kinds):
        check_pattern(kind.group, GROUP, at["allowedRoutes", "kinds", index, "group"])
        check_pattern(kind.kind, KIND, at["allowedRoutes", "kinds", index, "kind"])


def _check_tls(listener: Listener, at: At) -> None:
    tls = listener.tls
    if tls is None:
        if listener.protocol in ("HTTPS", "TLS"):
            at["tls"].error("required", f"tls must be specified for protocol {listener.protocol}")
        return
    if listener.protocol in ("HTTP", "TCP", "UDP"):
        at["tls"].error("invalid-value", "tls must not be specified for protocols ['HTTP', 'TCP', 'UDP']", on_key=True)
    elif listener.protocol == "HTTPS" and tls.mode is not TLSMode.TERMINATE:
        at["tls", "mode"].error("invalid-value", "tls mode must be Terminate for protocol HTTPS")
    _check_certificates(tls, at["tls"])


def _check_certificates(tls: ListenerTLSConfig, at: At) -> None:
    if tls.mode is TLSMode.TERMINATE and not tls.certificate_refs and not tls.options:
        message = "certificateRefs or options must be specified when mode is Terminate"
        at["certificateRefs"].error("required", message)
    check_count(tls.certificate_refs, 64, at["certificateRefs"])
    for index, secret in enumerate(tls.certificate_refs):
        here = at["certificateRefs", index]
        check_reference(secret.group, secret.kind, secret.name, secret.namespace, here)


def check_gateway_class(resource: Resource[GatewayClass], _raw: Any, at: At) -> None:
    spec = resource.spec
    if check_length(spec.controller_name, 1, 253, at["controllerName"]):
        hint = "a controller is a domain and a path, such as example.com/gateway-controller"
        check_pattern(spec.controller_name, _CONTROLLER, at["controllerName"], hint)
    if spec.description is not None:
        check_length(spec.description, 0, 64, at["description"])
    if spec.parameters_ref:
        reference = spec.parameters_ref
        check_reference(reference.group, reference.kind, reference.name, reference.namespace, at["parametersRef"])


def check_reference_grant(resource: Resource[ReferenceGrant], _raw: Any, at: At) -> None:
    spec = resource.spec
    for name, items in (("from", spec.from_), ("to", spec.to)):
        require(items, at[name], f"Required value: {name} needs at least one entry")
        check_count(items, 16, at[name])
    for index, source in enumerate(spec.from_):
        here = at["from", index]
        check_pattern(source.group, GROUP, here["group"])
        check_pattern(source.kind, KIND, here["kind"])
        check(names.namespace_problem(source.namespace), here["namespace"], "invalid-name")
    for index, target in enumerate(spec.to):
        here = at["to", index]
        check_pattern(target.group, GROUP, here["group"])
        check_pattern(target.kind, KIND, here["kind"])
        check_length(target.name, 0, 253, here["name"])
