"""Ingress and IngressClass.

Rules: the Kubernetes API reference of `networking.k8s.io/v1`, as the API server enforces it.
"""

from __future__ import annotations

from typing import Any, Final

from gossamer.api import names
from gossamer.api.findings import At
from gossamer.api.ingress import HTTPIngressPath, Ingress, IngressBackend, IngressClass, PathType
from gossamer.api.resource import Resource
from gossamer.api.rules.common import check, check_length, check_one_of, check_pattern, check_port, require

CLASS: Final = "kubernetes.io/ingress.class"
"""The annotation that names a class; it speaks before `ingressClassName`."""
_FORBIDDEN: Final = ("//", "/./", "/../", "%2f", "%2F")
_FORBIDDEN_ENDS: Final = ("/..", "/.")
_CONTROLLER: Final = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/[A-Za-z0-9/\-._~%!$&'()*+,;=:]+"


def check_ingress(resource: Resource[Ingress], _raw: Any, at: At) -> None:
    spec = resource.spec
    if spec.default_backend is None and not spec.rules:
        at.error("required", "either `defaultBackend` or `rules` must be specified")
    if spec.ingress_class_name is not None:
        check(names.object_name_problem(spec.ingress_class_name), at["ingressClassName"], "invalid-name")
        if CLASS in resource.annotations:
            here = At(("metadata", "annotations", CLASS), at.findings)
            message = "can not be set when the class field is also set, says Kubernetes; the annotation counts"
            here.warning("exclusive-fields", message)
    elif CLASS not in resource.annotations:
        message = "an Ingress without a class is taken only where MeshConfig's ingressControllerMode is DEFAULT"
        at["ingressClassName"].warning("no-class", message, f"annotate it with {CLASS}: istio")
    if spec.default_backend:
        _check_backend(spec.default_backend, at["defaultBackend"])
    for index, rule in enumerate(spec.rules):
        here = at["rules", index]
        if rule.host:
            check(host_problem(rule.host), here["host"], "invalid-host")
        if rule.http:
            require(rule.http.paths, here["http", "paths"], "Required value: a rule needs at least one path")
            for number, path in enumerate(rule.http.paths):
                _check_path(path, here["http", "paths", number])
    for index, tls in enumerate(spec.tls):
        for number, host in enumerate(tls.hosts):
            check(host_problem(host), at["tls", index, "hosts", number], "invalid-host")
        if not tls.secret_name:
            here = at["tls", index, "secretName"]
            here.warning("no-effect", "without a secretName there is no certificate to serve TLS with")


def host_problem(host: str) -> str:
    """For a host of Ingress or of the Gateway API: a DNS name in lower case, its first label may be `*`."""
    if names.is_ip(host):
        return "must be a DNS name, not an IP address"
    if names.object_name_problem(host.removeprefix("*.")):
        return f'"{host}" is not a host (a-z, 0-9, - and ., at most 253; a wildcard is *.example.com)'
    return ""


def path_problem(path: str) -> str:
    """For a path that is compared as it stands or segment by segment."""
    if not path.startswith("/"):
        return f'"{path}" must be an absolute path'
    bad = [part for part in _FORBIDDEN if part in path] + [end for end in _FORBIDDEN_ENDS if path.endswith(end)]
    return f'"{path}" must not contain {bad[0]}' if bad else ""


def _check_path(path: HTTPIngressPath, at: At) -> None:
    if path.path_type is not PathType.IMPLEMENTATION_SPECIFIC:
        check(path_problem(path.path), at["path"], "invalid-path")
    elif path.path and not path.path.startswith("/"):
        at["path"].error("invalid-path", f'"{path.path}" must be an absolute path')
    _check_backend(path.backend, at["backend"])


def _check_backend(backend: IngressBackend, at: At) -> None:
    if check_one_of(at, {"service": backend.service is not None, "resource": backend.resource is not None}):
        require(backend.service or backend.resource, at, "Required value: a backend is a service or a resource")
    if backend.resource is not None:
        message = "a backend is a Service: requests to other resources are not supported"
        at["resource"].error("unsupported-field", message, on_key=True)
    if backend.service is None:
        return
    here = at["service"]
    check(names.namespace_problem(backend.service.name), here["name"], "invalid-name")
    port = backend.service.port
    if port is None or not (port.name or port.number):
        here["port"].error("required", "Required value: the port of the service, by name or by number")
    elif check_one_of(here["port"], {"name": bool(port.name), "number": bool(port.number)}) and port.number:
        check_port(port.number, here["port", "number"])


def check_ingress_class(resource: Resource[IngressClass], _raw: Any, at: At) -> None:
    controller = resource.spec.controller
    if check_length(controller, 0, 250, at["controller"]) and controller:
        check_pattern(controller, _CONTROLLER, at["controller"], "a controller is a domain and a path")
