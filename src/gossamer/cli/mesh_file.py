"""`gossamer.yaml` as commands use it: read with what it names, its workloads as specs for an agent."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from gossamer.api.load import SourceFile, load
from gossamer.api.mesh_file import MeshFile, join_deployments, load_mesh_file
from gossamer.api.mesh_members import GatewayProxy, Health, WorkloadProcess
from gossamer.api.profile import Profile
from gossamer.api.proxy_config import InboundInterceptionMode
from gossamer.api.reader import read_value
from gossamer.api.workload_group import HTTPHealthCheckConfig, TCPHealthCheckConfig
from gossamer.core.diagnostics import Diagnostics
from gossamer.core.errors import UsageError
from gossamer.core.frozen import FrozenMap
from gossamer.model.proxy import ProxyType
from gossamer.node.health import Probe
from gossamer.node.probes import probe_of
from gossamer.node.workload import Here, ServedPort, WorkloadSpec, placed
from gossamer.sources.files import FileSource

_NOWHERE: Final = Here()


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedMesh:
    """A mesh file that can be run. `mesh_config` is its MeshConfig as JSON text, None when it has none."""

    path: Path
    file: MeshFile
    config: tuple[Path, ...]
    mesh_config: str | None
    specs: tuple[WorkloadSpec, ...]
    attestors: Path | None
    diagnostics: Diagnostics

    @property
    def profile(self) -> Profile:
        """What lies under the mesh's configuration."""
        return self.file.profile

    def way(self, asked: str) -> str:
        """How its traffic is captured: as asked for, or else as interceptionMode says (NONE: explicitly)."""
        config = self.file.mesh_config.default_config
        none = config is not None and config.interception_mode is InboundInterceptionMode.NONE
        return "explicit" if asked == "auto" and none else asked

    @property
    def trust_domain(self) -> str:
        return self.file.mesh_config.trust_domain or "cluster.local"


def open_mesh(path: Path, here: Here = _NOWHERE) -> tuple[OpenedMesh | None, Diagnostics]:
    """The mesh of a file, or None with the errors that stand in its way. UsageError when there is no such file.

    `here` goes before what the file says of its machine.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error
    reading = load_mesh_file(text, str(path))
    if reading.file is None:
        return None, reading.diagnostics
    folder = path.absolute().parent
    config = tuple(folder / entry for entry in reading.file.config)
    files = FileSource(config).latest.value
    loaded = load([SourceFile(name=name, text=content) for name, content in files.texts.items()])
    workloads = join_deployments(reading.file.workloads, loaded.config.deployments)
    specs = [_workload(workload, folder) for workload in workloads]
    specs += [_gateway(gateway, folder) for gateway in reading.file.gateways]
    file = reading.file
    host = Here(
        locality=here.locality or file.locality,
        network=here.network or file.network,
        cluster=here.cluster or file.cluster,
    )
    opened = OpenedMesh(
        path=path,
        attestors=folder / file.attestors if file.attestors else None,
        file=reading.file,
        config=config,
        mesh_config=_mesh_config(text),
        specs=tuple(placed(spec, host) for spec in specs),
        diagnostics=(*reading.diagnostics, *files.diagnostics, *loaded.diagnostics),
    )
    return opened, opened.diagnostics


def _mesh_config(text: str) -> str | None:
    value = read_value(text)
    given = value.get("meshConfig", value.get("mesh_config")) if isinstance(value, dict) else None
    return json.dumps(given, indent=1) if given is not None else None


def _workload(workload: WorkloadProcess, folder: Path) -> WorkloadSpec:
    return WorkloadSpec(
        name=workload.name,
        namespace=workload.namespace,
        service_account=workload.service_account,
        group=workload.group,
        labels=workload.labels,
        ports=tuple(ServedPort(number=port.port, name=port.name) for port in workload.ports),
        here=_here(workload),
        weight=workload.weight,
        command=tuple(part.replace("${PYTHON}", sys.executable) for part in workload.command),
        env=workload.env,
        cwd=str(folder / workload.working_dir),
        health=_probe(workload.health) if workload.health else None,
        users=workload.users,
        workload_api=workload.workload_api,
        credentials=tuple(str(folder / path) for path in workload.credentials),
        readiness_port=workload.readiness_port,
    )


def _gateway(gateway: GatewayProxy, folder: Path) -> WorkloadSpec:
    ports = FrozenMap({port.port: port.target_port or port.port for port in gateway.ports})
    return WorkloadSpec(
        name=gateway.name,
        namespace=gateway.namespace,
        service_account=gateway.service_account or "default",
        labels=gateway.labels,
        here=_here(gateway),
        type=ProxyType.ROUTER,
        ports=tuple(ServedPort(number=port.port, name=port.name) for port in gateway.ports),
        gateway_address=gateway.address or "0.0.0.0",  # noqa: S104 - a gateway is for those outside
        gateway_ports=ports,
        credentials=tuple(str(folder / path) for path in gateway.credentials),
        readiness_port=gateway.readiness_port,
    )


def _here(proxy: WorkloadProcess | GatewayProxy) -> Here:
    return Here(locality=proxy.locality, network=proxy.network, cluster=proxy.cluster)


def _probe(health: Health) -> Probe | None:
    if not health.port:
        return probe_of(health, period=None)
    long = (
        replace(health, http_get=HTTPHealthCheckConfig(port=health.port, path=health.path))
        if health.path
        else replace(health, tcp_socket=TCPHealthCheckConfig(port=health.port))
    )
    return probe_of(long, period=None)
