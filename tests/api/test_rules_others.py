"""Gateway, ServiceEntry, WorkloadEntry, the security kinds and Kubernetes': what is refused, and where."""

from __future__ import annotations

from typing import Any

import pytest

from gossamer.api.authorization_policy import AuthorizationPolicy
from gossamer.api.kubernetes import Redacted
from gossamer.core.diagnostics import Severity
from tests.api.documents import errors, errors_of, load_one, resource, spec_of, warnings


def _server(tls: Any = None, hosts: Any = ("a.b",), protocol: str = "HTTP", **port: Any) -> dict[str, Any]:
    server = {"port": {"number": 80, "name": "p", "protocol": protocol} | port, "hosts": list(hosts)}
    return {"servers": [server if tls is None else server | {"tls": tls}]}


SERVER = "spec.servers[0]"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, [("required", "spec.servers")]),
        ({"servers": [{"hosts": ["a"]}]}, [("required", f"{SERVER}.port")]),
        (_server(number=0), [("invalid-port", f"{SERVER}.port.number")]),
        (_server(name=""), [("required", f"{SERVER}.port.name")]),
        (_server(protocol="HTP"), [("invalid-protocol", f"{SERVER}.port.protocol")]),
        (_server(hosts=[]), [("required", f"{SERVER}.hosts")]),
        (_server(hosts=["~/a.b"]), [("invalid-host", f"{SERVER}.hosts[0]")]),
        (_server(hosts=["*a.b"]), [("invalid-host", f"{SERVER}.hosts[0]")]),
        (_server(protocol="HTTPS"), [("required", f"{SERVER}.tls")]),
        (_server({"mode": "SIMPLE", "credentialName": "c"}), [("invalid-value", f"{SERVER}.tls")]),
        (
            _server({"mode": "SIMPLE"}, protocol="HTTPS"),
            [("required", f"{SERVER}.tls.serverCertificate"), ("required", f"{SERVER}.tls.privateKey")],
        ),
        (
            _server({"mode": "SIMPLE", "credentialName": "c", "httpsRedirect": True}, protocol="HTTPS"),
            [("invalid-value", f"{SERVER}.tls.httpsRedirect")],
        ),
        (
            _server(
                {
                    "mode": "SIMPLE",
                    "credentialName": "c",
                    "minProtocolVersion": "TLSV1_3",
                    "maxProtocolVersion": "TLSV1_2",
                },
                protocol="HTTPS",
            ),
            [("out-of-range", f"{SERVER}.tls.minProtocolVersion")],
        ),
        (
            {"servers": [*_server()["servers"], *_server(number=81)["servers"]]},
            [("duplicate-value", "spec.servers[1].port.name")],
        ),
    ],
)
def test_gateway(spec: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert errors("Gateway", spec) == expected


@pytest.mark.parametrize(
    "spec",
    [
        _server({"httpsRedirect": True}),
        _server(hosts=["*", "./a.b", "ns/*.b", "*/c.d"]),
        _server({"mode": "PASSTHROUGH"}, protocol="TLS"),
        _server({"mode": "MUTUAL", "credentialName": "c"}, protocol="HTTPS", number=443),
    ],
)
def test_valid_gateways(spec: dict[str, Any]) -> None:
    assert errors("Gateway", spec) == []


def test_optional_certificates_of_certain_names() -> None:
    optional = {"mode": "OPTIONAL_MUTUAL", "credentialName": "c"}
    path = "spec.servers[0].tls.subjectAltNames"
    named = optional | {"subjectAltNames": ["a"]}
    assert warnings("Gateway", _server(named, protocol="HTTPS", number=443)) == [("certificate-demanded", path)]
    assert warnings("Gateway", _server(optional, protocol="HTTPS", number=443)) == []


def _entry(**spec: Any) -> dict[str, Any]:
    return {"hosts": ["a.b"], "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}]} | spec


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, [("required", "spec.hosts")]),
        ({"hosts": []}, [("required", "spec.hosts")]),
        ({"hosts": ["*"]}, [("invalid-host", "spec.hosts[0]")]),
        (_entry(addresses=["10.0.0.300"]), [("invalid-address", "spec.addresses[0]")]),
        (_entry(addresses=["10.0.0.0/8"], resolution="DNS"), [("invalid-address", "spec.addresses[0]")]),
        (_entry(ports=[{"number": 80, "name": ""}]), [("required", "spec.ports[0].name")]),
        (_entry(ports=[{"number": 0, "name": "a"}]), [("invalid-port", "spec.ports[0].number")]),
        (
            _entry(ports=[{"number": 1, "name": "a", "targetPort": 99999}]),
            [("invalid-port", "spec.ports[0].targetPort")],
        ),
        (
            _entry(ports=[{"number": 1, "name": "a"}, {"number": 2, "name": "a"}]),
            [("duplicate-value", "spec.ports[1].name")],
        ),
        (
            _entry(ports=[{"number": 1, "name": "a"}, {"number": 1, "name": "b"}]),
            [("duplicate-value", "spec.ports[1].number")],
        ),
        (_entry(endpoints=[{"address": "10.0.0.1"}]), [("invalid-endpoints", "spec.endpoints")]),
        (_entry(resolution="STATIC"), [("required", "spec.endpoints")]),
        (
            _entry(resolution="STATIC", endpoints=[{"address": "c.d"}]),
            [("invalid-address", "spec.endpoints[0].address")],
        ),
        (_entry(resolution="STATIC", endpoints=[{}]), [("required", "spec.endpoints[0].address")]),
        (
            _entry(resolution="STATIC", endpoints=[{"address": "10.0.0.1", "ports": {"htp": 80}}]),
            [("unknown-port", "spec.endpoints[0].ports.htp")],
        ),
        (_entry(resolution="DNS", hosts=["*.a.b"]), [("invalid-host", "spec.hosts[0]")]),
        (
            _entry(resolution="STATIC", workloadSelector={}, endpoints=[{"address": "10.0.0.1"}]),
            [("exclusive-fields", "spec.endpoints")],
        ),
        (_entry(workloadSelector={"labels": {"a": "*"}}), [("invalid-selector", "spec.workloadSelector.labels.a")]),
    ],
)
def test_service_entry(spec: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert errors("ServiceEntry", spec) == expected


def test_workloads_of_a_service_outside_the_mesh() -> None:
    selected = {"resolution": "STATIC", "workloadSelector": {"labels": {"a": "b"}}}
    (one,) = load_one(resource("ServiceEntry", _entry(**selected))).diagnostics
    assert (one.code, one.path, one.severity) == ("external-selector", "spec.workloadSelector", Severity.INFO)


@pytest.mark.parametrize(
    "spec",
    [
        {"hosts": ["a.b"]},
        _entry(resolution="STATIC", endpoints=[{"address": "10.0.0.1", "ports": {"http": 8080}, "labels": {"a": "b"}}]),
        _entry(resolution="STATIC", endpoints=[{"address": "unix:///run/a.sock"}]),
        _entry(resolution="STATIC", workloadSelector={"labels": {"a": "b"}}, location="MESH_INTERNAL"),
        _entry(resolution="DNS"),
        _entry(resolution="DNS", hosts=["*.a.b"], endpoints=[{"address": "c.d"}]),
        _entry(addresses=["10.0.0.0/8", "fd00::/8"], exportTo=["."]),
        _entry(exportTo=["~"]),
    ],
)
def test_valid_service_entries(spec: dict[str, Any]) -> None:
    assert errors("ServiceEntry", spec) == []


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (None, [("required", "spec")]),
        ({}, [("required", "spec.address")]),
        ({"network": "n"}, []),
        ({"address": "a.b"}, []),
        ({"address": "a.b:80"}, [("invalid-address", "spec.address")]),
        ({"address": "unix://x"}, [("invalid-address", "spec.address")]),
        ({"address": "unix:///x/"}, [("invalid-address", "spec.address")]),
        ({"address": "unix://@x", "ports": {"a": 1}}, [("exclusive-fields", "spec.ports")]),
        ({"address": "10.0.0.1", "ports": {"@": 1}}, [("invalid-value", 'spec.ports["@"]')]),
        ({"address": "10.0.0.1", "ports": {"a": 99999}}, [("invalid-port", "spec.ports.a")]),
        ({"address": "10.0.0.1", "labels": {"a b": "c"}}, [("invalid-label", 'spec.labels["a b"]')]),
        ({"address": "10.0.0.1", "weight": -1}, [("out-of-range", "spec.weight")]),
    ],
)
def test_workload_entry(spec: Any, expected: list[tuple[str, str]]) -> None:
    assert errors("WorkloadEntry", spec) == expected


def _from(**source: Any) -> dict[str, Any]:
    return {"rules": [{"from": [{"source": source}]}]}


def _to(**operation: Any) -> dict[str, Any]:
    return {"rules": [{"to": [{"operation": operation}]}]}


def _when(key: str, **condition: Any) -> dict[str, Any]:
    return {"rules": [{"when": [{"key": key, **condition}]}]}


RULE = "spec.rules[0]"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"rules": [{"from": []}]}, [("required", f"{RULE}.from")]),
        ({"rules": [{"to": []}]}, [("required", f"{RULE}.to")]),
        ({"rules": [{"when": []}]}, [("required", f"{RULE}.when")]),
        ({"rules": [{"from": [{}]}]}, [("required", f"{RULE}.from[0].source")]),
        ({"rules": [{"to": [{"operation": {}}]}]}, [("required", f"{RULE}.to[0].operation")]),
        ({"action": "DENY"}, [("required", "spec.rules")]),
        ({"action": "DENY", "rules": None}, [("required", "spec.rules")]),
        (_from(principals=["p", ""]), [("required", f"{RULE}.from[0].source.principals[1]")]),
        (_from(ipBlocks=["10.0.0.0/33"]), [("invalid-value", f"{RULE}.from[0].source.ipBlocks[0]")]),
        (_from(serviceAccounts=["a"], namespaces=["b"]), [("exclusive-fields", f"{RULE}.from[0].source")]),
        (_from(serviceAccounts=["a/*"]), [("invalid-value", f"{RULE}.from[0].source.serviceAccounts[0]")]),
        (_from(principal=["a"]), [("unknown-field", f"{RULE}.from[0].source.principal")]),
        (_to(ports=["http"]), [("invalid-value", f"{RULE}.to[0].operation.ports[0]")]),
        (_to(ports=[80]), [("invalid-type", f"{RULE}.to[0].operation.ports[0]")]),
        (_to(paths=["/a/{b}"]), [("invalid-value", f"{RULE}.to[0].operation.paths[0]")]),
        (_to(paths=["/{**}/a/{**}"]), [("invalid-value", f"{RULE}.to[0].operation.paths[0]")]),
        (_to(paths=["/{*}a"]), [("invalid-value", f"{RULE}.to[0].operation.paths[0]")]),
        (_when("", values=["a"]), [("required", f"{RULE}.when[0].key")]),
        (_when("request.header[a]", values=["a"]), [("invalid-value", f"{RULE}.when[0].key")]),
        (_when("source.namespace"), [("required", f"{RULE}.when[0]")]),
        (_when("source.ip", values=["x"]), [("invalid-value", f"{RULE}.when[0].values[0]")]),
        (_when("destination.port", notValues=["x"]), [("invalid-value", f"{RULE}.when[0].notValues[0]")]),
    ],
)
def test_authorization_policy(spec: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert errors("AuthorizationPolicy", spec) == expected


@pytest.mark.parametrize(
    "spec",
    [
        None,
        {},
        {"rules": [{}]},
        {"action": "DENY", "rules": [{}]},
        _from(principals=["*", "a*", "*b"], notNamespaces=["c"], remoteIpBlocks=["::/0"], trustDomains=["d"]),
        _from(serviceAccounts=["ns/a", "b"]),
        _to(hosts=["*.a"], methods=["GET"], paths=["/a*", "/b/{*}/c", "/{**}", "/a/{*}/{**}"], notPorts=["80"]),
        _when("request.headers[x-y]", values=["a"]),
        _when("connection.sni", values=["a"]),
    ],
)
def test_valid_authorization_policies(spec: Any) -> None:
    assert errors("AuthorizationPolicy", spec) == []


def test_a_policy_without_a_spec_allows_nothing() -> None:
    assert spec_of("AuthorizationPolicy", None, "authorization_policies") == AuthorizationPolicy()


SELECTOR = {"matchLabels": {"a": "b"}}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (None, []),
        ({"mtls": {"mode": "STRICT"}}, []),
        ({"selector": SELECTOR, "portLevelMtls": {8080: {"mode": "DISABLE"}}}, []),
        ({"mtls": {"mode": "STRIKT"}}, [("invalid-value", "spec.mtls.mode")]),
        ({"selector": SELECTOR, "portLevelMtls": {}}, [("required", "spec.portLevelMtls")]),
        ({"portLevelMtls": {"80": {"mode": "STRICT"}}}, [("invalid-value", "spec.portLevelMtls")]),
        ({"selector": SELECTOR, "portLevelMtls": {"http": {}}}, [("invalid-type", "spec.portLevelMtls.http")]),
        ({"selector": SELECTOR, "portLevelMtls": {"70000": {}}}, [("invalid-port", 'spec.portLevelMtls["70000"]')]),
    ],
)
def test_peer_authentication(spec: Any, expected: list[tuple[str, str]]) -> None:
    assert errors("PeerAuthentication", spec) == expected


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"name": "A_b"}, [("invalid-name", "metadata.name")]),
        ({"name": 3}, [("required", "metadata.name")]),
        ({"generateName": "a-", "name": ""}, [("required", "metadata.name")]),
        ({"namespace": "A"}, [("invalid-name", "metadata.namespace")]),
        ({"namespace": ["a"]}, [("invalid-type", "metadata.namespace")]),
        ({"labels": {"a": 1}}, [("invalid-type", "metadata.labels.a")]),
        ({"labels": {"a": "b c"}}, [("invalid-label", "metadata.labels.a")]),
        ({"annotations": ["a"]}, [("invalid-type", "metadata.annotations")]),
        ({"lables": {}}, [("unknown-field", "metadata.lables")]),
        ({"creationTimestamp": "yesterday"}, [("invalid-value", "metadata.creationTimestamp")]),
        ({"creationTimestamp": None, "uid": "x", "annotations": {"a": None}}, []),
    ],
)
def test_metadata(metadata: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    document = resource("PeerAuthentication", {})
    document["metadata"] |= metadata
    assert [(found.code, found.path) for found in errors_of(load_one(document))] == expected


def test_service() -> None:
    spec = {
        "selector": {"app": "a"},
        "ports": [{"port": 80, "targetPort": "http"}],
        "clusterIP": "None",
        "sessionAffinity": "None",
    }
    found = spec_of("Service", spec, "services")
    assert found.headless
    assert found.ports[0].target_port == "http"
    assert errors("Service", {"port": []}) == [("unknown-field", "spec.port"), ("required", "spec.ports")]
    assert errors("Service", {"ports": [{"port": 1}, {"port": 2}]}) == [
        ("required", "spec.ports[0].name"),
        ("required", "spec.ports[1].name"),
    ]
    (twice,) = load_one(
        resource("Service") | {"spec": {"ports": [{"port": 1, "name": "http"}, {"port": 2, "name": "http"}]}}
    ).diagnostics
    assert (twice.is_error, twice.code, twice.path) == (False, "duplicate-value", "spec.ports[1].name")
    assert errors("Service", {"type": "ExternalName"}) == [("required", "spec.externalName")]


def test_what_a_service_says_to_load_balancers_alone() -> None:
    spec = {
        "ports": [{"port": 80}],
        "sessionAffinity": "ClientIP",
        "loadBalancerSourceRanges": ["10.0.0.0/8"],
    }
    found = load_one(resource("Service") | {"spec": spec}).diagnostics
    assert [(one.is_error, one.code, one.path) for one in found] == [
        (False, "no-effect", "spec.sessionAffinity"),
        (False, "no-effect", "spec.loadBalancerSourceRanges"),
    ]


def test_endpoint_slice() -> None:
    document = resource("EndpointSlice", labels={"kubernetes.io/service-name": "a"}) | {
        "addressType": "IPv4",
        "endpoints": [
            {"addresses": ["10.0.0.1"], "conditions": {"ready": True}, "targetRef": {"kind": "Pod", "name": "p"}}
        ],
        "ports": [{"name": "http", "port": 80}],
    }
    (found,) = load_one(document).config.endpoint_slices
    assert found.spec.endpoints[0].addresses == ("10.0.0.1",)
    document["endpoints"][0]["addresses"] = ["x"]
    assert [error.path for error in errors_of(load_one(document))] == ["endpoints[0].addresses[0]"]


def test_namespaces_have_no_namespace() -> None:
    (found,) = load_one(resource("Namespace", labels={"istio-injection": "enabled"})).config.namespaces
    assert (found.namespace, found.name) == ("", "a")


def test_secrets_do_not_show() -> None:
    document = resource("Secret") | {
        "type": "kubernetes.io/tls",
        "data": {"a": "aGVs\nbG8="},
        "stringData": {"b": "secret"},
    }
    (found,) = load_one(document).config.secrets
    assert found.spec.value("a") == b"hello"
    assert found.spec.value("b") == b"secret"
    assert found.spec.value("c") is None
    assert "hello" not in repr(found)
    assert "secret" not in repr(found.spec.string_data)
    assert found.spec.data["a"] == Redacted(b"hello")


@pytest.mark.parametrize("content", [{"data": {"a": "geheim!"}}, {"data": "geheim"}, {"stringData": {"a": ["geheim"]}}])
def test_mistakes_in_secrets_do_not_show_them(content: dict[str, Any]) -> None:
    (error,) = errors_of(load_one(resource("Secret") | content))
    assert "geheim" not in str(error.to_json())


def test_deployment() -> None:
    spec = {
        "replicas": 2,
        "selector": {"matchLabels": {"app": "a"}},
        "template": {
            "metadata": {"labels": {"app": "a", "version": "v1"}},
            "spec": {
                "serviceAccountName": "sa",
                "containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 9080}], "resources": {"x": 1}}],
            },
        },
    }
    found = spec_of("Deployment", spec, "deployments")
    assert (found.service_account, found.template.spec.containers[0].ports[0].container_port) == ("sa", 9080)
    assert spec_of("Deployment", {}, "deployments").service_account == "default"


@pytest.mark.parametrize(
    ("version", "kind", "code", "severity", "hint"),
    [
        ("networking.istio.io/v1", "VirtualServce", "unknown-kind", "error", "VirtualService"),
        ("gateway.networking.k8s.io/v1", "GRPCRoute", "unsupported-kind", "error", ""),
        ("networking.istio.oi/v1", "Gateway", "unknown-group", "error", "networking.istio.io"),
        ("v1", "Servce", "unknown-kind", "error", "Service"),
        ("networking.istio.io/v2", "Gateway", "unknown-version", "error", ""),
        ("v1", "PersistentVolume", "ignored-kind", "info", ""),
        ("rbac.authorization.k8s.io/v1", "Role", "ignored-kind", "info", ""),
        ("serving.knative.dev/v1", "Service", "ignored-kind", "info", ""),
        ("apps/v1", "StatefulSet", "ignored-kind", "warning", ""),
    ],
)
def test_kinds_that_are_not_read(version: str, kind: str, code: str, severity: str, hint: str) -> None:
    document = {"apiVersion": version, "kind": kind, "metadata": {"name": "a", "namespace": "b"}}
    (found,) = load_one(document).diagnostics
    assert (found.code, found.severity, found.kind, found.namespace, found.name) == (code, severity, kind, "b", "a")
    assert hint in found.hint
    assert found.position.line == (1 if code in ("unknown-group", "unknown-version") else 2)


def test_a_misspelt_field_has_a_hint_and_a_place() -> None:
    text = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: a}\nspec:\n  server: []\n"
    (found, *_) = errors_of(load_one(text))
    assert (found.message, found.hint) == ('unknown field "server"', "did you mean servers?")
    assert (found.position.file, found.position.line, found.position.column) == ("a.yaml", 5, 3)
