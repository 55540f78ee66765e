"""Where workloads of a gossamer.yaml are, from the file to the registry."""

from __future__ import annotations

from pathlib import Path

import pytest

from gossamer.cli.mesh_file import open_mesh
from gossamer.cli.whereabouts import here_of
from gossamer.core.errors import UsageError
from gossamer.model.proxy import Capture
from gossamer.node.workload import Here, dump_specs, load_specs, registration_message
from gossamer.sources.registry import Registry

TEXT = """\
version: 1
locality: europe/north
network: lan
gateways:
- {name: door, cluster: edge}
workloads:
- {name: plain, command: [x], weight: 3}
- {name: own, command: [x], locality: asia/east/rack-1, network: other, cluster: second}
- {name: labelled, command: [x], labels: {topology.kubernetes.io/region: us, topology.istio.io/network: wan}}
"""


@pytest.mark.parametrize(
    ("here", "first"),
    [
        (Here(), ("europe/north", "lan", "Kubernetes", 3)),
        (here_of("moon/crater", "", "colony"), ("moon/crater", "lan", "colony", 3)),
    ],
)
def test_from_the_file_to_the_registry(tmp_path: Path, here: Here, first: tuple[str, str, str, int]) -> None:
    """What a workload says goes before its labels, these before the command's options, and these before the file's."""
    file = tmp_path / "gossamer.yaml"
    file.write_text(TEXT)
    opened, diagnostics = open_mesh(file, here)
    assert opened is not None, diagnostics
    registry = Registry("cluster.local")
    specs = load_specs(dump_specs(opened.specs))
    assert specs == opened.specs
    assert registry.renew("a", [registration_message(s, Capture(), ("10.0.0.1",), 1) for s in specs], 0.0) == []
    found = {
        name: (r.workload.locality, r.workload.network, r.workload.cluster, r.workload.weight)
        for (_, name), r in registry.snapshot.items()
    }
    assert found["plain"] == first
    assert found["own"] == ("asia/east/rack-1", "other", "second", 0)
    assert found["labelled"] == ("us", "wan", first[2], 0)
    assert found["door"] == (first[0], "lan", "edge", 0)
    proxy = registry.snapshot["default", "plain"].proxy
    assert (proxy.locality, proxy.network, proxy.cluster) == first[:3]


@pytest.mark.parametrize("place", [("a//b", "", ""), ("a/b/c/d", "", ""), ("", "a b", ""), ("", "", "x/y")])
def test_no_places(place: tuple[str, str, str]) -> None:
    with pytest.raises(UsageError, match="--"):
        here_of(*place)
