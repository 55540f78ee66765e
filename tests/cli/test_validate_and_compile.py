"""`gossamer validate` and `gossamer compile`: the contracts that tools rely on."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from gossamer.cli.main import run
from tests.cli.documents import POLICIES, ROUTES, SHOP

WRONG = ROUTES.replace("timeout: 3s", "timeout: 3")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in {"shop.yaml": SHOP, "routes.yaml": ROUTES, "policies.yml": POLICIES}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "notes.txt").write_text("not: [yaml")
    return tmp_path


def output(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    """What a command prints as JSON."""
    assert run([*arguments, "-o", "json"]) == code
    return json.loads(capsys.readouterr().out)


class TestValidate:
    def test_nothing_wrong(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert output(capsys, "validate", "-f", str(folder)) == []
        assert run(["validate", "-f", str(folder)]) == 0
        assert capsys.readouterr().out == "no problems in 3 files (8 resources)\n"

    def test_errors_are_objects_with_file_and_line(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (folder / "routes.yaml").write_text(WRONG)
        (error,) = output(capsys, "validate", "-f", str(folder), code=1)
        line = WRONG.splitlines().index("  - timeout: 3") + 1
        expected = {
            "severity": "error",
            "kind": "VirtualService",
            "namespace": "shop",
            "name": "cart",
            "path": "spec.http[1].timeout",
            "file": str(folder / "routes.yaml"),
            "line": line,
        }
        assert {key: error[key] for key in expected} == expected
        assert error["code"] == "invalid-duration"
        assert "not a duration" in error["message"]

    def test_several_ways_to_name_files(
        self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (folder / "routes.yaml").write_text(WRONG)
        files = [str(folder / "shop.yaml"), str(folder / "routes.yaml")]
        for arguments in (["-f", files[0], "-f", files[1]], ["-f", *files], files):
            assert len(output(capsys, "validate", *arguments, code=1)) == 1
        monkeypatch.setattr("sys.stdin", io.StringIO(WRONG))
        (error,) = output(capsys, "validate", "-f", "-", code=1)
        assert error["file"] == "<stdin>"

    def test_other_spellings(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (folder / "routes.yaml").write_text(WRONG)
        assert run(["validate", "-f", str(folder), "-o", "yaml"]) == 1
        assert yaml.safe_load(capsys.readouterr().out)[0]["code"] == "invalid-duration"
        assert run(["validate", "-f", str(folder), "-o", "table"]) == 1
        assert "invalid-duration" in capsys.readouterr().out.splitlines()[1]
        assert run(["validate", "-f", str(folder)]) == 1
        assert "^" in capsys.readouterr().out

    def test_warnings_are_no_failure(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "a.yaml").write_text("apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: s}\n")
        (warning,) = output(capsys, "validate", "-f", str(tmp_path))
        assert warning["severity"] == "warning"

    def test_a_file_that_is_no_text(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\x00")
        (error,) = output(capsys, "validate", "-f", str(tmp_path), code=1)
        assert (error["code"], error["file"]) == ("unreadable-file", str(tmp_path / "a.yaml"))

    def test_a_folder_without_configuration(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "notes.txt").write_text("a: 1")
        assert run(["validate", "-f", str(tmp_path)]) == 2
        assert "no file" in capsys.readouterr().err

    def test_mesh_config(self, tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        mesh = tmp_path / "mesh.yaml"
        mesh.write_text("trustDomain: 5\n")
        found = output(capsys, "validate", "-f", str(folder / "shop.yaml"), "--mesh-config", str(mesh), code=1)
        assert {error["file"] for error in found} == {str(mesh)}


class TestCompile:
    def sidecar(self, capsys: pytest.CaptureFixture[str], folder: Path, *more: str) -> Any:
        who = ["--type", "sidecar", "--namespace", "shop", "--name", "app", "--ip", "10.1.1.1"]
        return output(capsys, "compile", "-f", str(folder), *who, *more)

    def test_one_object_of_envoy_resources(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        found = self.sidecar(capsys, folder)
        assert list(found) == ["listeners", "routes", "clusters", "endpoints"]
        assert {listener["name"] for listener in found["listeners"]} >= {
            "virtualOutbound",
            "virtualInbound",
            "0.0.0.0_80",
        }
        assert [table["name"] for table in found["routes"]] == ["80"]
        assert "outbound|80|v1|cart.shop.svc.cluster.local" in {cluster["name"] for cluster in found["clusters"]}
        assert all("filter_chains" in listener for listener in found["listeners"])  # original field names

    def test_policies_stand_inline(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        text = json.dumps(self.sidecar(capsys, folder, "--labels", "app=cart,version=v1"))
        assert "ns[shop]-policy[web-only]-rule[0]" in text
        assert "config_discovery" not in text
        assert "web-only" not in json.dumps(self.sidecar(capsys, folder, "--labels", "app=web"))

    def test_problems_go_to_standard_error_and_hinder_nothing(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (folder / "routes.yaml").write_text(WRONG + "---\n: [\n")
        assert run(["compile", "-f", str(folder), "-o", "json"]) == 0
        printed = capsys.readouterr()
        assert json.loads(printed.out)["listeners"]
        assert "not a duration" in printed.err
        assert "cannot be read" in printed.err

    def test_nothing_can_be_compiled(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "a.yaml").write_text("a: [\n")
        assert run(["compile", "-f", str(tmp_path), "-o", "json"]) == 1
        printed = capsys.readouterr()
        assert printed.out == ""
        assert "nothing is compiled" in printed.err

    def test_a_gateway_without_a_server_is_a_success(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        found = output(capsys, "compile", "-f", str(folder), "--type", "router", "--namespace", "shop")
        assert found["listeners"] == []

    def test_mesh_config(self, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        mesh = tmp_path / "mesh.json"
        mesh.write_text('{"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}}')
        found = self.sidecar(capsys, folder / "shop.yaml", "--mesh-config", str(mesh))
        outbound = next(listener for listener in found["listeners"] if listener["name"] == "virtualOutbound")
        assert "BlackHoleCluster" in json.dumps(outbound)
        assert "PassthroughCluster" not in json.dumps(outbound)

    def test_a_list_for_people(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["compile", "-f", str(folder), "--namespace", "shop"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert any(line.split()[:2] == ["listener", "virtualOutbound"] for line in lines)
