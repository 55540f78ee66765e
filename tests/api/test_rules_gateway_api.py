"""What is wrong with an HTTPRoute, a Gateway, a GatewayClass, a ReferenceGrant or an Ingress, and where."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from gossamer.api.gateway_api.common import ParentReference
from tests.api.documents import errors as errors_in
from tests.api.documents import errors_of, load_one, resource, spec_of, warnings

TO_A = {"name": "a", "port": 80}
GATEWAY = {"name": "g"}


def errors(kind: str, spec: Any, **metadata: Any) -> list[tuple[str, str]]:
    """What is not valid, for kinds that may share their name with one of Istio's; what is not acted on is left out."""
    document = resource(kind, spec, **metadata)
    if kind == "Gateway":
        document["apiVersion"] = "gateway.networking.k8s.io/v1"
    found = [(one.code, one.path) for one in errors_of(load_one(document))]
    return [one for one in found if one[0] != "unsupported-field"]


def _rule(**rule: Any) -> dict[str, Any]:
    return {"parentRefs": [GATEWAY], "rules": [{"backendRefs": [TO_A], **rule}]}


def _path(value: str, **path: Any) -> dict[str, Any]:
    return _rule(matches=[{"path": {"value": value, **path}}])


def _filters(*filters: Any, **rule: Any) -> dict[str, Any]:
    return _rule(filters=list(filters), **rule)


def _headers(*headers: Any) -> dict[str, Any]:
    return {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": list(headers)}}


REDIRECT = {"type": "RequestRedirect", "requestRedirect": {"scheme": "https"}}
REWRITE = {"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/x"}}}
MIRROR = {"type": "RequestMirror", "requestMirror": {"backendRef": TO_A, "percent": 5}}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, []),
        (_rule(), []),
        ({"parentRef": []}, [("unknown-field", "parentRef")]),
        ({"parentRefs": [GATEWAY, GATEWAY]}, [("duplicate-value", "parentRefs[1]")]),
        ({"parentRefs": [GATEWAY, {**GATEWAY, "sectionName": "b"}]}, []),
        ({"parentRefs": [{}]}, [("required", "parentRefs[0].name")]),
        ({"hostnames": ["*.a.com", "a.com"]}, []),
        ({"hostnames": ["1.2.3.4", "A.com", "*", "a:80"]}, [("invalid-host", f"hostnames[{i}]") for i in range(4)]),
        (_path("/a/b%20c"), []),
        (_path("a"), [("invalid-path", "rules[0].matches[0].path.value")]),
        (_path("/a//b"), [("invalid-path", "rules[0].matches[0].path.value")]),
        (_path("/a/../b"), [("invalid-path", "rules[0].matches[0].path.value")]),
        (_path("/a#b"), [("invalid-path", "rules[0].matches[0].path.value")]),
        (_path("/a(", type="RegularExpression"), [("invalid-regex", "rules[0].matches[0].path.value")]),
        (_path("/a", type="Prefix"), [("invalid-value", "rules[0].matches[0].path.type")]),
        (
            _rule(matches=[{"headers": [{"name": "a b", "value": "x"}]}]),
            [("invalid-value", "rules[0].matches[0].headers[0].name")],
        ),
        (
            _rule(matches=[{"headers": [{"name": "a", "value": "x"}] * 2}]),
            [("duplicate-value", "rules[0].matches[0].headers[1].name")],
        ),
        (_rule(matches=[{"method": "get"}]), [("invalid-value", "rules[0].matches[0].method")]),
        (_rule(backendRefs=[{"name": "a"}]), [("required", "rules[0].backendRefs[0].port")]),
        (_rule(backendRefs=[{**TO_A, "weight": -1}]), [("out-of-range", "rules[0].backendRefs[0].weight")]),
        (_rule(backendRefs=[{"group": "x.io", "kind": "Bucket", "name": "a"}]), []),
        (
            _rule(timeouts={"request": "1s", "backendRequest": "2s"}),
            [("out-of-range", "rules[0].timeouts.backendRequest")],
        ),
        (_rule(timeouts={"request": "0s", "backendRequest": "2s"}), []),
        (_rule(timeouts={"request": "1.5s"}), [("invalid-value", "rules[0].timeouts.request")]),
        (_rule(retry={"codes": [500, 200]}), [("out-of-range", "rules[0].retry.codes[1]")]),
        (
            _rule(sessionPersistence={"cookieConfig": {"lifetimeType": "Permanent"}}),
            [("required", "rules[0].sessionPersistence.absoluteTimeout")],
        ),
        (_filters(REDIRECT), [("exclusive-fields", "rules[0].backendRefs")]),
        (_filters(REDIRECT, backendRefs=[]), []),
        (_filters(REDIRECT, REWRITE, backendRefs=[]), [("exclusive-fields", "rules[0].filters")]),
        (_filters(REWRITE, matches=[{"path": {"value": "/a"}}]), []),
        (_filters(REWRITE), []),
        (
            _filters(REWRITE, matches=[{"path": {"type": "Exact", "value": "/a"}}]),
            [("invalid-value", "rules[0].filters[0].urlRewrite.path.replacePrefixMatch")],
        ),
        (_filters(MIRROR, MIRROR), []),
        (
            _filters({**REDIRECT, "type": "URLRewrite"}, backendRefs=[]),
            [("invalid-value", "rules[0].filters[0].requestRedirect"), ("required", "rules[0].filters[0].urlRewrite")],
        ),
        (_filters({"type": "RequestMirror"}), [("required", "rules[0].filters[0].requestMirror")]),
        (_filters(_headers({"name": "a", "value": "b"}), _headers()), [("duplicate-value", "rules[0].filters[1]")]),
        (
            _filters(_headers({"name": "a", "value": ""})),
            [("invalid-length", "rules[0].filters[0].requestHeaderModifier.set[0].value")],
        ),
        (
            _filters({"type": "RequestRedirect", "requestRedirect": {"statusCode": 200}}, backendRefs=[]),
            [("invalid-value", "rules[0].filters[0].requestRedirect.statusCode")],
        ),
        (
            _filters(
                {
                    "type": "RequestMirror",
                    "requestMirror": {"backendRef": TO_A, "percent": 1, "fraction": {"numerator": 2, "denominator": 1}},
                }
            ),
            [
                ("exclusive-fields", "rules[0].filters[0].requestMirror.fraction"),
                ("out-of-range", "rules[0].filters[0].requestMirror.fraction"),
            ],
        ),
    ],
)
def test_http_route(spec: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert errors("HTTPRoute", spec) == [(code, f"spec.{path}") for code, path in expected]


def test_the_defaults_of_an_http_route_are_the_gateway_apis() -> None:
    found = spec_of("HTTPRoute", _rule(matches=[{}], timeouts={"request": "1m30s"}), "http_routes")
    assert found.parent_refs == (ParentReference(name="g"),)
    (rule,) = found.rules
    assert (rule.matches[0].path.type, rule.matches[0].path.value) == ("PathPrefix", "/")
    assert (rule.backend_refs[0].kind, rule.backend_refs[0].weight) == ("Service", 1)
    assert rule.timeouts.request == timedelta(seconds=90)


HTTP = {"name": "http", "port": 80, "protocol": "HTTP"}
HTTPS = {"name": "https", "port": 443, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "c"}]}}


@pytest.mark.parametrize(
    ("listeners", "expected"),
    [
        ([HTTP, HTTPS], []),
        ([], [("required", "listeners")]),
        ([HTTP, {**HTTP, "port": 81}], [("duplicate-value", "listeners[1].name")]),
        ([HTTP, {**HTTP, "name": "b"}], [("duplicate-value", "listeners[1]")]),
        ([HTTP, {**HTTP, "name": "b", "hostname": "*.a.com"}], []),
        ([{**HTTP, "hostname": "1.2.3.4"}], [("invalid-host", "listeners[0].hostname")]),
        ([{**HTTP, "name": "A"}], [("invalid-name", "listeners[0].name")]),
        ([{**HTTP, "port": 0}], [("invalid-port", "listeners[0].port")]),
        ([{**HTTP, "tls": HTTPS["tls"]}], [("invalid-value", "listeners[0].tls")]),
        ([{**HTTPS, "tls": None}], [("required", "listeners[0].tls")]),
        ([{**HTTPS, "tls": {}}], [("required", "listeners[0].tls.certificateRefs")]),
        ([{**HTTPS, "tls": {"mode": "Passthrough"}}], [("invalid-value", "listeners[0].tls.mode")]),
        ([{**HTTPS, "protocol": "TLS", "tls": {"mode": "Passthrough"}}], []),
        ([{**HTTP, "protocol": "TCP", "hostname": "a.com"}], [("invalid-value", "listeners[0].hostname")]),
        (
            [{**HTTP, "allowedRoutes": {"namespaces": {"from": "Selector"}}}],
            [("required", "listeners[0].allowedRoutes.namespaces.selector")],
        ),
        (
            [{**HTTP, "allowedRoutes": {"namespaces": {"from": "Some"}}}],
            [("invalid-value", "listeners[0].allowedRoutes.namespaces.from")],
        ),
    ],
)
def test_gateway(listeners: list[Any], expected: list[tuple[str, str]]) -> None:
    found = errors("Gateway", {"gatewayClassName": "istio", "listeners": listeners})
    assert found == [(code, f"spec.{path}") for code, path in expected]


@pytest.mark.parametrize(
    ("kind", "spec", "expected"),
    [
        ("GatewayClass", {"controllerName": "istio.io/gateway-controller"}, []),
        ("GatewayClass", {"controllerName": "istio"}, [("invalid-value", "spec.controllerName")]),
        ("GatewayClass", None, [("required", "spec")]),
        (
            "ReferenceGrant",
            {"from": [{"group": "", "kind": "Service", "namespace": "a"}], "to": [{"group": "", "kind": "Secret"}]},
            [],
        ),
        ("ReferenceGrant", {"from": [], "to": [{"group": "", "kind": "Secret"}]}, [("required", "spec.from")]),
        (
            "ReferenceGrant",
            {"from": [{"group": "", "kind": "Service", "namespace": "A"}], "to": []},
            [("required", "spec.to"), ("invalid-name", "spec.from[0].namespace")],
        ),
    ],
)
def test_gateway_class_and_reference_grant(kind: str, spec: Any, expected: list[tuple[str, str]]) -> None:
    assert errors(kind, spec) == expected


def _ingress(path: Any, **spec: Any) -> dict[str, Any]:
    return {"ingressClassName": "istio", "rules": [{"http": {"paths": [path]}}], **spec}


BACKEND = {"service": {"name": "a", "port": {"number": 80}}}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, [("required", "spec")]),
        ({"defaultBackend": BACKEND}, []),
        (_ingress({"path": "/a", "pathType": "Prefix", "backend": BACKEND}), []),
        (_ingress({"pathType": "ImplementationSpecific", "backend": BACKEND}), []),
        (_ingress({"path": "/a", "backend": BACKEND}), [("required", "spec.rules[0].http.paths[0].pathType")]),
        (
            _ingress({"path": "/a", "pathType": "prefix", "backend": BACKEND}),
            [("invalid-value", "spec.rules[0].http.paths[0].pathType")],
        ),
        (
            _ingress({"path": "/a//b", "pathType": "Exact", "backend": BACKEND}),
            [("invalid-path", "spec.rules[0].http.paths[0].path")],
        ),
        (
            _ingress({"path": "/", "pathType": "Exact", "backend": {}}),
            [("required", "spec.rules[0].http.paths[0].backend")],
        ),
        (
            _ingress({"path": "/", "pathType": "Exact", "backend": {"service": {"name": "a", "port": {"number": 0}}}}),
            [("required", "spec.rules[0].http.paths[0].backend.service.port")],
        ),
        ({"rules": [{"http": {"paths": []}}]}, [("required", "spec.rules[0].http.paths")]),
        ({"rules": [{"host": "10.0.0.1"}]}, [("invalid-host", "spec.rules[0].host")]),
        ({"defaultBackend": BACKEND, "tls": [{"hosts": ["a.*"]}]}, [("invalid-host", "spec.tls[0].hosts[0]")]),
        ({"defaultBackend": BACKEND, "ingressClassName": "A"}, [("invalid-name", "spec.ingressClassName")]),
    ],
)
def test_ingress(spec: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert errors_in("Ingress", spec) == expected


def test_ingress_class() -> None:
    assert errors_in("IngressClass", {"controller": "istio.io/ingress-controller", "parameters": {"kind": "x"}}) == []
    assert errors_in("IngressClass", {"controller": "istio"}) == [("invalid-value", "spec.controller")]


def test_both_ways_to_name_a_class() -> None:
    spec = {"defaultBackend": BACKEND, "ingressClassName": "a"}
    found = warnings("Ingress", spec, annotations={"kubernetes.io/ingress.class": "b"})
    assert found == [("exclusive-fields", 'metadata.annotations["kubernetes.io/ingress.class"]')]
