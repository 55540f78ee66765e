"""Write the Python modules of the .proto files in gossamer/rpc, and stubs; they are committed, and a test compares.

The folder given takes them under `gossamer/rpc/`; without one they go where they are committed.
"""

from __future__ import annotations

import importlib.resources
import sys
from pathlib import Path

from grpc_tools import protoc

SOURCE = Path(__file__).resolve().parents[1] / "src"
PROTOS = sorted((SOURCE / "gossamer" / "rpc").glob("*.proto"))


def generate(target: Path) -> int:
    """Generate into `target`; returns protoc's exit code."""
    well_known = importlib.resources.files("grpc_tools") / "_proto"
    return protoc.main(
        [
            "protoc",
            f"--plugin=protoc-gen-mypy={Path(sys.executable).with_name('protoc-gen-mypy')}",
            f"--proto_path={SOURCE}",
            f"--proto_path={well_known}",
            f"--python_out={target}",
            f"--mypy_out=readable_stubs,quiet:{target}",
            *map(str, PROTOS),
        ]
    )


if __name__ == "__main__":
    sys.exit(generate(Path(sys.argv[1]) if len(sys.argv) > 1 else SOURCE))
