"""Two meshes, each with a trust domain of its own, whose workloads call each other as far as policies let them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.e2e.meshes import STRICT, Place, free_port, get, place, until

SERVER = """\
version: 1
config: [config]
meshConfig: {trustDomain: b.test}
workloads:
  - name: details-v1
    serviceAccount: bookinfo-details
    labels: {app: details, version: v1}
    ports: [9080]
    command: ["${PYTHON}", -m, gossamer.demo.bookinfo, details]
    health: {path: /health, port: 9080}
"""
CLIENT = """\
version: 1
config: [config]
meshConfig: {trustDomain: a.test}
gateways:
  - name: ingress
    namespace: default
    serviceAccount: ingress
    labels: {istio: ingressgateway}
    address: 127.0.0.1
    ports: [{name: http, port: 80, targetPort: PORT}]
"""
SERVED = (
    f"{STRICT}---\n"
    + """\
apiVersion: v1
kind: Service
metadata: {name: details, namespace: default}
spec: {selector: {app: details}, ports: [{name: http, port: 9080}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: details, namespace: default}
spec: {rules: [{from: [{source: {principals: [PRINCIPAL]}}]}]}
"""
)
CALLED = """\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: door, namespace: default}
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: abroad, namespace: default}
spec:
  hosts: [details.b.test]
  ports: [{number: 9080, name: http, protocol: HTTP}]
  location: MESH_INTERNAL
  resolution: STATIC
  subjectAltNames: ["NAME"]
  endpoints: [{address: ADDRESS, ports: {http: ENDPOINT}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: abroad, namespace: default}
spec: {host: details.b.test, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: abroad, namespace: default}
spec: {hosts: ["*"], gateways: [door], http: [{route: [{destination: {host: details.b.test}}]}]}
"""
CALLER = "a.test/ns/default/sa/ingress"
CALLED_NAME = "spiffe://b.test/ns/default/sa/bookinfo-details"


def _write(mesh: Place, spec: str, config: str, anchors: dict[str, str]) -> None:
    """A mesh of this specification that trusts these domains, each by its roots."""
    document = yaml.safe_load(spec)
    document["meshConfig"]["caCertificates"] = [
        {"pem": pem, "trustDomains": [domain]} for domain, pem in anchors.items()
    ]
    folder = mesh.folder("mesh")
    (folder / "gossamer.yaml").write_text(yaml.safe_dump(document))
    (folder / "config").mkdir(exist_ok=True)
    _apply(folder, config)


def _apply(folder: Path, config: str) -> None:
    scratch = folder / "config.tmp"
    scratch.write_text(config)
    scratch.rename(folder / "config" / "all.yaml")


def _roots(mesh: Place, domain: str) -> str:
    """The roots of a mesh that has not run yet."""
    said = mesh.run("ca", "root", f"--state={mesh.state}", f"--trust-domain={domain}").said
    return said[: said.rindex("-----END CERTIFICATE-----")] + "-----END CERTIFICATE-----\n"


@pytest.mark.timeout(120)
def test_a_foreign_caller_is_let_in_as_who_it_is_and_no_further() -> None:
    with place() as ours, place() as theirs:
        port = free_port()
        mine, yours = _roots(ours, "a.test"), _roots(theirs, "b.test")
        _write(theirs, SERVER, SERVED.replace("PRINCIPAL", CALLER), {"a.test": mine})
        theirs.up("--listen=127.0.0.1:0", "--join-listen=127.0.0.1:0")
        until(theirs.ready, "the mesh that is called is ready")
        (row,) = [one for one in theirs.status("control-plane")["workloads"] if one["name"] == "details-v1"]
        called = CALLED.replace("ADDRESS", row["address"]).replace("ENDPOINT", str(row["ports"]["9080"]))
        _write(ours, CLIENT.replace("PORT", str(port)), called.replace("NAME", CALLED_NAME), {"b.test": yours})
        ours.up("--listen=127.0.0.1:0", "--join-listen=127.0.0.1:0")
        until(ours.ready, "the mesh that calls is ready")

        def answer() -> int:
            return get(port, "/details/0").status

        until(lambda: answer() == 200, "it is let in as who it is")
        _apply(theirs.mesh, SERVED.replace("PRINCIPAL", CALLER.replace("ingress", "other")))
        until(lambda: answer() == 403, "a policy that names another denies it")
        _apply(theirs.mesh, SERVED.replace("PRINCIPAL", CALLER))
        until(lambda: answer() == 200, "and lets it in again")
        _apply(ours.mesh, called.replace("NAME", CALLED_NAME.replace("b.test", "a.test")))
        until(lambda: answer() == 503, "whoever answers must be who it should")
