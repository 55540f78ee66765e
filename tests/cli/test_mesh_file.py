"""`gossamer.yaml` as an agent runs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gossamer.cli.main import run
from gossamer.cli.mesh_file import open_mesh
from gossamer.node.workload import dump_specs, load_specs

TEXT = """
version: 1
attestors: who/attestors.yaml
gateways:
  - {name: gw, ports: [443], credentials: [certs, /etc/edge]}
workloads:
  - {name: web, command: [web], credentials: [keys]}
  - {name: none, command: [none]}
"""


def test_folders_of_keys_are_relative_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "gossamer.yaml"
    path.write_text(TEXT)
    opened, diagnostics = open_mesh(path)
    assert opened is not None, diagnostics
    lent = {spec.name: spec.credentials for spec in opened.specs}
    assert lent == {"gw": (str(tmp_path / "certs"), "/etc/edge"), "web": (str(tmp_path / "keys"),), "none": ()}
    assert opened.attestors == tmp_path / "who" / "attestors.yaml"
    assert load_specs(dump_specs(opened.specs)) == opened.specs


def test_an_empty_folder_is_none(tmp_path: Path) -> None:
    path = tmp_path / "gossamer.yaml"
    path.write_text("version: 1\ngateways: [{name: gw, credentials: ['']}]\n")
    opened, diagnostics = open_mesh(path)
    assert opened is None
    assert [(one.code, one.path) for one in diagnostics] == [("required", "gateways[0].credentials[0]")]


def test_a_mesh_that_wants_no_interception_is_captured_explicitly(tmp_path: Path) -> None:
    path = tmp_path / "gossamer.yaml"
    for mode, asked, wanted in (
        ("NONE", "auto", "explicit"),
        ("NONE", "transparent", "transparent"),
        ("REDIRECT", "auto", "auto"),
        ("TPROXY", "auto", "auto"),
    ):
        path.write_text(f"version: 1\nmeshConfig: {{defaultConfig: {{interceptionMode: {mode}}}}}\n")
        opened, diagnostics = open_mesh(path)
        assert opened is not None, diagnostics
        assert opened.way(asked) == wanted
        assert [one.code for one in diagnostics] == {"NONE": ["capture"], "TPROXY": ["unsupported-field"]}.get(mode, [])


def test_a_mesh_whose_attestors_are_wrong_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "gossamer.yaml"
    path.write_text("version: 1\nattestors: attestors.yaml\n")
    (tmp_path / "attestors.yaml").write_text("version: 1\nattestors: [{name: a}]\n")
    assert run(["up", "-f", str(path), f"--state={tmp_path / 'state'}"]) == 1
    assert "attestors.yaml:2" in capsys.readouterr().err
