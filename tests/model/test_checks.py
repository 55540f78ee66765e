"""What resources about gateways, Sidecars, Secrets and selectors say of one another."""

from __future__ import annotations

import base64

from gossamer.api.load import SourceFile, load
from gossamer.api.source_index import placed
from gossamer.core.diagnostics import Diagnostic
from gossamer.core.frozen import FrozenMap
from gossamer.core.memo import Memo
from gossamer.model.checks import check_resources
from gossamer.model.service import Workload
from tests.compile.compiled import istio


def found(*documents: str, running: tuple[Workload, ...] = ()) -> list[Diagnostic]:
    loaded = load([SourceFile(name=f"{place}.yaml", text=text) for place, text in enumerate(documents)])
    assert not loaded.has_errors, loaded.diagnostics
    said = placed(check_resources(loaded.config, Memo(), running), loaded.index)
    assert all(one.position.line for one in said)
    return list(said)


def said(*documents: str, running: tuple[Workload, ...] = ()) -> list[tuple[str, str, str]]:
    return [(one.code, f"{one.namespace}/{one.name}", one.path) for one in found(*documents, running=running)]


def gateway(name: str, *servers: str, year: int = 2020, selector: str = "istio: gw", namespace: str = "default") -> str:
    spec = f"  selector: {{{selector}}}\n  servers:\n" + "".join(f"  - {server}\n" for server in servers)
    created = f', creationTimestamp: "{year}-01-01T00:00:00Z"'
    return istio("Gateway", name, spec, namespace=namespace, metadata=created)


def server(number: int, protocol: str, hosts: str, more: str = "", name: str = "a") -> str:
    return f"{{port: {{number: {number}, protocol: {protocol}, name: {name}}}, hosts: [{hosts}]{more}}}"


FILES = ", tls: {mode: SIMPLE, serverCertificate: /c, privateKey: /k}"
PASSED = ", tls: {mode: PASSTHROUGH}"


def test_plain_servers_of_different_protocols_on_one_port() -> None:
    older, younger = server(80, "HTTP", "'*'"), server(80, "TCP", "'*'")
    assert said(gateway("z", older), gateway("a", younger, year=2021)) == [
        ("gateway-conflict", "default/a", "spec.servers[0].port")
    ]
    assert said(gateway("z", younger, year=2021), gateway("a", older, year=2022)) == [
        ("gateway-conflict", "default/a", "spec.servers[0].port")
    ], "the older one is served, whatever it speaks"


def test_plain_http_is_told_apart_by_its_requests() -> None:
    http = server(80, "HTTP", "a.example")
    assert said(gateway("z", http), gateway("a", http, year=2021)) == []


def test_tls_for_one_host_ends_once() -> None:
    one, other = (
        server(443, "HTTPS", "a.example, b.example", FILES),
        server(443, "HTTPS", "c.example, b.example", FILES),
    )
    assert said(gateway("z", one), gateway("a", other, year=2021)) == [
        ("gateway-conflict", "default/a", "spec.servers[0].hosts[1]")
    ]
    passed = server(443, "TLS", "b.example", PASSED)
    assert said(gateway("z", one), gateway("a", passed, year=2021)) == [
        ("gateway-conflict", "default/a", "spec.servers[0].hosts[0]")
    ]
    assert said(gateway("z", passed), gateway("a", passed, year=2021)) == [], "TLS routes tell them apart"


def test_servers_of_one_gateway_conflict_too() -> None:
    one, other = server(443, "HTTPS", "a.example", FILES), server(443, "HTTPS", "a.example", FILES, name="b")
    assert said(gateway("g", one, other)) == [("gateway-conflict", "default/g", "spec.servers[1].hosts[0]")]


def test_other_proxies_ports_and_addresses_do_not_conflict() -> None:
    http, tcp = server(80, "HTTP", "'*'"), server(80, "TCP", "'*'")
    assert said(gateway("z", http), gateway("a", tcp, selector="istio: other")) == []
    assert said(gateway("z", http), gateway("a", server(81, "TCP", "'*'"))) == []
    assert said(gateway("z", http), gateway("a", server(80, "TCP", "'*'", ", bind: 127.0.0.1"))) == []
    wide = gateway("z", http, selector="istio: gw, app: edge")
    assert [code for code, *_ in said(wide, gateway("a", tcp, year=2021))] == ["gateway-conflict"], "a wider selector"


def test_one_certificate_in_two_servers() -> None:
    tls = ", tls: {mode: SIMPLE, credentialName: wild}"
    one, other = server(443, "HTTPS", "a.example", tls), server(443, "HTTPS", "b.example", tls)
    assert said(gateway("z", one), gateway("a", other, year=2021), secret("wild", *PAIR)) == [
        ("shared-certificate", "default/a", "spec.servers[0].tls")
    ]


def virtual_service(hosts: str, gateways: str, match: str = "") -> str:
    rule = f"{{{match}route: [{{destination: {{host: b}}}}]}}"
    return istio("VirtualService", "v", f"  hosts: [{hosts}]\n  gateways: [{gateways}]\n  http: [{rule}]\n")


def test_a_gateway_that_is_not_there() -> None:
    here = gateway("g", server(80, "HTTP", "'*'"), namespace="edge")
    (one,) = found(virtual_service("a.example", "g"), here)
    assert (one.code, one.path) == ("unknown-gateway", "spec.gateways[0]")
    assert one.hint == "did you mean edge/g?"
    assert said(virtual_service("a.example", "mesh, edge/g"), here) == []
    matched = virtual_service("a.example", "edge/g", "match: [{gateways: [other]}], ")
    assert said(matched, here) == [("unknown-gateway", "default/v", "spec.http[0].match[0].gateways[0]")]


def test_a_host_that_no_server_is_for() -> None:
    here = gateway("g", server(80, "HTTP", "'*.example', ./own.test, other/b.test"))
    expected = [("host-not-at-gateway", "default/v", "spec.hosts[0]")]
    assert said(virtual_service("a.test", "g"), here) == expected
    assert said(virtual_service("b.test", "g"), here) == expected, "for VirtualServices of another namespace"
    assert said(virtual_service("a.example, own.test", "g"), here) == []
    assert said(virtual_service("a.test", "g, mesh"), here) == [], "the mesh has it"
    tcp = gateway("g", server(80, "HTTP", "'*.example'"), server(81, "TCP", "'*'", name="b"))
    assert said(virtual_service("a.test", "g"), tcp) == expected, "a server of TCP has no use for HTTP rules"


def sidecar(name: str, selector: str = "", year: int = 2020, namespace: str = "default") -> str:
    spec = (f"  workloadSelector: {{labels: {{{selector}}}}}\n" if selector else "") + "  egress: [{hosts: [./*]}]\n"
    return istio("Sidecar", name, spec, namespace=namespace, metadata=f', creationTimestamp: "{year}-01-01T00:00:00Z"')


def deployment(labels: str) -> str:
    return (
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d, namespace: default}\nspec:\n"
        f"  selector: {{matchLabels: {{{labels}}}}}\n"
        f"  template: {{metadata: {{labels: {{{labels}}}}}, spec: {{containers: []}}}}\n"
    )


def test_several_sidecars_for_a_workload() -> None:
    assert said(sidecar("z"), sidecar("a", year=2021)) == [("sidecar-conflict", "default/a", "spec")]
    assert said(sidecar("z"), sidecar("a", namespace="other")) == []
    assert said(sidecar("z", "app: a"), sidecar("a", "app: a", 2021)) == [
        ("sidecar-conflict", "default/a", "spec.workloadSelector")
    ]
    by_app, by_version = sidecar("z", "app: a"), sidecar("a", "version: v1", 2021)
    assert said(sidecar("all"), by_app) == [], "a default and one of its own"
    assert said(by_app, by_version) == [], "nobody is known whom both select"
    assert said(by_app, by_version, deployment("app: a, version: v1")) == [
        ("sidecar-conflict", "default/a", "spec.workloadSelector")
    ]


def egress_proxy(host: str, hosts: str) -> str:
    policy = f"  outboundTrafficPolicy: {{mode: ALLOW_ANY, egressProxy: {{host: {host}, port: {{number: 443}}}}}}\n"
    return istio("Sidecar", "s", policy + (f"  egress: [{{hosts: [{hosts}]}}]\n" if hosts else ""))


def test_an_egress_proxy_that_is_not_let_in() -> None:
    expected = [("egress-proxy-not-seen", "default/s", "spec.outboundTrafficPolicy.egressProxy.host")]
    assert said(egress_proxy("gw.edge.svc.cluster.local", "./*")) == expected
    assert said(egress_proxy("gw.edge.svc.cluster.local", "./*, edge/*")) == []
    assert said(egress_proxy("gw", "./*")) == []
    assert said(egress_proxy("gw.example", "other/gw.example")) == []
    assert said(egress_proxy("gw.example", "~/*")) == expected
    assert said(egress_proxy("gw.edge.svc.cluster.local", "")) == [], "all is seen"


PAIR, CA = ("tls.crt", "tls.key"), ("ca.crt",)


def secret(name: str, *keys: str, namespace: str = "default") -> str:
    value = base64.b64encode(b"x").decode()
    data = "".join(f"  {key}: {value}\n" for key in keys)
    return f"apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {namespace}}}\ndata:\n{data}"


def terminating(mode: str, more: str = "credentialName: c") -> str:
    return gateway("g", server(443, "HTTPS", "a.example", f", tls: {{mode: {mode}, {more}}}"))


def test_secrets_of_gateways() -> None:
    path = "spec.servers[0].tls.credentialName"
    assert said(terminating("SIMPLE")) == [("unknown-secret", "default/g", path)]
    assert said(terminating("SIMPLE"), secret("c", *PAIR, namespace="edge")) == []
    assert said(terminating("SIMPLE"), secret("c", "cert", "key")) == []
    assert said(terminating("SIMPLE"), secret("c", "tls.crt")) == [("unknown-secret", "default/g", path)]
    for mode in ("MUTUAL", "OPTIONAL_MUTUAL"):
        assert said(terminating(mode), secret("c", *PAIR)) == [("unknown-secret", "default/g", path)], "no CA"
        assert said(terminating(mode), secret("c", *PAIR, *CA)) == []
        assert said(terminating(mode), secret("c", *PAIR), secret("c-cacert", "cacert")) == []
        assert said(terminating(mode, "credentialName: c, caCertCredentialName: other"), secret("c", *PAIR)) == [
            ("unknown-secret", "default/g", "spec.servers[0].tls.caCertCredentialName")
        ]


def test_secrets_where_the_proxies_are() -> None:
    edge = Workload(name="gw", namespace="edge", labels=FrozenMap({"istio": "gw"}), router=True)
    (one,) = found(terminating("SIMPLE"), secret("c", *PAIR), running=(edge,))
    assert one.code == "unknown-secret"
    assert "namespace edge" in one.message
    assert said(terminating("SIMPLE"), secret("c", *PAIR, namespace="edge"), running=(edge,)) == []


def origination(mode: str, selector: str = "") -> str:
    spec = f"  host: a.example\n{selector}  trafficPolicy: {{tls: {{mode: {mode}, credentialName: c}}}}\n"
    return istio("DestinationRule", "d", spec)


def test_secrets_of_destination_rules() -> None:
    path = "spec.trafficPolicy.tls.credentialName"
    gateways = ("credential-at-gateways", "default/d", path)
    assert said(origination("SIMPLE")) == [gateways, ("unknown-secret", "default/d", path)]
    assert said(origination("SIMPLE"), secret("c", "cacert", namespace="edge")) == [gateways]
    assert said(origination("MUTUAL"), secret("c", *CA)) == [gateways, ("unknown-secret", "default/d", path)]
    selected = origination("MUTUAL", "  workloadSelector: {matchLabels: {app: a}}\n")
    assert said(selected, secret("c", *PAIR, *CA)) == []
    assert said(selected, secret("c", *PAIR, *CA, namespace="edge")) == [("unknown-secret", "default/d", path)]


def test_selectors_that_select_nobody() -> None:
    http = server(80, "HTTP", "'*'")
    gw = Workload(name="gw", namespace="edge", labels=FrozenMap({"istio": "gw"}), router=True)
    nobody = gateway("g", http, selector="istio: other")
    assert said(nobody) == [], "no gateway is known"
    assert said(nobody, running=(gw,)) == [("selects-nothing", "default/g", "spec.selector")]
    assert said(gateway("g", http), running=(gw,)) == []
    mine = sidecar("s", "app: b")
    assert said(mine) == []
    assert said(mine, deployment("app: a")) == [("selects-nothing", "default/s", "spec.workloadSelector")]
    policy = istio("AuthorizationPolicy", "p", "  selector: {matchLabels: {app: b}}\n")
    assert said(policy, deployment("app: a")) == [("selects-nothing", "default/p", "spec.selector")]
    assert said(policy, deployment("app: b")) == []
    edge = istio("AuthorizationPolicy", "p", "  selector: {matchLabels: {istio: gw}}\n")
    assert said(edge, deployment("app: a"), gateway("g", http)) == [], "gateways are no Deployments here"
