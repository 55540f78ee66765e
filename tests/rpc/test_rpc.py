"""The committed protobuf modules are those that the .proto gives, and the typed calls are its methods."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from gossamer.rpc import calls
from gossamer.rpc import gossamer_pb2 as pb

ROOT = Path(__file__).parents[2]


def test_generating_again_gives_the_committed_modules(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "tools" / "generate_rpc.py", tmp_path], check=True)
    for name in ("gossamer_pb2.py", "gossamer_pb2.pyi", "workload_api_pb2.py", "workload_api_pb2.pyi"):
        committed = ROOT / "src" / "gossamer" / "rpc" / name
        again = tmp_path / "gossamer" / "rpc" / name
        assert again.read_text() == committed.read_text(), f"run tools/generate_rpc.py: {name} differs"


def test_calls_are_the_methods_of_the_proto() -> None:
    declared = {
        (service.name, method.name, method.input_type.name, method.output_type.name, kind(method))
        for service in pb.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    typed = {(m.service, m.name, m.request.__name__, m.response.__name__, type(m).__name__) for m in calls.METHODS}
    assert typed == declared
    assert pb.DESCRIPTOR.package == calls.PACKAGE


def kind(method: object) -> str:
    streams = (getattr(method, "client_streaming"), getattr(method, "server_streaming"))  # noqa: B009 (untyped)
    return {(False, False): "Unary", (False, True): "ServerStream", (True, True): "Duplex"}[streams]
