"""Ingress: hosts, paths, backends and certificates.

Rules: the Kubernetes API reference; backends that are no Service are refused, since a mesh has no other.
"""

from __future__ import annotations

from typing import Any, Final

from gossamer.api import names
from gossamer.api.findings import At
from gossamer.api.ingress import HTTPIngressPath, Ingress, IngressBackend, PathType
from gossamer.api.resource import Resource
from gossamer.api.rules.common import check, check_port, require

CLASS: Final = "kubernetes.io/ingress.class"
"""The annotation that names a class; it speaks before `ingressClassName`."""


def check_ingress(resource: Resource[Ingress], _raw: Any, at: At) -> None:
    spec = resource.spec
    require(spec.rules or spec.default_backend, at["rules"], "an Ingress needs rules or a defaultBackend")
    if CLASS not in resource.annotations and not spec.ingress_class_name:
        message = "an Ingress without a class is taken only where MeshConfig's ingressControllerMode is DEFAULT"
        at["ingressClassName"].warning("no-class", message, f"annotate it with {CLASS}: istio")
    if spec.default_backend is not None:
        _check_backend(spec.default_backend, at["defaultBackend"])
    for index, rule in enumerate(spec.rules):
        here = at["rules", index]
        if rule.host:
            _check_host(rule.host, here["host"])
        for number, path in enumerate(rule.http.paths if rule.http is not None else ()):
            _check_path(path, here["http", "paths", number])
    for index, tls in enumerate(spec.tls):
        here = at["tls", index]
        for number, host in enumerate(tls.hosts):
            _check_host(host, here["hosts", number])
        if not tls.secret_name:
            here["secretName"].warning("no-effect", "without a secretName there is no certificate to serve TLS with")


def _check_host(host: str, at: At) -> None:
    if names.is_ip(host):
        at.error("invalid-host", f'"{host}" is an IP address; a host is a DNS name')
    elif check(names.wildcard_domain_problem(host), at, "invalid-host") and host.startswith("*"):
        check("" if host.startswith("*.") else f'"{host}": a wildcard is *.example.com', at, "invalid-host")


def _check_path(path: HTTPIngressPath, at: At) -> None:
    if path.path_type is not PathType.IMPLEMENTATION_SPECIFIC or path.path:
        require(path.path.startswith("/"), at["path"], "a path begins with a slash")
    _check_backend(path.backend, at["backend"])


def _check_backend(backend: IngressBackend, at: At) -> None:
    if backend.resource is not None:
        message = "a backend is a Service: requests to other resources are not supported"
        at["resource"].error("unsupported-field", message, on_key=True)
        return
    service = backend.service
    if service is None:
        at["service"].error("required", "a backend needs a service")
        return
    check(names.object_name_problem(service.name), at["service", "name"], "invalid-name")
    here, port = at["service", "port"], service.port
    if port is None or not (port.name or port.number):
        here.error("required", "a backend needs a port, by name or by number")
    elif port.name and port.number:
        here["name"].error("exclusive-fields", "a port is told by its name or by its number")
    elif port.number:
        check_port(port.number, here["number"])
