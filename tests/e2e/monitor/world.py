"""A mesh with something to protect, somebody who attacks it from inside, and a door to the world.

`web` is asked; `mallory` runs whatever program a test gives it, confined and captured like every workload; the gateway
`door` lets everybody in to both, and has a certificate of its own. Invariant: a test that changes the mesh undoes it.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gossamer.rpc.local import call
from tests.compile.certificates import Issuer, Pair
from tests.e2e.hosts import AgentHost, Plane
from tests.e2e.meshes import STRICT, Place, Reply, free_port, get, place, until
from tests.e2e.monitor.raw import post
from tests.e2e.users import User

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
DOOR, WEB, MALLORY = "edge/door", "default/web-1", "evil/mallory-1"
PROXIES = 3
CONFIG = """\
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.99.0.7, selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: mallory, namespace: evil}
spec: {selector: {app: mallory}, ports: [{name: found-out, port: 80, targetPort: 8080}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: door, namespace: edge}
spec:
  selector: {istio: ingressgateway}
  servers:
    - {port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}
    - {port: {number: 443, name: https, protocol: HTTPS}, hosts: ["*"], tls: {mode: SIMPLE, credentialName: door}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web}
spec: {hosts: [web.test], gateways: [edge/door], http: [{route: [{destination: {host: web}}]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: mallory, namespace: evil}
spec: {hosts: [mallory.test], gateways: [edge/door], http: [{route: [{destination: {host: mallory}}]}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: known}
spec:
  selector: {matchLabels: {app: web}}
  rules: [{from: [{source: {principals: [cluster.local/ns/edge/sa/door, cluster.local/ns/evil/sa/mallory]}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-admin, namespace: istio-system}
spec:
  action: DENY
  rules: [{to: [{operation: {paths: [/admin, /admin/*]}}]}]
"""


@dataclass(slots=True, kw_only=True)
class World:
    """The mesh. `ports`: those of the gateway (80, 443) on this host."""

    place: Place
    plane: Plane
    agent: AgentHost
    ports: dict[int, int]
    credential: Pair
    mesh_config: Path
    started: list[str] = field(default_factory=list)

    def get(self, path: str, headers: Mapping[str, str] | None = None, *, host: str = "web.test") -> Reply:
        """`GET path`, as anybody outside."""
        return get(self.ports[80], path, {"host": host, **(headers or {})})

    def mallory(self, code: str, **values: Any) -> str:
        """What a Python program of mallory prints; `values` are its variables."""
        lines = "".join(f"{name} = {value!r}\n" for name, value in values.items())
        reply = post(self.ports[80], "mallory.test", "/-/run", (lines + code).encode(), timeout_s=60)
        assert reply.status == 200, reply
        return str(json.loads(reply.body)["said"])

    def seen(self) -> list[str]:
        """What has reached the application of web so far."""
        return list(json.loads(self.get("/-/seen").body)["seen"])

    def snapshot(self) -> dict[str, Any]:
        return dict(call(self.place.socket("control-plane"), "GET", "/v1/snapshot").json())

    def configure(self, change: Callable[[], object]) -> None:
        """Change configuration, and wait until every proxy has it."""
        before = self.place.status("control-plane")["generation"]
        change()
        until(
            lambda: self.place.status("control-plane").get("generation", 0) > before and self.place.synced(PROXIES),
            "every proxy has it",
            20,
        )


def mesh_file(ports: Mapping[int, int]) -> str:
    """The gossamer.yaml of the mesh."""
    path = os.pathsep.join((str(ROOT / "src"), str(ROOT)))
    workloads = "".join(
        f"""\
  - name: {app}-1
    namespace: {namespace}
    serviceAccount: {app}
    labels: {{app: {app}}}
    ports: [8080]
    command: ["${{PYTHON}}", -m, tests.e2e.monitor.app]
    env: {{PYTHONPATH: "{path}", PYTHONDONTWRITEBYTECODE: "1"}}
    health: {{path: /, port: 8080}}
"""
        for app, namespace in (("web", "default"), ("mallory", "evil"))
    )
    listed = ", ".join(f"{{name: p{port}, port: {port}, targetPort: {bound}}}" for port, bound in ports.items())
    gateway = f"""\
  - name: door
    namespace: edge
    serviceAccount: door
    labels: {{istio: ingressgateway}}
    address: 127.0.0.1
    ports: [{listed}]
    readinessPort: 0
"""
    return f"version: 1\nconfig: [config]\ngateways:\n{gateway}workloads:\n{workloads}"


def own_address() -> str:
    """An address of this host that is not on loopback, if it has one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


@contextmanager
def running(user: User | None = None, *options: str) -> Iterator[World]:
    """The mesh, of this user, captured as `options` of the agent say."""
    with place(user) as found:
        ports = {80: free_port(), 443: free_port()}
        config = found.folder("mesh") / "config"
        config.mkdir()
        credential = Issuer("door").issue("web.test")
        (config / "all.yaml").write_text(f"{CONFIG}---\n{STRICT}---\n{credential.secret('door', 'edge')}")
        (found.mesh / "gossamer.yaml").write_text(mesh_file(ports))
        settings = found.mesh / "mesh.yaml"
        settings.write_text("accessLogFile: /dev/stdout\n")
        found.user.give(found.mesh)
        plane = Plane(place=found, options=(f"--mesh-config={settings}",))
        plane.start()
        until(lambda: found.status("control-plane").get("ready"), "the control plane is ready")
        words = (f"--address={own_address()}", *options)
        agent = AgentHost(place=found, plane=plane, token=plane.token("one", "*/*"), options=words)
        agent.start()
        until(lambda: found.ready() and found.synced(PROXIES), "the mesh is ready")
        yield World(place=found, plane=plane, agent=agent, ports=ports, credential=credential, mesh_config=settings)
