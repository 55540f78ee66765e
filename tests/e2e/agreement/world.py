"""One running mesh in which each case is tried, and the same files read for the simulator.

Invariant: a case is one file of configuration beside the base; nothing of a case is left when the next one begins.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gossamer.ca.stub import create_stub
from gossamer.cli.cast import Cast, build_cast
from gossamer.cli.inputs import load_inputs
from gossamer.cli.mesh_file import open_mesh
from gossamer.cli.running import build_running
from gossamer.core.memo import Memo
from gossamer.rpc.local import call
from tests.compile.certificates import Issuer
from tests.e2e.agreement.asking import ask
from tests.e2e.meshes import Place, free_port, place, until

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
GATEWAY = "istio-system/istio-ingressgateway"
CALLER = "default/caller"
NAMES = ("a-v1", "a-v2", "b-v1")
GATEWAY_PORTS = (80, 443, 31400)
EGRESS_PORTS = (80, 443, 15443)
PROXIES = len(NAMES) + 3
"""The sidecars of all workloads, the caller's among them, and two gateways."""


@dataclass(slots=True, kw_only=True)
class World:
    """The mesh under test. `ports`: where the gateway's ports are on this host; `outside`: the ports (HTTP, TCP, TLS)
    of a server that is not of the mesh."""

    place: Place
    ports: dict[int, int]
    outside: tuple[int, int, int]
    certificate: dict[str, str]
    """A key and a certificate, as a Secret holds them."""
    memo: Memo = field(default_factory=Memo)
    written: int = 0
    """How many configurations were written."""

    @property
    def _case(self) -> Path:
        return self.place.mesh / "config" / "case.yaml"

    def apply(self, text: str, *, broken: bool = False) -> Cast:
        """Write a case's configuration, and wait until every proxy has it. What the simulator makes of it.

        AssertionError if it has errors, or, where it is meant to be `broken`, none.
        """
        before = int(self.place.status("control-plane")["generation"])
        self.write(text)
        until(lambda: self._live(before), "the case is live", 20)
        return self._cast(broken=broken)

    def clear(self) -> None:
        """Take the case away."""
        before = int(self.place.status("control-plane")["generation"])
        if self._case.exists():
            self._case.unlink()
            until(lambda: self._live(before), "the case is gone", 20)

    def _different(self, text: str) -> str:
        """The text as no case before had it: what does not change is no news to anybody."""
        self.written += 1
        return f"{text}\n# {self.written}\n"

    def filled(self, text: str) -> str:
        """A case's text, with the ports of the server outside in it."""
        for name, port in zip(("OUTSIDE_HTTP", "OUTSIDE_TCP", "OUTSIDE_TLS"), self.outside, strict=True):
            text = text.replace(name, str(port))
        return text.replace("stringData: CERTIFICATE", f"stringData: {json.dumps(self.certificate)}")

    def write(self, text: str) -> None:
        """Put a case's configuration on disk, whole and at once."""
        text = self._different(self.filled(text))
        passing = self._case.with_name(".case.yaml.new")
        passing.write_text(text, encoding="utf-8")
        self.place.user.give(passing)
        passing.replace(self._case)

    def _live(self, before: int) -> bool:
        status = self.place.status("control-plane")
        rows = status.get("proxies", ())
        return bool(
            status.get("generation", 0) > before
            and len(rows) == PROXIES
            and all(row["state"] == "SYNCED" for row in rows)
        )

    def _cast(self, *, broken: bool) -> Cast:
        opened, _ = open_mesh(self.place.mesh / "gossamer.yaml")
        assert opened is not None
        inputs = load_inputs(opened.config, opened.path, self.memo, key="meshConfig")
        errors = [found for found in inputs.diagnostics if found.is_error]
        assert bool(errors) == broken, errors
        return build_cast(inputs.loaded.config, self.memo, opened.specs)

    def running(self) -> Cast:
        """Who is who in the mesh that runs, as its control plane tells it."""
        snapshot = call(self.place.socket("control-plane"), "GET", "/v1/snapshot").json()
        return build_running(snapshot, self.memo)[1]

    def log(self, workload: str) -> str:
        """What a workload's Envoy has written, its access log too."""
        return call(self.place.socket("agent"), "GET", f"/v1/workloads/{workload}/log?of=envoy").text

    def from_caller(self, **asked: Any) -> dict[str, Any]:
        """What a workload of the mesh gets when it asks."""
        told = asyncio.run(
            ask("http://caller.test/-/ask", method="POST", body=asked, via=f"http://127.0.0.1:{self.ports[80]}")
        )
        if told["status"] != 200:
            return {"status": -1, "headers": {}, "body": f"the caller itself could not be asked: {told}"}
        return dict(told["json"])

    def from_outside(self, url: str, port: int, **asked: Any) -> dict[str, Any]:
        """What a client outside the mesh gets at a port of the gateway."""
        return asyncio.run(ask(url, via=f"http://127.0.0.1:{self.ports[port]}", **asked))


def _mesh_file(ports: dict[int, int]) -> str:
    outgoing = {port: free_port() for port in EGRESS_PORTS}
    gateways = _gateway("istio-ingressgateway", "gateway", ports) + _gateway("istio-egressgateway", "egress", outgoing)
    workloads = "".join(_workload(name) for name in ("caller", *NAMES))
    settings = f"meshConfig: {json.dumps(_settings())}"
    return f"version: 1\n{settings}\nconfig: [config]\ngateways:\n{gateways}workloads:\n{workloads}"


def _settings() -> dict[str, Any]:
    """MeshConfig: what it chooses for the mesh's own TLS holds for every case."""
    stranger = create_stub(datetime.now(UTC))[2]
    return {
        "accessLogFile": "/dev/stdout",
        "proxyListenPort": 16001,
        "proxyInboundListenPort": 16006,
        "meshMTLS": {"minProtocolVersion": "TLSV1_3", "ecdhCurves": ["P-384"]},
        "caCertificates": [{"pem": stranger}],
        "defaultConfig": {"connectionSettings": {"listenerConnectionLimit": 10_000}},
    }


def _gateway(name: str, account: str, ports: dict[int, int]) -> str:
    listed = ", ".join(f"{{name: p{port}, port: {port}, targetPort: {there}}}" for port, there in ports.items())
    return f"""\
  - name: {name}
    namespace: istio-system
    serviceAccount: {account}
    labels:
      {{app: {name}, istio: {name.removeprefix("istio-")}, gateway.networking.k8s.io/gateway-name: {account}}}
    address: 127.0.0.1
    ports: [{listed}]
"""


def _workload(name: str) -> str:
    app, _, version = name.partition("-")
    return f"""\
  - name: {name}
    namespace: {"other" if app == "b" else "default"}
    serviceAccount: {app}
    labels: {{app: {app}, version: {version or "v1"}}}
    ports:
      - {{name: http, port: 8080}}
      - {{name: tcp, port: 9090}}
      - {{name: tls, port: 9443}}
      - {{name: grpc, port: 9091}}
      - {{name: greeting, port: 9306}}
    command: ["${{PYTHON}}", -m, tests.e2e.agreement.app, {name}]
    env: {{PYTHONPATH: "{os.pathsep.join((str(ROOT / "src"), str(ROOT)))}"}}
    health: {{path: /, port: 8080}}
"""


@contextmanager
def running() -> Iterator[World]:
    """The mesh with nothing but its base configuration."""
    with place() as found:
        ports = {port: free_port() for port in GATEWAY_PORTS}
        outside = (free_port(), free_port(), free_port())
        config = found.folder("mesh") / "config"
        config.mkdir()
        (config / "base.yaml").write_text((HERE / "base.yaml").read_text(encoding="utf-8"), encoding="utf-8")
        (found.mesh / "gossamer.yaml").write_text(_mesh_file(ports), encoding="utf-8")
        found.user.give(found.mesh)
        argv = [sys.executable, "-m", "tests.e2e.agreement.app", "outside", *map(str, outside)]
        stranger = subprocess.Popen(argv, env=found.env | {"PYTHONPATH": os.pathsep.join(sys.path)}, cwd=ROOT)
        try:
            found.up()
            own = Issuer().issue("shop.example")
            secret = {"tls.crt": own.certificate, "tls.key": own.key}
            world = World(place=found, ports=ports, outside=outside, certificate=secret)
            until(found.ready, "the mesh is ready", 60)
            until(lambda: found.synced(PROXIES), "every proxy has its configuration", 20)
            yield world
        finally:
            stranger.kill()
            stranger.wait(10)
