"""The socket of the Workload API: one for each workload that asks for it, in a folder of its own.

The folder is all that a confined application sees of the agent's, and stays the same when the agent restarts.
Invariant: folders above it are its owner's alone, so that on the host nobody else reaches it; its own mode lets the
application be any user of its own namespace.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from gossamer.ca.files import private_folder
from gossamer.ca.spiffe import WorkloadId
from gossamer.core.latest import Latest
from gossamer.node.host import Host
from gossamer.node.identity import WorkloadIdentity
from gossamer.node.unix_server import serve_socket
from gossamer.node.workload import WorkloadSpec

VARIABLE: Final = "SPIFFE_ENDPOINT_SOCKET"
"""Where the SPIFFE standard has clients look for the socket."""


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
    from gossamer.node.workload_api import WorkloadApi  # noqa: PLC0415 - most applications ask for none

    lender = host.identities.lender
    answers = WorkloadApi(workload=workload, lender=lender, identity=identity, trust=host.identities.trust)
    try:
        # any user of the application's own namespace may ask
        async with serve_socket(_socket(folder), [answers.handler()], mode=0o666, make_folder=_make_folder):
            yield
    finally:
        lender.take_back(workload)
        with contextlib.suppress(OSError):
            folder.rmdir()


def _make_folder(folder: Path) -> None:
    private_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
