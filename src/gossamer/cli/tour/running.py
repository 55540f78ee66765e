"""A mesh that runs on this machine, as the tour and tests see it: questions, and no way to steer it but its files.

Things have one name everywhere: `control-plane`, `agent`, `envoy NAMESPACE/WORKLOAD`, `app NAMESPACE/WORKLOAD`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

DiagnosticJson = Mapping[str, str | int]
"""A Diagnostic as `Diagnostic.to_json` publishes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyStatus:
    """One Envoy: `NAMESPACE/WORKLOAD`, its state (`SYNCED`, `STALE`, `REJECTED`, `NOT SENT`), its certificate's end."""

    name: str
    state: str
    certificate_expires: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadStatus:
    """One workload: `NAMESPACE/NAME`, its state in the registry (`ready`, `unhealthy`...), and how often its program
    was started again."""

    name: str
    state: str
    restarts: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshStatus:
    """What control plane and agent say now; `diagnostics` are those of the configuration on disk."""

    proxies: tuple[ProxyStatus, ...] = ()
    workloads: tuple[WorkloadStatus, ...] = ()
    diagnostics: tuple[DiagnosticJson, ...] = ()


class RunningMesh(Protocol):
    """A mesh that was started here and stops with its owner."""

    @property
    def folder(self) -> Path:
        """The mesh's own copy of `gossamer.yaml` and `config/`."""

    @property
    def ingress(self) -> str:
        """The ingress gateway's base URL, such as `http://127.0.0.1:8080`."""

    @property
    def state(self) -> Path:
        """Where everything keeps what it must not forget."""

    @property
    def logs(self) -> Path:
        """The folder of all log files."""

    @property
    def capture(self) -> str:
        """The way of capturing traffic in use, in words."""

    def pid(self, what: str) -> int:
        """The process that is `what` now. UnavailableError while there is none."""

    def log(self, what: str) -> Path:
        """The file into which `what` writes; Envoy's access log is part of its file."""

    def held(self, what: str) -> AbstractContextManager[None]:
        """Within it `what` is not started again when it ends; afterwards it is, at once."""

    async def status(self) -> MeshStatus:
        """What is known now. UnavailableError while the control plane or the agent does not answer."""

    async def wait_ready(self, timeout_s: float) -> None:
        """Return once every proxy is in sync and every workload ready. UnavailableError, naming what is missing, when
        `timeout_s` have passed."""

    def mesh_address(self, workload: str) -> tuple[str, int]:
        """Where, on this host, the sidecar of `NAMESPACE/WORKLOAD` takes mutual TLS for its application's port."""
