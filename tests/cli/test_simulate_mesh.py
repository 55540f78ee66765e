"""`gossamer simulate --mesh`: questions about a mesh file, before or beside the mesh that it makes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gossamer.cli.main import run
from gossamer.demo.mesh import write_mesh


@pytest.mark.parametrize(
    ("url", "verdict", "code"),
    [("http://reviews:9080/reviews/0", "served", 0), ("http://ratings:9080/ratings/0", "denied", 1)],
)
def test_the_demo_answers_as_its_policies_say(
    url: str, verdict: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mesh = write_mesh(tmp_path / "mesh")
    found = run(["simulate", "--mesh", str(mesh), "--from", "default/productpage-v1", url, "-o", "json"])
    assert found == code
    answer = capsys.readouterr().out
    assert f'"{verdict}"' in answer
    assert json.loads(answer)


def test_a_mesh_file_that_is_wrong_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mesh = tmp_path / "gossamer.yaml"
    mesh.write_text("version: 7\n")
    assert run(["simulate", "--mesh", str(mesh), "--from", "default/a", "http://b/"]) == 1
    assert "version: 7" in capsys.readouterr().err


def test_the_mesh_config_of_the_file_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mesh = write_mesh(tmp_path / "mesh")
    asked = ["simulate", "--mesh", str(mesh), "--from", "default/productpage-v1", "http://elsewhere.example/"]
    assert run(asked) == 0
    only = "meshConfig:\n  outboundTrafficPolicy: {mode: REGISTRY_ONLY}"
    mesh.write_text(mesh.read_text().replace("meshConfig:", only))
    assert run(asked) == 1
    assert "BlackHoleCluster" in capsys.readouterr().out
