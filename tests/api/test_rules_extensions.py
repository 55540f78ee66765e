"""What is wrong with an EnvoyFilter, a WasmPlugin, a TrafficExtension, a Telemetry or a RequestAuthentication."""

from __future__ import annotations

from typing import Any

import pytest

from gossamer.api.load import load
from tests.api.documents import errors, file_of, resource, spec_of, warnings

HCM = "envoy.filters.network.http_connection_manager"
VALUE = {"operation": "ADD", "value": {"name": "x"}}
TARGET = {"kind": "Service", "name": "s"}
LUA = {"lua": {"inlineCode": "function envoy_on_request(h) end"}}


def _patch(apply_to: str = "HTTP_FILTER", patch: Any = VALUE, **match: Any) -> dict[str, Any]:
    found = {"applyTo": apply_to, "patch": patch, "match": match}
    return {"configPatches": [{key: value for key, value in found.items() if value}]}


def _chain(**match: Any) -> dict[str, Any]:
    return {"filterChain": {"filter": match}}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, []),
        (_patch(), []),
        (_patch(""), [("required", ".applyTo")]),
        (_patch("FILTER"), [("invalid-value", ".applyTo")]),
        (_patch(patch=None), [("required", ".patch")]),
        (_patch(patch={"value": {}}), [("required", ".patch.operation")]),
        (_patch(patch={"operation": "MERGE"}), [("required", ".patch.value")]),
        (_patch(patch={"operation": "ADD", "value": "text"}), [("invalid-type", ".patch.value")]),
        (_patch(patch={"operation": "REMOVE"}), []),
        (_patch("CLUSTER", listener={}), [("invalid-match", ".match.listener")]),
        (_patch("LISTENER", cluster={}), [("invalid-match", ".match.cluster")]),
        (_patch("VIRTUAL_HOST", listener={}), [("invalid-match", ".match.listener")]),
        (_patch("HTTP_ROUTE", routeConfiguration={"vhost": {"route": {"action": "ANY"}}}), []),
        (_patch(context="WAYPOINT", waypoint={"portNumber": 1}), []),
        (_patch(context="WAYPOINT"), [("invalid-value", ".match")]),
        (_patch(waypoint={}), [("invalid-value", ".match")]),
        (_patch(context="WAYPOINT", waypoint={"portNumber": 0}), [("invalid-port", ".match.waypoint.portNumber")]),
        (
            _patch("CLUSTER", cluster={}, listener={}),
            [("exclusive-fields", ".match.cluster"), ("invalid-match", ".match.listener")],
        ),
        (_patch(proxy={"proxyVersion": "1("}), [("invalid-regex", ".match.proxy.proxyVersion")]),
        (_patch(listener=_chain(name="")), [("required", ".match.listener.filterChain.filter.name")]),
        (_patch(listener=_chain(name=HCM, subFilter={"name": "x"})), []),
        (
            _patch(listener=_chain(name=HCM, subFilter={})),
            [("required", ".match.listener.filterChain.filter.subFilter.name")],
        ),
        (
            _patch(listener=_chain(name="other", subFilter={"name": "x"})),
            [("invalid-match", ".match.listener.filterChain.filter.subFilter")],
        ),
    ],
)
def test_envoy_filter(spec: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert errors("EnvoyFilter", spec) == [(code, f"spec.configPatches[0]{path}") for code, path in expected]


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        (_patch("BOOTSTRAP"), ".applyTo"),
        (_patch(patch={"operation": "REMOVE", "value": {}}), ".patch.value"),
        (_patch("CLUSTER", {"operation": "INSERT_FIRST", "value": {}}), ".patch.operation"),
        (_patch("CLUSTER", {"operation": "REPLACE", "value": {}}), ".patch.operation"),
        (_patch(patch={"operation": "MERGE", "value": {}, "filterClass": "AUTHN"}), ".patch.filterClass"),
        (_patch("LISTENER", listener=_chain(name=HCM)), ".match.listener.filterChain.filter"),
        (_patch(listener={"portName": "x"}), ".match.listener.portName"),
    ],
)
def test_what_does_nothing_in_an_envoy_filter_is_warned_of(spec: dict[str, Any], path: str) -> None:
    assert [found for _, found in warnings("EnvoyFilter", spec)] == [f"spec.configPatches[0]{path}"]


def test_one_and_true_are_different_patches() -> None:
    """A patch's value is compared as JSON: Python takes 1 for true."""
    one, true = (
        spec_of("EnvoyFilter", _patch(patch={"operation": "ADD", "value": {"a": value}}), "envoy_filters")
        for value in (1, True)
    )
    assert one != true


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("oci://r.io/a/b:1", True),
        ("https://a.b/c%20d", True),
        ("file:///a.wasm", True),
        ("r.io/a@sha256:12", True),
        ("test", True),
        ("HTTP://a/b", True),
        ("localhost:5000/x", True),
        ("", False),
        ("ftp://a/b", False),
        ("#%blah$#@", False),
        ("oci://", False),
        ("a b", False),
        ("oci://[a", False),
    ],
)
def test_wasm_url(url: str, good: bool) -> None:
    assert (errors("WasmPlugin", {"url": url}) == []) is good
    assert (errors("TrafficExtension", {"wasm": {"url": url}}) == []) is good


def _env(*variables: Any) -> dict[str, Any]:
    return {"url": "u", "vmConfig": {"env": list(variables)}}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, [("required", "spec.url")]),
        ({"url": "u", "sha256": "A" * 64}, [("invalid-value", "spec.sha256")]),
        ({"url": "u", "sha256": "a" * 64, "pluginConfig": {"a": [1, None]}, "priority": -3}, []),
        ({"url": "u", "pluginConfig": "x"}, [("invalid-type", "spec.pluginConfig")]),
        ({"url": "u", "imagePullSecret": ""}, [("invalid-length", "spec.imagePullSecret")]),
        ({"url": "u", "pluginName": "x" * 257}, [("invalid-length", "spec.pluginName")]),
        ({"url": "u", "phase": "AUTH"}, [("invalid-value", "spec.phase")]),
        ({"url": "u", "match": [{"ports": [{}]}]}, [("required", "spec.match[0].ports[0].number")]),
        ({"url": "u", "match": [{"ports": [{"number": 0}]}]}, [("invalid-port", "spec.match[0].ports[0].number")]),
        ({"url": "u", "match": [{"ports": [{"number": 1}] * 2}]}, [("duplicate-value", "spec.match[0].ports[1]")]),
        (_env({"name": "a", "value": ""}, {"name": "b", "valueFrom": "HOST"}), []),
        (_env({"value": "x"}), [("required", "spec.vmConfig.env[0].name")]),
        (_env({"name": "a", "valueFrom": "HOST", "value": "x"}), [("exclusive-fields", "spec.vmConfig.env[0].value")]),
        (_env({"name": "a"}, {"name": "a"}), [("duplicate-value", "spec.vmConfig.env[1].name")]),
        (_env({"name": "a", "value": "x" * 2049}), [("invalid-length", "spec.vmConfig.env[0].value")]),
        (_env(*({"name": f"a{i}"} for i in range(257))), [("out-of-range", "spec.vmConfig.env")]),
        ({"url": "u", "selector": {}, "targetRef": TARGET}, [("exclusive-fields", "spec.targetRef")]),
        (
            {"url": "u", "targetRefs": [{**TARGET, "namespace": "n"}]},
            [("invalid-target", "spec.targetRefs[0].namespace")],
        ),
        ({"url": "u", "targetRefs": [{"kind": "a_b", "name": "x"}]}, [("invalid-value", "spec.targetRefs[0].kind")]),
        ({"url": "u", "targetRefs": [TARGET] * 17}, [("out-of-range", "spec.targetRefs")]),
    ],
)
def test_wasm_plugin(spec: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert errors("WasmPlugin", spec) == expected


def test_a_plugin_attached_to_nothing_known_has_no_effect_and_a_policy_is_refused() -> None:
    spec: dict[str, Any] = {"targetRef": {"group": "x.io", "kind": "Gateway", "name": "g"}}
    assert warnings("WasmPlugin", {"url": "u", **spec})[0] == ("invalid-target", "spec.targetRef")
    assert errors("AuthorizationPolicy", spec) == [("invalid-target", "spec.targetRef")]
    assert errors("RequestAuthentication", spec) == [("invalid-target", "spec.targetRef")]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (LUA, []),
        ({}, [("exclusive-fields", "spec")]),
        ({**LUA, "wasm": {"url": "u"}}, [("exclusive-fields", "spec")]),
        ({"lua": {"inlineCode": ""}}, [("invalid-length", "spec.lua.inlineCode")]),
        ({"lua": {"inlineCode": "x" * 65537}}, [("invalid-length", "spec.lua.inlineCode")]),
        ({"lua": {}}, [("required", "spec.lua.inlineCode")]),
        ({**LUA, "targetRef": TARGET}, [("unknown-field", "spec.targetRef")]),
        ({**LUA, "match": [{"ports": [{"number": 65536}]}]}, [("invalid-port", "spec.match[0].ports[0].number")]),
    ],
)
def test_traffic_extension(spec: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert errors("TrafficExtension", spec) == expected


def test_a_script_without_entry_point_is_warned_of() -> None:
    assert warnings("TrafficExtension", {"lua": {"inlineCode": "x = 1"}}) == [("no-effect", "spec.lua.inlineCode")]


def _metrics(**override: Any) -> dict[str, Any]:
    return {"metrics": [{"overrides": [override]}]}


def _tag(**tag: Any) -> dict[str, Any]:
    return {"tracing": [{"customTags": {"a": tag}}]}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, []),
        ({"tracing": [{"randomSamplingPercentage": 100.5}]}, [("out-of-range", "tracing[0].randomSamplingPercentage")]),
        ({"tracing": [{"providers": [{"name": ""}]}]}, [("invalid-length", "tracing[0].providers[0].name")]),
        ({"accessLogging": [{"providers": [{}]}]}, [("required", "accessLogging[0].providers[0].name")]),
        (
            {"accessLogging": [{"filter": {"expression": "a +"}}]},
            [("invalid-expression", "accessLogging[0].filter.expression")],
        ),
        (_tag(literal={"value": ""}), [("invalid-length", "tracing[0].customTags.a.literal.value")]),
        (_tag(header={}), [("required", "tracing[0].customTags.a.header.name")]),
        (_tag(header={"name": "a"}, literal={"value": "b"}), [("exclusive-fields", "tracing[0].customTags.a.header")]),
        ({"metrics": [{"reportingInterval": "0s"}]}, [("invalid-duration", "metrics[0].reportingInterval")]),
        (
            _metrics(match={"metric": "REQUEST_COUNT", "customMetric": "x"}),
            [("exclusive-fields", "metrics[0].overrides[0].match.customMetric")],
        ),
        (_metrics(match={"metric": "REQUESTS"}), [("invalid-value", "metrics[0].overrides[0].match.metric")]),
        (_metrics(tagOverrides={"a": {}}), [("required", "metrics[0].overrides[0].tagOverrides.a.value")]),
        (_metrics(tagOverrides={"a": {"operation": "REMOVE"}, "b": {"value": "request.host"}}), []),
        (
            _metrics(tagOverrides={"a": {"operation": "REMOVE", "value": "x"}}),
            [("exclusive-fields", "metrics[0].overrides[0].tagOverrides.a.value")],
        ),
        (_metrics(tagOverrides={"": {"value": "x"}}), [("required", 'metrics[0].overrides[0].tagOverrides[""]')]),
    ],
)
def test_telemetry(spec: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert errors("Telemetry", spec) == [(code, f"spec.{path}") for code, path in expected]


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"tracing": [{}, {}]}, "tracing"),
        ({"tracing": [{"providers": [{"name": "a"}, {"name": "b"}]}]}, "tracing[0].providers"),
        (_tag(), "tracing[0].customTags.a"),
        (_metrics(tagOverrides={"a": {"value": "%REQ(a)%"}}), "metrics[0].overrides[0].tagOverrides.a.value"),
    ],
)
def test_what_does_nothing_in_telemetry_is_warned_of(spec: dict[str, Any], path: str) -> None:
    assert [found for _, found in warnings("Telemetry", spec)] == [f"spec.{path}"]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"issuer": "i", "jwksUri": "https://i:8443/keys"}, []),
        ({"issuer": "i", "jwks": '{"keys": [{"kty": "RSA", "n": "x", "e": "AQAB"}]}'}, []),
        ({"issuer": "i", "presence": "REQUIRED", "fromCookies": ["c"], "timeout": "5s"}, []),
        ({"issuer": ""}, [("invalid-length", "issuer")]),
        ({"issuer": "i", "jwks": "foo"}, [("invalid-jwks", "jwks")]),
        ({"issuer": "i", "jwks": '{"keys": [1]}'}, [("invalid-jwks", "jwks")]),
        ({"issuer": "i", "jwks": '{"keys": []}', "jwksUri": "http://i"}, [("exclusive-fields", "jwks")]),
        ({"issuer": "i", "jwksUri": "i.com/keys"}, [("invalid-url", "jwksUri")]),
        ({"issuer": "i", "jwksUri": "https://i.com:port/"}, [("invalid-url", "jwksUri")]),
        ({"issuer": "i", "jwksUri": "https:///keys"}, [("invalid-url", "jwksUri")]),
        ({"issuer": "i", "jwksUri": ""}, [("invalid-length", "jwksUri")]),
        ({"issuer": "i", "audiences": ["a", ""]}, [("invalid-length", "audiences[1]")]),
        ({"issuer": "i", "fromHeaders": [{"name": ""}]}, [("invalid-length", "fromHeaders[0].name")]),
        ({"issuer": "i", "timeout": "0.5ms"}, [("invalid-duration", "timeout")]),
        (
            {"issuer": "i", "outputClaimToHeaders": [{"header": "a b", "claim": ""}]},
            [("invalid-length", "outputClaimToHeaders[0].claim"), ("invalid-value", "outputClaimToHeaders[0].header")],
        ),
    ],
)
def test_jwt_rules(rule: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    found = errors("RequestAuthentication", {"jwtRules": [rule]})
    assert found == [(code, f"spec.jwtRules[0].{path}") for code, path in expected]


def test_two_kinds_called_gateway_are_two_resources() -> None:
    listener = {"name": "http", "port": 80, "protocol": "HTTP"}
    server = {"hosts": ["*"], "port": {"number": 80, "name": "http", "protocol": "HTTP"}}
    ours = {
        **resource("HTTPRoute", {"gatewayClassName": "g", "listeners": [listener]}),
        "kind": "Gateway",
    }
    loaded = load([file_of(ours, "a.yaml"), file_of(resource("Gateway", {"servers": [server]}), "b.yaml")])
    assert not loaded.has_errors, loaded.diagnostics
    assert (len(loaded.config.gateways), len(loaded.config.k8s_gateways)) == (1, 1)
    assert loaded.config.k8s_gateways[0].id.kind == "Gateway.gateway.networking.k8s.io"
