"""VirtualService and DestinationRule: what is refused, and where."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from gossamer.api.common import Exact, Prefix, Present, Regex
from gossamer.api.virtual_service import Destination
from tests.api.documents import errors, spec_of

TO_A = [{"destination": {"host": "a"}}]
TWO = [{"destination": {"host": "a"}}, {"destination": {"host": "b"}}]


def _http(**route: Any) -> dict[str, Any]:
    return {"hosts": ["a"], "http": [{"route": TO_A} | route]}


def _only(**route: Any) -> dict[str, Any]:
    return {"hosts": ["a"], "http": [route]}


def _match(**match: Any) -> dict[str, Any]:
    return _http(match=[match])


def test_a_route_with_everything_in_it() -> None:
    match = {
        "uri": {"prefix": "/x"},
        "headers": {"end-user": {"exact": "jason"}, "x": {}},
        "withoutHeaders": {"y-z": {"regex": "a.*"}},
        "queryParams": {"q": {"exact": "1"}},
        "method": {"exact": "GET"},
        "port": 80,
        "sourceLabels": {"app": "b"},
        "sourceNamespace": "c",
        "ignoreUriCase": True,
    }
    route = {
        "name": "first",
        "match": [match],
        "route": [{"destination": {"host": "a", "subset": "v1", "port": {"number": 80}}, "weight": 9, "headers": {}}],
        "timeout": "1m1.5s",
        "retries": {"attempts": 2, "perTryTimeout": "250ms", "retryOn": "5xx,503,unavailable"},
        "fault": {"delay": {"fixedDelay": "7s", "percentage": {"value": 0.1}}, "abort": {"grpcStatus": "UNAVAILABLE"}},
        "rewrite": {"uriRegexRewrite": {"match": "^/x/(.*)", "rewrite": r"/\1"}},
        "mirrors": [{"destination": {"host": "b"}, "percentage": {"value": 50}}],
        "corsPolicy": {"allowOrigins": [{"exact": "*"}], "allowMethods": ["GET"], "maxAge": "24h"},
        "headers": {"request": {"set": {":authority": "b"}, "remove": ["x-y"]}, "response": {"add": {"x": "100%%"}}},
    }
    spec = spec_of("VirtualService", {"hosts": ["a"], "http": [route]}, "virtual_services")
    (http,) = spec.http
    (found,) = http.match
    assert found.uri == Prefix("/x")
    assert dict(found.headers) == {"end-user": Exact("jason"), "x": Present()}
    assert dict(found.without_headers) == {"y-z": Regex("a.*")}
    assert http.timeout == timedelta(seconds=61, milliseconds=500)
    assert http.route[0].destination == Destination(host="a", subset="v1", port=http.route[0].destination.port)
    assert http.cors_policy.max_age == timedelta(hours=24)


MATCH = "spec.http[0].match[0]"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, [("required", "spec")]),
        ({"hosts": ["a"]}, [("required", "spec")]),
        ({"hosts": "a", "http": [{}]}, [("invalid-type", "spec.hosts")]),
        ({"hosts": ["a"], "htp": []}, [("unknown-field", "spec.htp")]),
        ({"hosts": ["a b"], "http": [{"route": TO_A}]}, [("invalid-host", "spec.hosts[0]")]),
        ({"hosts": ["*.b.c", "a.b.c"], "http": [{"route": TO_A}]}, [("duplicate-host", "spec.hosts[1]")]),
        ({"hosts": ["*"], "http": [{"route": TO_A}]}, [("invalid-host", "spec.hosts[0]")]),
        ({"hosts": ["a"], "gateways": ["b/c/d"], "http": [{"route": TO_A}]}, [("invalid-gateway", "spec.gateways[0]")]),
        ({"hosts": ["a"], "exportTo": ["*", "b"], "http": [{"route": TO_A}]}, [("exclusive-values", "spec.exportTo")]),
        (
            {"hosts": ["a"], "exportTo": ["b", "b"], "http": [{"route": TO_A}]},
            [("duplicate-value", "spec.exportTo[1]")],
        ),
        ({"hosts": ["a"], "exportTo": ["B!"], "http": [{"route": TO_A}]}, [("invalid-value", "spec.exportTo[0]")]),
        # several mistakes are told at once
        (
            {"hosts": [1], "http": [{"route": [{"destination": {}, "weight": "x"}], "timeout": 5}]},
            [
                ("invalid-type", "spec.hosts[0]"),
                ("required", "spec.http[0].route[0].destination.host"),
                ("invalid-type", "spec.http[0].route[0].weight"),
                ("invalid-duration", "spec.http[0].timeout"),
            ],
        ),
        # actions
        (_only(), [("required", "spec.http[0]")]),
        (_http(redirect={"uri": "/"}), [("exclusive-fields", "spec.http[0].redirect")]),
        (_http(directResponse={"status": 200}), [("exclusive-fields", "spec.http[0].directResponse")]),
        (_only(redirect={"uri": "/"}, rewrite={"uri": "/"}), [("exclusive-fields", "spec.http[0].rewrite")]),
        (_only(redirect={}), [("required", "spec.http[0].redirect")]),
        (
            _only(redirect={"uri": "/", "prefixRewrite": "/"}),
            [("exclusive-fields", "spec.http[0].redirect.prefixRewrite")],
        ),
        (_only(redirect={"redirectCode": 200}), [("invalid-value", "spec.http[0].redirect.redirectCode")]),
        (
            _only(redirect={"prefixRewrite": "/"}, match=[{"uri": {"exact": "/"}}]),
            [("invalid-value", "spec.http[0].redirect.prefixRewrite")],
        ),
        (_only(directResponse={}), [("required", "spec.http[0].directResponse.status")]),
        (_only(directResponse={"status": 199}), [("out-of-range", "spec.http[0].directResponse.status")]),
        (
            _only(directResponse={"status": 200, "body": {"string": "x", "bytes": "eA=="}}),
            [("exclusive-fields", "spec.http[0].directResponse.body.bytes")],
        ),
        (
            _only(directResponse={"status": 200, "body": {"bytes": "?"}}),
            [("invalid-base64", "spec.http[0].directResponse.body.bytes")],
        ),
        (_http(rewrite={}), [("required", "spec.http[0].rewrite")]),
        (
            _http(rewrite={"uriRegexRewrite": {"match": "(?=a)", "rewrite": "b"}}),
            [("invalid-regex", "spec.http[0].rewrite.uriRegexRewrite.match")],
        ),
        # faults, retries, timeouts
        (_http(fault={}), [("required", "spec.http[0].fault")]),
        (_http(fault={"abort": {}}), [("required", "spec.http[0].fault.abort.httpStatus")]),
        (_http(fault={"abort": {"httpStatus": 9000}}), [("out-of-range", "spec.http[0].fault.abort.httpStatus")]),
        (_http(fault={"abort": {"grpcStatus": "LATE"}}), [("invalid-value", "spec.http[0].fault.abort.grpcStatus")]),
        (_http(fault={"delay": {}}), [("required", "spec.http[0].fault.delay.fixedDelay")]),
        (
            _http(fault={"delay": {"fixedDelay": "0s", "percentage": {"value": 101}}}),
            [
                ("invalid-duration", "spec.http[0].fault.delay.fixedDelay"),
                ("out-of-range", "spec.http[0].fault.delay.percentage.value"),
            ],
        ),
        (_http(timeout="0s"), [("invalid-duration", "spec.http[0].timeout")]),
        (_http(timeout="1.0000001s"), [("invalid-duration", "spec.http[0].timeout")]),
        (_http(timeout="1 s"), [("invalid-duration", "spec.http[0].timeout")]),
        (_http(retries={"attempts": -1}), [("out-of-range", "spec.http[0].retries.attempts")]),
        (_http(retries={"attempts": 0, "retryOn": "5xx"}), [("invalid-value", "spec.http[0].retries.attempts")]),
        (_http(retries={"attempts": 1, "retryOn": "5xx,600"}), [("invalid-value", "spec.http[0].retries.retryOn")]),
        (_http(retries={"attempts": 1, "retryOn": "often"}), [("invalid-value", "spec.http[0].retries.retryOn")]),
        # matches
        (_match(uri={"prefix": ""}), [("empty-match", f"{MATCH}.uri.prefix")]),
        (_match(uri={"regex": "("}), [("invalid-regex", f"{MATCH}.uri.regex")]),
        (_match(uri={"exact": "/", "prefix": "/"}), [("exclusive-fields", f"{MATCH}.uri")]),
        (_match(uri={"exat": "/"}), [("unknown-field", f"{MATCH}.uri")]),
        (_match(uri="/"), [("invalid-type", f"{MATCH}.uri")]),
        (_match(method={"exact": 1}), [("invalid-type", f"{MATCH}.method")]),
        (_match(headers={"a b": {}}), [("invalid-header", f'{MATCH}.headers["a b"]')]),
        (_match(headers={"a": {"regex": "["}}), [("invalid-regex", f"{MATCH}.headers.a.regex")]),
        (_match(port=70000), [("invalid-port", f"{MATCH}.port")]),
        (_match(sourceLabels={"a": "-"}), [("invalid-label", f"{MATCH}.sourceLabels.a")]),
        # destinations
        (_only(route=[{"destination": {"host": ""}}]), [("required", "spec.http[0].route[0].destination.host")]),
        (_only(route=[{"destination": {"host": "*"}}]), [("invalid-host", "spec.http[0].route[0].destination.host")]),
        (
            _only(route=[{"destination": {"host": "a", "port": {"number": 0}}}]),
            [("invalid-port", "spec.http[0].route[0].destination.port.number")],
        ),
        (_only(route=TWO), [("invalid-weight", "spec.http[0].route")]),
        (
            _only(route=[{"destination": {"host": "a"}, "weight": -1}]),
            [("invalid-weight", "spec.http[0].route[0].weight")],
        ),
        (
            _http(mirror={"host": "b"}, mirrors=[{"destination": {"host": "b"}}]),
            [("exclusive-fields", "spec.http[0].mirrors")],
        ),
        (_http(mirror={}), [("required", "spec.http[0].mirror.host")]),
        # headers and CORS
        (_http(headers={"request": {"set": {"": "x"}}}), [("invalid-header", 'spec.http[0].headers.request.set[""]')]),
        (
            _http(headers={"response": {"add": {"a": "50%"}}}),
            [("invalid-header", "spec.http[0].headers.response.add.a")],
        ),
        (
            _http(headers={"request": {"remove": ["Host"]}}),
            [("invalid-header", "spec.http[0].headers.request.remove[0]")],
        ),
        (_http(corsPolicy={"allowMethods": ["PUTT"]}), [("invalid-value", "spec.http[0].corsPolicy.allowMethods[0]")]),
        (_http(corsPolicy={"maxAge": "1.5s"}), [("invalid-duration", "spec.http[0].corsPolicy.maxAge")]),
        # TLS and TCP
        ({"hosts": ["a"], "tls": [{"route": TO_A}]}, [("required", "spec.tls[0].match")]),
        (
            {"hosts": ["a"], "tls": [{"match": [{"sniHosts": ["b"]}], "route": TO_A}]},
            [("invalid-host", "spec.tls[0].match[0].sniHosts[0]")],
        ),
        ({"hosts": ["a"], "tcp": [{}]}, [("required", "spec.tcp[0].route")]),
        ({"hosts": ["a"], "tcp": [{"route": TWO}]}, [("invalid-weight", "spec.tcp[0].route")]),
    ],
)
def test_virtual_service(spec: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert errors("VirtualService", spec) == expected


@pytest.mark.parametrize(
    "spec",
    [
        _http(match=[]),
        _http(match=[{}]),
        _only(route=[{"destination": {"host": "a"}, "weight": 0}]),
        _only(route=[{"destination": {"host": "a"}, "weight": 900}, {"destination": {"host": "b"}}]),
        _only(redirect={"prefixRewrite": "/"}, match=[{"uri": {"prefix": "/a"}}]),
        _only(redirect={"port": 443, "scheme": "https"}),
        _only(directResponse={"status": 503, "body": {"string": "away"}}),
        _http(retries={"attempts": 0}),
        _http(fault={"abort": {"httpStatus": 503, "percentage": {"value": 100}}}),
        {"hosts": ["a"], "tls": [{"match": [{"sniHosts": ["a"], "port": 443}], "route": TO_A}]},
        {"hosts": ["*.a.b"], "tls": [{"match": [{"sniHosts": ["x.a.b"]}], "route": TO_A}]},
        {"hosts": ["a"], "tcp": [{"match": [{"port": 9000, "sourceLabels": {"app": "x"}}], "route": TO_A}]},
        {"hosts": ["*"], "gateways": ["ns/g"], "http": [{"route": TO_A}]},
        {"hosts": ["10.0.0.1", "fd00::1"], "http": [{"route": TO_A}]},
        {"hosts": ["a"], "http": [{"route": TO_A, "timeout": None, "match": None}]},
    ],
)
def test_valid_virtual_services(spec: dict[str, Any]) -> None:
    assert errors("VirtualService", spec) == []


def _policy(**policy: Any) -> dict[str, Any]:
    return {"host": "a", "trafficPolicy": policy}


POLICY = "spec.trafficPolicy"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, [("required", "spec.host")]),
        ({"host": ""}, [("required", "spec.host")]),
        ({"host": "a..b"}, [("invalid-host", "spec.host")]),
        (_policy(), [("required", POLICY)]),
        (_policy(connectionPool={}), [("required", f"{POLICY}.connectionPool")]),
        (
            _policy(connectionPool={"tcp": {"maxConnections": -1, "connectTimeout": "0s"}}),
            [
                ("out-of-range", f"{POLICY}.connectionPool.tcp.maxConnections"),
                ("invalid-duration", f"{POLICY}.connectionPool.tcp.connectTimeout"),
            ],
        ),
        (
            _policy(connectionPool={"http": {"h2UpgradePolicy": "UPGRADE", "useClientProtocol": True}}),
            [("exclusive-fields", f"{POLICY}.connectionPool.http.useClientProtocol")],
        ),
        (
            _policy(outlierDetection={"maxEjectionPercent": 101, "interval": "0s"}),
            [
                ("invalid-duration", f"{POLICY}.outlierDetection.interval"),
                ("out-of-range", f"{POLICY}.outlierDetection.maxEjectionPercent"),
            ],
        ),
        (_policy(loadBalancer={"simple": "BEST"}), [("invalid-value", f"{POLICY}.loadBalancer.simple")]),
        (
            _policy(loadBalancer={"simple": "RANDOM", "consistentHash": {"useSourceIp": True}}),
            [("exclusive-fields", f"{POLICY}.loadBalancer.consistentHash")],
        ),
        (_policy(loadBalancer={"consistentHash": {}}), [("required", f"{POLICY}.loadBalancer.consistentHash")]),
        (
            _policy(loadBalancer={"consistentHash": {"useSourceIp": True, "httpHeaderName": "x"}}),
            [("exclusive-fields", f"{POLICY}.loadBalancer.consistentHash.useSourceIp")],
        ),
        (
            _policy(loadBalancer={"consistentHash": {"useSourceIp": True, "maglev": {"tableSize": 10}}}),
            [("invalid-value", f"{POLICY}.loadBalancer.consistentHash.maglev.tableSize")],
        ),
        (_policy(tls={"mode": "MUTUAL", "privateKey": "k"}), [("required", f"{POLICY}.tls.clientCertificate")]),
        (
            _policy(tls={"mode": "SIMPLE", "credentialName": "c", "caCertificates": "f"}),
            [("exclusive-fields", f"{POLICY}.tls.caCertificates")],
        ),
        (
            _policy(tls={"mode": "SIMPLE", "insecureSkipVerify": True, "subjectAltNames": ["x"]}),
            [("exclusive-fields", f"{POLICY}.tls.subjectAltNames")],
        ),
        (
            _policy(portLevelSettings=[{"tls": {"mode": "DISABLE"}}]),
            [("required", f"{POLICY}.portLevelSettings[0].port")],
        ),
        ({"host": "a", "subsets": [{"labels": {}}]}, [("required", "spec.subsets[0].name")]),
        ({"host": "a", "subsets": [{"name": "V 1"}]}, [("invalid-subset", "spec.subsets[0].name")]),
        ({"host": "a", "subsets": [{"name": "v"}, {"name": "v"}]}, [("duplicate-value", "spec.subsets[1].name")]),
        (
            {"host": "a", "subsets": [{"name": "v", "trafficPolicy": {}}]},
            [("required", "spec.subsets[0].trafficPolicy")],
        ),
    ],
)
def test_destination_rule(spec: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert errors("DestinationRule", spec) == expected


@pytest.mark.parametrize(
    "spec",
    [
        {"host": "*.a.b"},
        _policy(tls={"mode": "ISTIO_MUTUAL", "sni": "x"}),
        _policy(tls={"mode": "MUTUAL", "insecureSkipVerify": True, "clientCertificate": "c", "privateKey": "k"}),
        _policy(
            loadBalancer={"consistentHash": {"httpCookie": {"name": "c", "ttl": "0s"}, "maglev": {"tableSize": 7}}}
        ),
        _policy(portLevelSettings=[{"port": {"number": 80}, "loadBalancer": {"simple": "ROUND_ROBIN"}}]),
        _policy(outlierDetection={"consecutive5xxErrors": 0, "consecutiveGatewayErrors": 5}),
        _policy(connectionPool={"tcp": {"idleTimeout": "0s"}}),
    ],
)
def test_valid_destination_rules(spec: dict[str, Any]) -> None:
    assert errors("DestinationRule", spec) == []
