"""Meshes for properties to be tried on: any mix of services, routes, policies and gateways, and who runs in them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypothesis import strategies as st

from gossamer.core.frozen import FrozenMap
from gossamer.model.proxy import Capture, CaptureMode, Proxy
from gossamer.model.service import Workload
from tests.compile.compiled import GATEWAY, SIDECAR, istio, service, workload

NAMESPACES = ("default", "other", "istio-system")
APPS = ("a", "b", "c")
PORTS = (
    "{name: http, port: 80}",
    "{name: grpc, port: 80}",
    "{name: web, port: 80, targetPort: 8080}",
    "{name: tcp, port: 82}",
    "{name: tls, port: 443}",
    "{name: http, port: 80}, {name: tcp, port: 82}, {name: https, port: 443}",
)
HOSTS = ("a", "b.default.svc.cluster.local", "ext.com", "*.com", "*.cluster.local", "unknown.org")
NAMES = st.sampled_from(("one", "two", "three"))
HOST = st.sampled_from(HOSTS)
NAMESPACE = st.sampled_from(NAMESPACES)
EXPORT = st.sampled_from(("", "\n  exportTo: ['.']", "\n  exportTo: ['*']", "\n  exportTo: [default]"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """Documents, and the workloads that agents vouch for."""

    documents: tuple[str, ...]
    registrations: tuple[Workload, ...] = ()


@st.composite
def kubernetes_services(draw: st.DrawFn) -> str:
    extra = draw(st.sampled_from(("", "clusterIP: 10.0.0.1", "clusterIP: None")))
    return service(draw(st.sampled_from(APPS)), draw(st.sampled_from(PORTS)), namespace=draw(NAMESPACE), extra=extra)


@st.composite
def service_entries(draw: st.DrawFn) -> str:
    host = draw(st.sampled_from(("ext.com", "x.ext.com", "*.wild.com")))
    resolution = draw(st.sampled_from(("NONE", "STATIC", "DNS"))) if not host.startswith("*") else "NONE"
    port = draw(
        st.sampled_from(
            (
                "{number: 80, name: http, protocol: HTTP}",
                "{number: 443, name: tls, protocol: TLS}",
                "{number: 82, name: tcp, protocol: TCP}",
                "{number: 81, name: auto}",
            )
        )
    )
    address = draw(st.sampled_from(("", "\n  addresses: [10.0.0.1]", "\n  addresses: [10.9.0.0/16]")))
    if resolution == "DNS" and "/" in address:
        address = ""
    endpoints = "\n  endpoints: [{address: 1.1.1.1, serviceAccount: s}]" if resolution == "STATIC" else ""
    location = draw(st.sampled_from(("MESH_INTERNAL", "MESH_EXTERNAL")))
    spec = f"  hosts: ['{host}']\n  location: {location}\n  resolution: {resolution}\n  ports: [{port}]"
    spec += address + endpoints
    return istio("ServiceEntry", draw(NAMES), spec + draw(EXPORT), namespace=draw(NAMESPACE))


@st.composite
def virtual_services(draw: st.DrawFn) -> str:
    match = draw(
        st.sampled_from(
            (
                "",
                "match: [{uri: {prefix: /a}}], ",
                "match: [{sourceLabels: {app: a}}], ",
                "match: [{port: 80}], ",
                "match: [{gateways: [default/one]}, {headers: {h: {exact: v}}}], ",
            )
        )
    )
    action = draw(
        st.sampled_from(
            (
                "route: [{destination: {host: a}}]",
                "timeout: 1s, route: [{destination: {host: a, subset: v1}, weight: 1}, "
                "{destination: {host: ext.com}, weight: 2}]",
                "redirect: {uri: /x}",
                "directResponse: {status: 200}",
                "fault: {abort: {httpStatus: 500, percentage: {value: 1}}}, mirror: {host: b}, "
                "route: [{destination: {host: a}}]",
            )
        )
    )
    gateways = draw(st.sampled_from(("", "\n  gateways: [mesh, default/one]", "\n  gateways: [one]")))
    kind = draw(
        st.sampled_from(
            (
                f"http: [{{{match}{action}}}, {{route: [{{destination: {{host: b}}}}]}}]",
                "tcp: [{match: [{port: 82}], route: [{destination: {host: b}}]}]",
                "tls: [{match: [{sniHosts: [x.ext.com]}], route: [{destination: {host: a}}]}]",
            )
        )
    )
    host = "x.ext.com" if kind.startswith("tls") else draw(HOST)
    return istio(
        "VirtualService",
        draw(NAMES),
        f"  hosts: ['{host}']{gateways}\n  {kind}{draw(EXPORT)}",
        namespace=draw(NAMESPACE),
    )


@st.composite
def destination_rules(draw: st.DrawFn) -> str:
    policy = draw(
        st.sampled_from(
            (
                "loadBalancer: {simple: RANDOM}",
                "tls: {mode: DISABLE}",
                "tls: {mode: ISTIO_MUTUAL}",
                "tls: {mode: SIMPLE}",
                "loadBalancer: {consistentHash: {useSourceIp: true}}",
                "portLevelSettings: [{port: {number: 80}, connectionPool: {tcp: {maxConnections: 1}}}]",
            )
        )
    )
    spec = f"  host: '{draw(HOST)}'\n  trafficPolicy: {{{policy}}}\n  subsets: [{{name: v1, labels: {{version: v1}}}}]"
    return istio("DestinationRule", draw(NAMES), spec + draw(EXPORT), namespace=draw(NAMESPACE))


@st.composite
def gateways(draw: st.DrawFn) -> str:
    server = draw(
        st.sampled_from(
            (
                "{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}",
                "{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*.com', a.org], tls: {httpsRedirect: true}}",
                "{port: {number: 443, name: https, protocol: HTTPS}, hosts: [x.ext.com], "
                "tls: {mode: SIMPLE, credentialName: c}}",
                "{port: {number: 443, name: tls, protocol: TLS}, hosts: ['*'], tls: {mode: PASSTHROUGH}}",
                "{port: {number: 82, name: tcp, protocol: TCP}, hosts: ['*']}",
                "{port: {number: 443, name: auto, protocol: TLS}, hosts: ['*'], tls: {mode: AUTO_PASSTHROUGH}}",
                "{port: {number: 443, name: mesh, protocol: HTTPS}, hosts: ['*.com'], tls: {mode: ISTIO_MUTUAL}}",
                "{port: {number: 0, name: path, protocol: HTTP}, hosts: ['*'], bind: unix://@gossamer}",
                "{port: {number: 80, name: web, protocol: GRPC-WEB}, hosts: ['*'], name: web}",
            )
        )
    )
    spec = f"  selector: {{istio: ingressgateway}}\n  servers: [{server}]"
    noted = draw(st.sampled_from(("", ', annotations: {gossamer.io/http3: "true"}')))
    return istio("Gateway", draw(NAMES), spec, namespace=draw(NAMESPACE), metadata=noted)


@st.composite
def ingresses(draw: st.DrawFn) -> str:
    backend = f"{{service: {{name: {draw(st.sampled_from(APPS))}, port: {{number: 80}}}}}}"
    kind = draw(st.sampled_from(("Exact", "Prefix", "ImplementationSpecific")))
    path = f"{{path: {draw(st.sampled_from(('/', '/a')))}, pathType: {kind}, backend: {backend}}}"
    tls = draw(st.sampled_from(("", "  tls: [{hosts: [x.ext.com], secretName: c}]\n")))
    host = draw(st.sampled_from(("", "host: x.ext.com, ", "host: '*.com', ")))
    return f"""
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {draw(NAMES)}, namespace: {draw(NAMESPACE)}, annotations: {{kubernetes.io/ingress.class: istio}}}}
spec:
{tls}  rules: [{{{host}http: {{paths: [{path}]}}}}]
"""


@st.composite
def policies(draw: st.DrawFn) -> str:
    mode = draw(st.sampled_from(("STRICT", "PERMISSIVE", "DISABLE")))
    peer = istio("PeerAuthentication", draw(NAMES), f"  mtls: {{mode: {mode}}}", namespace=draw(NAMESPACE))
    allow = istio(
        "AuthorizationPolicy",
        draw(NAMES),
        f"  action: {draw(st.sampled_from(('ALLOW', 'DENY')))}\n  rules: [{{from: [{{source: {{namespaces: [x]}}}}]}}]",
        namespace=draw(NAMESPACE),
    )
    return draw(st.sampled_from((peer, allow)))


@st.composite
def sidecars(draw: st.DrawFn) -> str:
    egress = draw(
        st.sampled_from(
            (
                "[]",
                "[{hosts: [./*]}]",
                "[{hosts: ['*/*.com', default/a.default.svc.cluster.local]}]",
                "[{port: {number: 80, protocol: HTTP, name: h}, hosts: ['*/*']}, {hosts: [other/*]}]",
                "[{port: {number: 82, protocol: TCP, name: t}, bind: 127.0.0.1, captureMode: NONE, hosts: ['*/*']}]",
                "[{port: {number: 0, protocol: HTTP, name: u}, bind: 'unix:///u', hosts: ['*/*']}, {hosts: ['~/*']}]",
            )
        )
    )
    ingress = draw(
        st.sampled_from(
            (
                "[]",
                "[{port: {number: 80, protocol: HTTP, name: h}, defaultEndpoint: '127.0.0.1:8080'}]",
                "[{port: {number: 81, protocol: TCP, name: t}, captureMode: NONE, defaultEndpoint: 'unix:///app'}]",
            )
        )
    )
    policy = draw(
        st.sampled_from(
            (
                "\n  inboundConnectionPool: {tcp: {maxConnections: 9}}",
                "\n  outboundTrafficPolicy: {mode: REGISTRY_ONLY}",
                "\n  outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: a, port: {number: 80}}}",
            )
        )
    )
    selector = draw(st.sampled_from(("", "\n  workloadSelector: {labels: {app: a}}")))
    spec = f"  egress: {egress}\n  ingress: {ingress}{policy}{selector}"
    return istio("Sidecar", draw(NAMES), spec, namespace=draw(NAMESPACE))


def identity(document: str) -> tuple[str, str]:
    """What tells documents apart: kind, and name with namespace."""
    lines = document.strip().splitlines()
    return lines[1], lines[2].partition(", annotations:")[0].rstrip("}")


DOCUMENTS = st.one_of(
    kubernetes_services(),
    service_entries(),
    virtual_services(),
    destination_rules(),
    gateways(),
    policies(),
    sidecars(),
)
WORKLOADS = st.builds(
    lambda app, version, namespace, number: workload(
        f"{app}-{number}", app=app, version=version, namespace=namespace, address=f"10.1.{number}.1"
    ),
    st.sampled_from(APPS),
    st.sampled_from(("v1", "v2")),
    NAMESPACE,
    st.integers(1, 3),
)


@st.composite
def meshes(draw: st.DrawFn) -> Mesh:
    """Any mesh whose documents have names of their own."""
    documents = draw(st.lists(DOCUMENTS, min_size=1, max_size=12, unique_by=identity))
    members = draw(st.lists(WORKLOADS, max_size=4, unique_by=lambda member: (member.namespace, member.name)))
    return Mesh(documents=tuple(documents), registrations=tuple(members))


PROXIES: tuple[Proxy, ...] = (
    SIDECAR,
    replace(SIDECAR, namespace="other", labels=FrozenMap({"app": "a"}), capture=Capture(dns=True)),
    replace(SIDECAR, name="a-1", addresses=("10.1.1.1", "fd00::1")),
    replace(
        SIDECAR,
        name="b-1",
        capture=Capture(
            mode=CaptureMode.EXPLICIT,
            address="127.0.0.9",
            http_proxy_port=18080,
            outbound_ports=FrozenMap({"a.default.svc.cluster.local:80": 20001, "ext.com:443": 20002}),
        ),
    ),
    GATEWAY,
)
