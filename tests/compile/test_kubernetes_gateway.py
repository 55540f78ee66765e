"""Gateways of the Kubernetes Gateway API and the HTTPRoutes attached to them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gossamer.api.load import SourceFile, load
from gossamer.compile.static import Stub
from gossamer.core.diagnostics import Severity
from gossamer.core.frozen import FrozenMap
from gossamer.core.resources import LISTENER, SECRET
from gossamer.model.proxy import Proxy
from gossamer.simulate.outcome import Outcome
from gossamer.simulate.request import Address, Arrival, HttpRequest, Request, Tls
from gossamer.simulate.simulator import Simulator
from tests.compile.compiled import GATEWAY, Compiled, compiled, service, workload
from tests.compile.test_gateway import secret
from tests.compile.validated import validated

API = "gateway.networking.k8s.io"
RUNS_IT = replace(GATEWAY, namespace="default", labels=FrozenMap({f"{API}/gateway-name": "gw"}))


def document(kind: str, name: str, spec: str, *, namespace: str = "default", metadata: str = "") -> str:
    return f"""
apiVersion: {API}/v1
kind: {kind}
metadata: {{name: {name}, namespace: {namespace}{metadata}}}
spec:
{spec}
"""


def gateway(*listeners: str, class_name: str = "istio", more: str = "", metadata: str = "") -> str:
    spec = f"  gatewayClassName: {class_name}\n{more}  listeners: [{', '.join(listeners)}]"
    return document("Gateway", "gw", spec, metadata=metadata)


def listener(port: int = 80, more: str = "", *, name: str = "web", allowed: str = "from: Same") -> str:
    allows = f"allowedRoutes: {{namespaces: {{{allowed}}}}}"
    return f"{{name: {name}, port: {port}, protocol: {'HTTPS' if port == 443 else 'HTTP'}, {allows}{more}}}"


def route(
    name: str,
    to: str,
    *,
    hosts: str = "",
    path: str = "",
    namespace: str = "default",
    parent: str = "name: gw, namespace: default",
    created: str = "",
) -> str:
    named = f"  hostnames: [{hosts}]\n" if hosts else ""
    matches = f"matches: [{{path: {{type: PathPrefix, value: {path}}}}}], " if path else ""
    spec = f"  parentRefs: [{{{parent}}}]\n{named}  rules: [{{{matches}backendRefs: [{{name: {to}, port: 80}}]}}]"
    when = f', creationTimestamp: "{created}"' if created else ""
    return document("HTTPRoute", name, spec, namespace=namespace, metadata=when)


def asked(found: Compiled, host: str = "a.com", path: str = "/", *, port: int = 80, tls: Tls | None = None) -> Outcome:
    request = Request(
        arrival=Arrival.DIRECT,
        destination=Address(ip="2.2.2.2", port=port),
        http=HttpRequest(authority=host, path=path),
        tls=tls,
    )
    return Simulator(found.resources).simulate(request)


def to(found: Compiled, host: str = "a.com", path: str = "/") -> str:
    return asked(found, host, path).cluster.rpartition("|")[2].removesuffix(".svc.cluster.local")


def at_gateway(*documents: str, proxy: Proxy = RUNS_IT) -> Compiled:
    return compiled(*documents, proxy=proxy)


def test_who_runs_it() -> None:
    documents = (gateway(listener()), route("r", "web"))
    assert to(at_gateway(*documents)) == "web.default"
    for other in (
        replace(RUNS_IT, namespace="elsewhere"),
        replace(RUNS_IT, labels=FrozenMap({f"{API}/gateway-name": "other"})),
        GATEWAY,
    ):
        assert at_gateway(*documents, proxy=other).names(LISTENER) == []


def test_who_runs_it_by_the_service_that_it_names() -> None:
    named = gateway(listener(), more="  addresses: [{type: Hostname, value: edge}]\n")
    edge = workload("edge-1", app="edge", address="2.2.2.2")
    proxy = replace(GATEWAY, name="edge-1", namespace="default", labels=edge.labels)
    found = compiled(
        named,
        route("r", "web"),
        service("edge", "{name: http, port: 80, targetPort: 8080}"),
        proxy=proxy,
        registrations=(edge,),
    )
    assert found.names(LISTENER) == ["0.0.0.0_8080"]


@pytest.mark.parametrize(
    ("name", "controller", "ours"),
    [
        ("istio", "", True),
        ("gossamer", "", True),
        ("nginx", "", False),
        ("mine", "istio.io/gateway-controller", True),
        ("mine", "example.com/other", False),
        ("istio", "example.com/other", False),
    ],
)
def test_whose_class_it_is_of(name: str, controller: str, ours: bool) -> None:
    declared = document("GatewayClass", name, f"  controllerName: {controller}").replace(", namespace: default", "")
    found = at_gateway(gateway(listener(), class_name=name), *((declared,) if controller else ()))
    assert bool(found.names(LISTENER)) == ours


LABELLED = "apiVersion: v1\nkind: Namespace\nmetadata: {name: friend, labels: {team: web}}\n"


@pytest.mark.parametrize(
    ("allowed", "yes", "no"),
    [
        ("from: Same", ["default"], ["friend", "other"]),
        ("from: All", ["default", "friend", "other"], []),
        ("from: None", [], ["default", "friend"]),
        ("from: Selector, selector: {matchLabels: {team: web}}", ["friend"], ["default", "other"]),
        (
            "from: Selector, selector: {matchLabels: {kubernetes.io/metadata.name: other}}",
            ["other"],
            ["default", "friend"],
        ),
        (
            "from: Selector, selector: {matchExpressions: [{key: team, operator: DoesNotExist}]}",
            ["default", "other"],
            ["friend"],
        ),
        (
            "from: Selector, selector: {matchExpressions: [{key: team, operator: In, values: [web]}]}",
            ["friend"],
            ["default"],
        ),
    ],
)
def test_whose_routes_it_takes(allowed: str, yes: list[str], no: list[str]) -> None:
    def leads(namespace: str) -> str:
        return to(at_gateway(gateway(listener(allowed=allowed)), LABELLED, route("r", "web", namespace=namespace)))

    assert [namespace for namespace in yes if leads(namespace) != f"web.{namespace}"] == []
    assert [namespace for namespace in no if leads(namespace)] == []


def test_a_route_is_attached_to_what_its_parent_names() -> None:
    two = gateway(listener(name="one"), listener(81, name="two"))
    for parent, ports in (
        ("name: gw", [80, 81]),
        ("name: gw, sectionName: two", [81]),
        ("name: gw, port: 80", [80]),
        ("name: gw, sectionName: none", []),
        ("name: other", []),
    ):
        found = at_gateway(two, route("r", "web", parent=parent))
        assert [port for port in (80, 81) if asked(found, port=port).cluster] == ports, parent


def test_hosts_are_what_listener_and_route_agree_on() -> None:
    found = at_gateway(
        gateway(listener(more=", hostname: '*.a.com'")),
        route("exact", "exact", hosts="x.a.com, b.com"),
        route("wide", "wide", hosts="'*.a.com'"),
    )
    assert (to(found, "x.a.com"), to(found, "y.a.com"), to(found, "b.com")) == ("exact.default", "wide.default", "")
    assert to(at_gateway(gateway(listener(more=", hostname: a.com")), route("r", "web")), "b.com") == ""


def test_of_several_routes_for_a_host_the_most_specific_match_decides_then_the_older() -> None:
    found = at_gateway(
        gateway(listener()),
        route("a", "young", path="/x", created="2021-01-01T00:00:00Z"),
        route("z", "old", path="/x", created="2020-01-01T00:00:00Z"),
        route("m", "long", path="/x/y", created="2022-01-01T00:00:00Z"),
    )
    assert [to(found, path=path) for path in ("/x", "/x/z", "/x/y", "/x/y/z", "/xy")] == [
        *("old.default", "old.default", "long.default", "long.default"),
        "",
    ]


def https(reference: str, options: str = "") -> str:
    more = f", options: {{gateway.istio.io/tls-terminate-mode: {options}}}" if options else ""
    return listener(443, f", hostname: a.com, tls: {{certificateRefs: [{reference}]{more}}}")


TLS = Tls(server_name="a.com", alpn=("http/1.1",))
GRANT = document(
    "ReferenceGrant",
    "grant",
    f"  from: [{{group: {API}, kind: Gateway, namespace: default}}]\n  to: [{{group: '', kind: Secret, name: cert}}]",
    namespace="vault",
).replace("/v1\n", "/v1beta1\n")


def test_certificates() -> None:
    own, theirs = (secret("cert", "tls.crt tls.key", namespace) for namespace in ("default", "vault"))
    found = at_gateway(gateway(https("{name: cert}")), route("r", "web"), own, theirs)
    assert found.names(SECRET) == ["kubernetes-gateway://default/cert"]
    assert asked(found, port=443, tls=TLS).cluster == "outbound|80||web.default.svc.cluster.local"

    theirs_wanted = gateway(https("{name: cert, namespace: vault}"))
    assert at_gateway(theirs_wanted, own, theirs).names(LISTENER) == []
    granted = at_gateway(theirs_wanted, GRANT, own, theirs)
    assert granted.names(SECRET) == ["kubernetes-gateway://vault/cert"]
    other = GRANT.replace("name: cert", "name: other")
    assert at_gateway(theirs_wanted, other, own, theirs).names(SECRET) == []


def test_mutual_tls_as_istio_has_one_ask_for_it() -> None:
    found = at_gateway(gateway(https("{name: cert}", "MUTUAL")), secret("cert", "tls.crt tls.key ca.crt", "default"))
    assert found.names(SECRET) == ["kubernetes-gateway://default/cert", "kubernetes-gateway://default/cert-cacert"]
    (chain,) = found.listener("0.0.0.0_443")["filter_chains"]
    assert chain["transport_socket"]["typed_config"]["require_client_certificate"] is True


def test_http3() -> None:
    noted = ', annotations: {gossamer.io/http3: "true"}'
    found = at_gateway(gateway(https("{name: cert}"), metadata=noted))
    assert found.names(LISTENER) == ["0.0.0.0_443", "udp_0.0.0.0_443"]


@pytest.mark.parametrize(
    ("listeners", "more", "severity", "code"),
    [
        ("{name: a, port: 1, protocol: TCP}", "", Severity.WARNING, "no-effect-yet"),
        (listener(), "  allowedListeners: {namespaces: {from: All}}\n", Severity.ERROR, "unsupported-field"),
        (listener(), "  addresses: [{value: 1.2.3.4}]\n", Severity.WARNING, "no-effect"),
        (https("{name: cert}", "SOMETIMES"), "", Severity.ERROR, "required"),
        (
            listener(443, ", tls: {certificateRefs: [{name: c}], options: {example.com/x: z}}"),
            "",
            Severity.ERROR,
            "unsupported-field",
        ),
        (https("{name: c, kind: ConfigMap}"), "", Severity.WARNING, "no-effect"),
    ],
)
def test_what_is_not_done_is_said(listeners: str, more: str, severity: Severity, code: str) -> None:
    found = load([SourceFile(name="a.yaml", text=gateway(listeners, more=more))]).diagnostics
    assert [(one.severity, one.code) for one in found] == [(severity, code)]


def test_upstream_bookinfo_behind_a_gateway(cases: Path) -> None:
    folder = cases / "bookinfo"
    documents = [path.read_text() for path in sorted((folder / "platform").rglob("*.yaml"))]
    documents.append((folder / "gateway-api" / "bookinfo-gateway.yaml").read_text())
    proxy = replace(RUNS_IT, labels=FrozenMap({f"{API}/gateway-name": "bookinfo-gateway"}))
    found = compiled(*documents, proxy=proxy)
    page = "productpage.default"
    for path in ("/productpage", "/static/x.css", "/login", "/api/v1/products/0/reviews"):
        assert to(found, "any.host", path) == page, path
    for path in ("/", "/productpage/x", "/statics"):
        assert asked(found, "any.host", path).status == 404, path


@pytest.mark.envoy
def test_envoy_takes_it(envoy: Path, stub: Stub, tmp_path: Path) -> None:
    for options in ("", "MUTUAL", "OPTIONAL_MUTUAL", "ISTIO_MUTUAL"):
        noted = ', annotations: {gossamer.io/http3: "true"}'
        documents = (gateway(listener(name="plain"), https("{name: cert}", options), metadata=noted), route("r", "web"))
        assert validated(envoy, at_gateway(*documents).resources, stub, tmp_path) == "", options
