"""A few whole outputs, as files to look at and to compare, each of them taken by a real Envoy.

`GOSSAMER_UPDATE_GOLDENS=1` writes the files anew; their difference is what to review.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from gossamer.compile.static import Stub
from gossamer.core.frozen import FrozenMap
from gossamer.core.resources import CLUSTER, LISTENER
from gossamer.model.proxy import Capture, CaptureMode, Proxy
from tests.compile.compiled import GATEWAY, SIDECAR, compiled, workload
from tests.compile.meshes import PROXIES, Mesh, meshes
from tests.compile.validated import validated

FOLDER = Path(__file__).parent / "goldens"
MEMBERS = (
    workload("reviews-v1", app="reviews", version="v1", address="10.1.0.1"),
    workload("reviews-v2", app="reviews", version="v2", address="10.1.0.2"),
    workload("web-1", app="web", address="10.1.0.3"),
)
EXPLICIT = replace(
    SIDECAR,
    capture=Capture(
        mode=CaptureMode.EXPLICIT,
        address="127.0.0.9",
        http_proxy_port=18080,
        mesh_address="127.0.0.1",
        mesh_ports=FrozenMap({9080: 19080}),
        application_address="127.0.0.1",
        outbound_ports=FrozenMap(
            {"reviews.default.svc.cluster.local:9080": 20001, "db.default.svc.cluster.local:5432": 5432}
        ),
        service_addresses=FrozenMap({"db.default.svc.cluster.local": "127.128.0.1"}),
        web_address="127.128.0.2",
        web_ports=(9080,),
        dns_port=20053,
    ),
)
CASES: dict[str, tuple[str, Proxy]] = {
    "sidecar": ("sidecar", replace(SIDECAR, name="reviews-v1", labels=FrozenMap({"app": "reviews"}))),
    "sidecar-dns": ("sidecar", replace(SIDECAR, namespace="other", capture=Capture(dns=True))),
    "sidecar-explicit": ("sidecar", EXPLICIT),
    "external": ("external", SIDECAR),
    "gateway": ("gateway", GATEWAY),
}


@pytest.mark.parametrize("case", CASES)
def test_golden(case: str) -> None:
    source, proxy = CASES[case]
    found = compiled((FOLDER / f"{source}.yaml").read_text(), proxy=proxy, registrations=MEMBERS)
    text = json.dumps(found.json(), indent=1, sort_keys=True) + "\n"
    path = FOLDER / f"{case}.json"
    if os.environ.get("GOSSAMER_UPDATE_GOLDENS"):
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.envoy
@pytest.mark.parametrize("case", CASES)
def test_envoy_takes_it(case: str, envoy: Path, stub: Stub, tmp_path: Path) -> None:
    source, proxy = CASES[case]
    found = compiled((FOLDER / f"{source}.yaml").read_text(), proxy=proxy, registrations=MEMBERS)
    assert validated(envoy, found.resources, stub, tmp_path) == ""


@pytest.mark.envoy
def test_envoy_takes_whatever_is_compiled(envoy: Path, stub: Stub, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("any")

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(mesh=meshes())
    def try_one(mesh: Mesh) -> None:
        for proxy in PROXIES[:1] + PROXIES[2:]:
            found = compiled(*mesh.documents, proxy=proxy, registrations=mesh.registrations)
            assert validated(envoy, found.resources, stub, folder) == ""

    try_one()


@pytest.mark.parametrize("platform", ["bookinfo.yaml", "bookinfo-versions.yaml"])
def test_upstream_bookinfo_compiles_whole(cases: Path, platform: str) -> None:
    folder = cases / "bookinfo"
    services = [path.read_text() for path in sorted((folder / "platform").rglob("*.yaml"))]
    assert any(platform == path.name for path in (folder / "platform").rglob("*.yaml"))
    for path in sorted((folder / "networking").glob("*.yaml")):
        for proxy in (SIDECAR, GATEWAY):
            found = compiled(*services, path.read_text(), proxy=proxy).json()
            assert found["clusters"], path.name


@pytest.mark.envoy
def test_envoy_takes_bookinfo(cases: Path, envoy: Path, stub: Stub, tmp_path: Path) -> None:
    folder = cases / "bookinfo"
    services = [path.read_text() for path in sorted((folder / "platform").rglob("*.yaml"))]
    rules = (folder / "networking" / "destination-rule-all.yaml").read_text()
    for path in sorted((folder / "networking").glob("*.yaml")):
        if path.name.startswith("destination-rule"):
            continue
        for proxy in (SIDECAR, GATEWAY):
            documents = [*services, path.read_text()]
            documents += [rules] if "kind: DestinationRule" not in path.read_text() else []
            found = compiled(*documents, proxy=proxy)
            assert validated(envoy, found.resources, stub, tmp_path) == "", path.name


@pytest.mark.envoy
@pytest.mark.parametrize("shape", ["authorizationpolicy", "gateways", "http", "tcp", "virtualservice"])
def test_envoy_takes_the_benchmark_shapes(shape: str, cases: Path, envoy: Path, stub: Stub, tmp_path: Path) -> None:
    text = (cases / "benchmarks" / f"{shape}-10.yaml").read_text()
    proxy = replace(GATEWAY if shape == "gateways" else SIDECAR, addresses=("1.1.1.1",), labels=_MEASURED)
    found = compiled(text, proxy=replace(proxy, namespace="default"))
    assert found.names(CLUSTER)
    assert len(found.names(LISTENER)) >= 2
    assert validated(envoy, found.resources, stub, tmp_path) == ""


_MEASURED = FrozenMap({"istio.io/benchmark": "true"})
