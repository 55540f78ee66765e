"""The socket of the Workload API: one for each workload that asks for it, in a folder of its own.

The folder is all that a confined application sees of the agent's, and stays the same when the agent restarts.
Invariant: folders above it are its owner's alone, so that on the host nobody else reaches it; its own mode lets the
application be any user of its own namespace.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import grpc.aio

from gossamer.ca.files import private_folder
from gossamer.ca.spiffe import WorkloadId
from gossamer.core.errors import StateError
from gossamer.core.latest import Latest
from gossamer.node.host import Host
from gossamer.node.identity import WorkloadIdentity
from gossamer.node.workload import WorkloadSpec

VARIABLE: Final = "SPIFFE_ENDPOINT_SOCKET"
"""Where the SPIFFE standard has clients look for the socket."""
_LONGEST_PATH: Final = 107


def workload_folder(host: Host, spec: WorkloadSpec) -> Path | None:
    """Where a workload finds its socket; None if it is not to have one."""
    return host.settings.runtime / "api" / spec.slug if spec.workload_api else None


def endpoint(folder: Path) -> str:
    """The socket in a folder, as SPIFFE writes it."""
    return f"unix://{_socket(folder)}"


def _socket(folder: Path) -> Path:
    return folder / "spiffe.sock"


@asynccontextmanager
async def serving_workload(
    host: Host, spec: WorkloadSpec, workload: WorkloadId, identity: Latest[WorkloadIdentity]
) -> AsyncIterator[None]:
    """Serve one application while the context lasts, if it is to be. StateError if that cannot be."""
    folder = workload_folder(host, spec)
    if folder is None:
        yield
        return
    path = _socket(folder)
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise StateError(f"{path} is too long for a UNIX socket ({_LONGEST_PATH} bytes): choose a shorter folder")
    from gossamer.node.workload_api import WorkloadApi  # noqa: PLC0415 - most applications ask for none

    private_folder(folder.parent)
    lender = host.identities.lender
    answers = WorkloadApi(workload=workload, lender=lender, identity=identity, trust=host.identities.trust)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([answers.handler()])
    try:
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
        path.unlink(missing_ok=True)
        server.add_insecure_port(f"unix:{path}")
        path.chmod(0o666)
        await server.start()
    except (RuntimeError, OSError) as error:
        raise StateError(f"cannot listen on {path}: {error}") from error
    try:
        yield
    finally:
        await server.stop(0)
        lender.take_back(workload)
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            folder.rmdir()
