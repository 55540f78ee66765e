"""Every proxy of the demo, in each way of capturing, is told what a real Envoy accepts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gossamer.cli.mesh_file import open_mesh
from gossamer.core.frozen import FrozenMap
from gossamer.demo.mesh import write_mesh
from gossamer.model.proxy import Capture, CaptureMode, ProxyType
from gossamer.node.workload import registration_message
from gossamer.plane.pipeline import Pipeline
from gossamer.rpc import gossamer_pb2 as rpc
from gossamer.sources.files import FileSource
from gossamer.sources.registry import Registry
from tests.compile.validated import validated

CAPTURES = {
    "transparent": Capture(mesh_address="127.0.0.1", application_address="127.0.0.1", dns=True),
    "explicit": Capture(
        mode=CaptureMode.EXPLICIT,
        mesh_address="127.0.0.1",
        address="127.64.0.9",
        application_address="127.64.0.9",
        http_proxy_port=20001,
    ),
}


@pytest.mark.envoy
@pytest.mark.parametrize("way", CAPTURES)
def test_envoy_accepts_what_every_proxy_of_the_demo_is_told(
    way: str,
    envoy: Path,
    stub: object,
    tmp_path: Path,
) -> None:
    opened, diagnostics = open_mesh(write_mesh(tmp_path / "mesh"))
    assert opened is not None
    assert not [diagnostic for diagnostic in diagnostics if diagnostic.is_error]
    registry = Registry("cluster.local")
    for number, spec in enumerate(opened.specs):
        ports = FrozenMap({port.number: 21000 + number for port in spec.ports})
        capture = replace(CAPTURES[way], mesh_ports=ports) if spec.type is ProxyType.SIDECAR else Capture()
        message = registration_message(spec, capture, (f"100.64.0.{number + 1}",), 1)
        message.state = rpc.WORKLOAD_STATE_READY
        assert not registry.renew("here", [message], now=0)
    pipeline = Pipeline(mesh_config=None, last_good=None)
    workloads = tuple(entry.workload for entry in registry.snapshot.values())
    pipeline.build(FileSource(opened.config).latest.value, workloads)
    assert len(registry.snapshot) == 7
    for entry in registry.snapshot.values():
        resources = pipeline.resources(entry.proxy)
        assert resources is not None
        problem = validated(envoy, resources, stub, tmp_path)  # type: ignore[arg-type]
        assert not problem, f"{entry.proxy.name}: {problem}"
