"""`gossamer.yaml`: what runs on one machine, for `gossamer up`.

Invariant: strict, like the kinds; a relative path is relative to the folder of the file, which is its reader's to know.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaWarningKind

from gossamer.api.common import STRICT, UInt32
from gossamer.api.findings import At
from gossamer.api.kubernetes import Deployment
from gossamer.api.mesh_config import MeshConfig
from gossamer.api.mesh_document import build_mesh_config
from gossamer.api.mesh_members import (
    CapturedTraffic,
    GatewayProxy,
    WorkloadPort,
    WorkloadProcess,
    check_gateway,
    check_place,
    check_workload,
)
from gossamer.api.own_file import read_own_file
from gossamer.api.profile import Profile
from gossamer.api.resource import Resource
from gossamer.api.rules.common import check_unique, require
from gossamer.api.structure import adapter_of, build_typed
from gossamer.core.diagnostics import Diagnostics

VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshFile:
    """A whole `gossamer.yaml`."""

    __pydantic_config__ = STRICT
    version: UInt32
    profile: Profile = Profile.NONE
    """Configuration that lies under this mesh's own: `nist`."""
    mesh_config: MeshConfig = field(default_factory=MeshConfig)
    config: tuple[str, ...] = ()
    locality: str = ""
    """`region/zone/subzone` of this machine; what a workload or its labels say goes before."""
    network: str = ""
    cluster: str = ""
    attestors: str = ""
    """A file of those who vouch for further hosts (`gossamer control-plane --attestors`)."""
    gateways: tuple[GatewayProxy, ...] = ()
    workloads: tuple[WorkloadProcess, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshFileReading:
    """`file` is None when there are errors other than settings of MeshConfig that are not supported yet."""

    file: MeshFile | None
    diagnostics: Diagnostics


def load_mesh_file(text: str, name: str = "gossamer.yaml") -> MeshFileReading:
    """What a `gossamer.yaml` says. Never raises for what a user wrote."""
    file, diagnostics = read_own_file(text, name, _build)
    return MeshFileReading(file=file, diagnostics=diagnostics)


def _build(value: Any, at: At) -> MeshFile | None:
    if not isinstance(value, dict):
        at.error("required", "expected a mapping with version, workloads and so on")
        return None
    mesh: MeshConfig | None = MeshConfig()
    mesh_at = At(("meshConfig",))
    rest = {key: item for key, item in value.items() if key not in ("meshConfig", "mesh_config")}
    given = value.get("meshConfig", value.get("mesh_config"))
    if given is not None:
        mesh, mesh_at = build_mesh_config(given, ("meshConfig",))
    file = build_typed(MeshFile, rest, at)
    if file is not None:
        _check(file, at)
    valid = not at.has_errors
    at.findings.extend(mesh_at.findings)
    return replace(file, mesh_config=mesh) if file is not None and mesh is not None and valid else None


def _check(file: MeshFile, at: At) -> None:
    if file.version != VERSION:
        message = f"version {file.version} is not one that this Gossamer reads"
        at["version"].error("unknown-version", message, f"write version: {VERSION}")
    for index, path in enumerate(file.config):
        require(path, at["config", index], "a path must not be empty")
    check_place(file.locality, file.network, file.cluster, at)
    for index, gateway in enumerate(file.gateways):
        check_gateway(gateway, at["gateways", index])
    for index, workload in enumerate(file.workloads):
        check_workload(workload, at["workloads", index])
    _check_captured(file, at)
    gateways = [(f"{one.namespace}/{one.name}", at["gateways", i, "name"]) for i, one in enumerate(file.gateways)]
    workloads = [(f"{one.namespace}/{one.name}", at["workloads", i, "name"]) for i, one in enumerate(file.workloads)]
    check_unique([*gateways, *workloads], "name")


def _check_captured(file: MeshFile, at: At) -> None:
    """The host has one network, and so one workload to which its own processes belong."""
    captured = [index for index, workload in enumerate(file.workloads) if workload.capture is CapturedTraffic.HOST]
    for index in captured[1:]:
        name = file.workloads[captured[0]].name
        message = f"the processes of this machine are captured as {name} already; add these users there"
        at["workloads", index, "capture"].error("conflict", message)


def join_deployments(
    workloads: Iterable[WorkloadProcess], deployments: Iterable[Resource[Deployment]]
) -> tuple[WorkloadProcess, ...]:
    """The workloads, with labels, ports and service account that they leave out taken from the Deployment of their
    namespace and name; a service account that neither gives is `default`."""
    by_name = {(found.namespace, found.name): found.spec for found in deployments}
    return tuple(_joined(workload, by_name.get((workload.namespace, workload.name))) for workload in workloads)


def _joined(workload: WorkloadProcess, deployment: Deployment | None) -> WorkloadProcess:
    if deployment is None:
        return replace(workload, service_account=workload.service_account or ("" if workload.group else "default"))
    template = deployment.template
    ports = tuple(
        WorkloadPort(port=port.container_port, name=port.name)
        for container in template.spec.containers
        for port in container.ports
        if port.protocol == "TCP"
    )
    return replace(
        workload,
        service_account=workload.service_account or deployment.service_account,
        labels=workload.labels or template.metadata.labels,
        ports=workload.ports or ports,
    )


class _Schema(GenerateJsonSchema):
    """Leaves out defaults that JSON cannot write: empty maps."""

    ignored_warning_kinds: set[JsonSchemaWarningKind] = {"non-serializable-default", "skipped-choice"}


def mesh_file_schema() -> dict[str, Any]:
    """The JSON Schema of `gossamer.yaml`, for editors."""
    schema: dict[str, Any] = adapter_of(MeshFile).json_schema(by_alias=True, schema_generator=_Schema)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "gossamer.yaml", **schema}
