"""Settings of proxies: the mesh's below the namespace's, below the workload's."""

from __future__ import annotations

from typing import Any

import pytest

from gossamer.api.config import Config
from gossamer.api.load import SourceFile, load
from gossamer.core.frozen import FrozenMap
from gossamer.core.memo import Memo
from gossamer.model.check_proxies import check_proxies
from gossamer.model.mesh import build_mesh
from gossamer.model.proxy import Proxy, ProxyType
from gossamer.model.started import ProxySettings
from gossamer.node.groups import default_probe
from gossamer.node.sandbox import Check

MESH = """
defaultConfig:
  concurrency: 7
  proxyMetadata: {A: mesh, ISTIO_META_TIER: gold}
  runtimeValues: {some.key: "5"}
  statsdUdpAddress: 10.0.0.9:8125
  terminationDrainDuration: 12s
  fileFlushInterval: 2s
  fileFlushMinSizeKb: 9
  connectionSettings: {globalDownstreamConnectionLimit: 99}
"""


def document(name: str, spec: str, *, namespace: str = "default", created: str = "") -> str:
    when = f", creationTimestamp: {created}" if created else ""
    return f"""
apiVersion: networking.istio.io/v1beta1
kind: ProxyConfig
metadata: {{name: {name}, namespace: {namespace}{when}}}
spec: {spec}
"""


def config_of(*documents: str, mesh: str = "") -> Config:
    files = [SourceFile(name=f"{place}.yaml", text=text) for place, text in enumerate(documents)]
    loaded = load(files, mesh_config=SourceFile(name="mesh.yaml", text=mesh) if mesh else None)
    assert not [one for one in loaded.diagnostics if one.is_error], loaded.diagnostics
    return loaded.config


def settings(*documents: str, mesh: str = "", labels: dict[str, str] | None = None, **who: Any) -> ProxySettings:
    config = config_of(*documents, mesh=mesh)
    proxy = Proxy(**{"type": ProxyType.SIDECAR, "namespace": "default", "labels": FrozenMap(labels or {}), **who})
    return build_mesh(config, Memo()).proxies.for_proxy(proxy)


def test_what_the_mesh_says() -> None:
    assert settings(mesh=MESH) == ProxySettings(
        concurrency=7,
        environment=FrozenMap({"A": "mesh", "ISTIO_META_TIER": "gold"}),
        runtime=FrozenMap({"some.key": "5"}),
        statsd="10.0.0.9:8125",
        termination_drain_s=12.0,
        flush_interval_s=2.0,
        flush_kb=9,
        max_connections=99,
    )
    assert settings() == ProxySettings()


def test_the_nearer_one_counts_and_variables_are_merged() -> None:
    documents = (
        document("root", "{concurrency: 1, environmentVariables: {B: root, C: root}}", namespace="istio-system"),
        document("own", "{environmentVariables: {C: namespace, D: namespace}}"),
        document("one", "{selector: {matchLabels: {app: web}}, concurrency: 0, environmentVariables: {D: workload}}"),
    )
    everywhere = settings(*documents, mesh=MESH, namespace="other")
    assert (everywhere.concurrency, everywhere.environment["A"], everywhere.environment["C"]) == (1, "mesh", "root")
    own = settings(*documents, mesh=MESH)
    assert (own.concurrency, own.environment["C"], own.environment["D"]) == (1, "namespace", "namespace")
    web = settings(*documents, mesh=MESH, labels={"app": "web", "version": "v1"})
    assert (web.concurrency, web.environment["D"], web.environment["B"]) == (0, "workload", "root")
    assert web.flush_kb == 9
    assert settings(*documents, labels={"app": "web"}, namespace="other").concurrency == 1


def test_of_several_the_oldest_counts() -> None:
    documents = (
        document("a", "{concurrency: 3}", created="2024-02-01T00:00:00Z"),
        document("b", "{concurrency: 2}", created="2024-01-01T00:00:00Z"),
    )
    assert settings(*documents).concurrency == 2


@pytest.mark.parametrize("name", ["LD_PRELOAD", "PATH", "ENVOY_DYNAMIC_MODULES_SEARCH_PATH"])
def test_what_would_load_other_code_is_not_set_and_told(name: str) -> None:
    text = document("a", f"{{environmentVariables: {{{name}: x, FINE: ok}}}}")
    assert settings(text).environment == {"FINE": "ok"}
    (found,) = check_proxies(config_of(text))
    assert (found.is_error, found.path) == (False, f"spec.environmentVariables.{name}")


def test_what_has_no_meaning_here_is_told() -> None:
    text = document("a", "{image: {imageType: distroless}}")
    mesh = "defaultConfig: {statsdUdpAddress: 'statsd.example:8125'}"
    found = check_proxies(config_of(text, mesh=mesh))
    assert [one.path for one in found] == ["defaultConfig.statsdUdpAddress", "spec.image"]


def test_drain_time_limits_and_the_probe_of_workloads_that_name_none() -> None:
    mesh = """
defaultConfig:
  drainDuration: 30s
  connectionSettings: {listenerConnectionLimit: 20}
  readinessProbe: {periodSeconds: 3, httpGet: {port: 8080, path: /ready, httpHeaders: [{name: a, value: b}]}}
"""
    found = settings(mesh=mesh)
    assert (found.drain_s, found.listener_connections) == (30, 20)
    probe = default_probe(found.readiness_probe)
    assert probe is not None
    assert probe.check == Check(port=8080, path="/ready", headers=(("a", "b"),), seconds=1)
    assert (probe.period, probe.failures) == (3, 3)
    assert default_probe(settings().readiness_probe) is None


def test_the_ports_of_captured_traffic_are_the_meshs() -> None:
    found = settings(mesh="proxyListenPort: 16001\nproxyInboundListenPort: 16006\n")
    assert (found.outbound_port, found.inbound_port) == (16001, 16006)
    assert (settings().outbound_port, settings().inbound_port) == (15001, 15006)
