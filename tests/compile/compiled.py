"""YAML to what one proxy is told, as tests read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gossamer.api.load import SourceFile, load
from gossamer.compile.compile import compile_proxy
from gossamer.compile.to_json import resource_to_json, resources_to_json
from gossamer.core.frozen import FrozenMap
from gossamer.core.memo import Memo
from gossamer.core.resources import CLUSTER, ENDPOINT, LISTENER, ROUTE, Resources
from gossamer.model.build_endpoints import Endpoints, build_endpoints
from gossamer.model.build_view import view_for
from gossamer.model.mesh import Mesh, build_mesh
from gossamer.model.proxy import Proxy, ProxyType
from gossamer.model.service import Workload
from gossamer.model.view import ProxyView

SIDECAR = Proxy(type=ProxyType.SIDECAR, namespace="default", name="app", addresses=("1.1.1.1",))
GATEWAY = Proxy(
    type=ProxyType.ROUTER,
    namespace="istio-system",
    name="gateway",
    addresses=("2.2.2.2",),
    labels=FrozenMap({"istio": "ingressgateway"}),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A mesh and its endpoints."""

    mesh: Mesh
    endpoints: Endpoints


def build(
    *documents: str, registrations: tuple[Workload, ...] = (), mesh_config: str = "", memo: Memo | None = None
) -> Built:
    """What these documents mean; they have to be free of errors."""
    memo = memo or Memo()
    files = [SourceFile(name=f"{place}.yaml", text=text) for place, text in enumerate(documents)]
    settings = SourceFile(name="mesh.yaml", text=mesh_config) if mesh_config else None
    loaded = load(files, mesh_config=settings, memo=memo)
    errors = [diagnostic for diagnostic in loaded.diagnostics if diagnostic.is_error]
    assert not errors, errors
    mesh = build_mesh(loaded.config, memo)
    return Built(mesh=mesh, endpoints=build_endpoints(loaded.config, registrations, mesh, memo))


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """One proxy's view and resources; the latter also as JSON by name."""

    view: ProxyView
    resources: Resources

    def names(self, type_url: str) -> list[str]:
        return sorted(resource.name for resource in self.resources.all_of(type_url))

    def one(self, type_url: str, name: str) -> dict[str, Any]:
        found = self.resources.get(type_url, name)
        assert found is not None, f"no {name} among {self.names(type_url)}"
        return resource_to_json(found)

    def cluster(self, name: str) -> dict[str, Any]:
        return self.one(CLUSTER, name)

    def listener(self, name: str) -> dict[str, Any]:
        return self.one(LISTENER, name)

    def assignment(self, name: str) -> dict[str, Any]:
        return self.one(ENDPOINT, name)

    def table(self, name: str) -> dict[str, Any]:
        return self.one(ROUTE, name)

    def host(self, table: str, domain: str) -> dict[str, Any]:
        """The virtual host with this domain."""
        hosts: list[dict[str, Any]] = self.table(table)["virtual_hosts"]
        found = [host for host in hosts if domain in host["domains"]]
        assert len(found) == 1, [host["domains"] for host in hosts]
        return found[0]

    def json(self) -> dict[str, list[dict[str, Any]]]:
        return resources_to_json(self.resources)


def compiled(
    *documents: str,
    proxy: Proxy = SIDECAR,
    registrations: tuple[Workload, ...] = (),
    mesh_config: str = "",
    memo: Memo | None = None,
) -> Compiled:
    """What `proxy` is told by these documents and registered workloads."""
    memo = memo or Memo()
    built = build(*documents, registrations=registrations, mesh_config=mesh_config, memo=memo)
    view = view_for(built.mesh, built.endpoints, proxy, memo)
    return Compiled(view=view, resources=compile_proxy(view, memo))


def service(name: str, ports: str = "{name: http, port: 80}", *, namespace: str = "default", extra: str = "") -> str:
    """A Kubernetes Service of app NAME."""
    return f"""
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  selector: {{app: {name}}}
  ports: [{ports}]
  {extra}
"""


def istio(kind: str, name: str, spec: str, *, namespace: str = "default", metadata: str = "") -> str:
    """A resource of Istio's; `spec` in flow or block style, indented by two."""
    group = {"PeerAuthentication": "security", "AuthorizationPolicy": "security"}.get(kind, "networking")
    return f"""
apiVersion: {group}.istio.io/v1
kind: {kind}
metadata: {{name: {name}, namespace: {namespace}{metadata}}}
spec:
{spec}
"""


def workload(
    name: str, *, app: str = "", version: str = "v1", namespace: str = "default", address: str = ""
) -> Workload:
    """A registered workload with a sidecar."""
    return Workload(
        name=name,
        namespace=namespace,
        service_account=app or name,
        labels=FrozenMap({"app": app or name, "version": version}),
        address=address or "10.1.0.1",
        tls=True,
    )
