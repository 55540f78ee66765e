"""What is kept of workloads that are gone is forgotten, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from gossamer.node.capture.ports import SHARED, Ports
from gossamer.node.starts import Starts
from gossamer.rpc import gossamer_pb2 as rpc
from gossamer.sources.state import private_folder, private_places, runtime_folder, runtime_folders


def test_ports_and_addresses(tmp_path: Path) -> None:
    ports = Ports(tmp_path / "ports.json")
    kept, gone = (ports.allocate(f"default.{name}/mesh/80", "127.0.0.1") for name in ("a", "ab"))
    address = ports.address("default.a/own", SHARED)
    ports.address("default.ab/own", SHARED)
    ports.keep(["default.a"])
    again = Ports(tmp_path / "ports.json")
    assert again.allocate("default.a/mesh/80", "127.0.0.1") == kept
    assert again.address("default.a/own", SHARED) == address
    assert "default.ab" not in (tmp_path / "ports.json").read_text()
    assert gone != kept


def test_how_envoys_were_started(tmp_path: Path) -> None:
    starts = Starts(folder=tmp_path / "starts")
    for name in ("a", "b"):
        starts.take(rpc.Start(workload=rpc.WorkloadKey(namespace="default", name=name), concurrency=3))
    starts.keep([("default", "a")])
    assert Starts(folder=tmp_path / "starts").of(("default", "a")).settings.concurrency == 3
    assert Starts(folder=tmp_path / "starts").of(("default", "b")).settings.concurrency is None


def test_runtime_folders_of_meshes_whose_state_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    (tmp_path / "run").mkdir()
    first, second = (private_folder(tmp_path / name) for name in ("one", "two"))
    folder = runtime_folder(first)
    (folder / "agent.sock").touch()
    assert first in private_places()
    assert runtime_folders() == [folder]
    assert runtime_folder(second).exists()
    assert folder.exists(), "its state is there still"
    first.rename(tmp_path / "gone")
    runtime_folder(second)
    assert not folder.exists()
