"""Write type stubs for the protobuf modules of xds-protos, which ships none.

The descriptors that the wheel carries are handed to mypy-protobuf's generator, as protoc would; the stubs land in
the folder given (mypy's `mypy_path` names it). Nothing of this is committed: it follows the installed version.
"""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

from google.protobuf import descriptor_pb2
from google.protobuf.compiler import plugin_pb2
from google.protobuf.descriptor import FileDescriptor

PACKAGES = ("envoy", "xds", "validate", "udpa", "google.rpc")


def modules() -> list[str]:
    """Names of all generated protobuf modules in the packages above."""
    found: list[str] = []
    for package in PACKAGES:
        root = importlib.import_module(package)
        found += [m.name for m in pkgutil.walk_packages(root.__path__, package + ".") if m.name.endswith("_pb2")]
    return found


def closure(roots: list[FileDescriptor]) -> list[FileDescriptor]:
    """The files and all they import, imports first."""
    ordered: dict[str, FileDescriptor] = {}

    def visit(file: FileDescriptor) -> None:
        if file.name in ordered:
            return
        for dependency in file.dependencies:
            visit(dependency)
        ordered[file.name] = file

    for root in roots:
        visit(root)
    return list(ordered.values())


def main(target: Path) -> None:
    roots = [importlib.import_module(name).DESCRIPTOR for name in modules()]
    request = plugin_pb2.CodeGeneratorRequest(parameter="readable_stubs,quiet")
    for file in closure(roots):
        proto = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(proto)
        request.proto_file.append(proto)
        if not file.name.startswith("google/protobuf/"):
            request.file_to_generate.append(file.name)
    plugin = Path(sys.executable).with_name("protoc-gen-mypy")
    done = subprocess.run([plugin], input=request.SerializeToString(), stdout=subprocess.PIPE, check=True)
    response = plugin_pb2.CodeGeneratorResponse.FromString(done.stdout)
    if response.error:
        raise SystemExit(response.error)
    for stub in response.file:
        path = target / stub.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(stub.content, encoding="utf-8")
    print(f"{len(response.file)} stubs in {target}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
