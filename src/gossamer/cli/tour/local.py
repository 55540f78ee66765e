"""The bundled mesh as it runs on this machine, in the words of `RunningMesh`."""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Any

from gossamer.cli.local_mesh import LocalMesh
from gossamer.cli.tour.running import MeshStatus, ProxyStatus, WorkloadStatus
from gossamer.core.errors import UnavailableError

CHILDREN = ("control-plane", "agent")


class DemoMesh:
    """A `RunningMesh` over control plane and agent of this process. Call `wait_ready` first."""

    def __init__(self, mesh: LocalMesh, ingress: str) -> None:
        self._mesh = mesh
        self._rows: dict[str, dict[str, Any]] = {}
        self.ingress = ingress
        self.capture = ""

    @property
    def folder(self) -> Path:
        return self._mesh.options.file.parent

    @property
    def state(self) -> Path:
        return self._mesh.state

    @property
    def logs(self) -> Path:
        return self._mesh.state / "logs"

    def pid(self, what: str) -> int:
        pid = self._mesh.pid(what)
        if not pid:
            raise UnavailableError(f"{what} does not run now")
        return pid

    def log(self, what: str) -> Path:
        if what in CHILDREN:
            return self._mesh.log(what)
        kind, _, name = what.partition(" ")
        return Path(self._rows[name]["log" if kind == "envoy" else "application_log"])

    def held(self, what: str) -> AbstractContextManager[None]:
        return self._mesh.held(what)

    async def status(self) -> MeshStatus:
        plane, rows = await self._mesh.plane(), await self._workloads()
        ends = {name: row["certificate_ends"] for name, row in rows.items()}
        return MeshStatus(
            proxies=tuple(
                ProxyStatus(
                    name=row["name"],
                    state=row["state"],
                    certificate_expires=datetime.fromisoformat(end) if (end := ends.get(row["name"])) else None,
                )
                for row in plane["proxies"]
            ),
            workloads=tuple(
                WorkloadStatus(
                    name=name,
                    state=row["application"] or row["envoy"],
                    restarts=row["application_restarts"],
                    message=row["problem"],
                )
                for name, row in rows.items()
            ),
            diagnostics=tuple(plane["diagnostics"]),
        )

    async def wait_ready(self, timeout_s: float) -> None:
        await self._mesh.wait_ready(timeout_s)
        self._rows = await self._workloads()
        self.capture = str((await self._mesh.agent())["capture"])

    def mesh_address(self, workload: str) -> tuple[str, int]:
        row = self._rows[workload]
        return str(row["mesh_address"]), int(next(iter(row["mesh_ports"].values())))

    async def _workloads(self) -> dict[str, dict[str, Any]]:
        agent = await self._mesh.agent()
        return {f"{row['namespace']}/{row['name']}": row for row in agent["workloads"]}
