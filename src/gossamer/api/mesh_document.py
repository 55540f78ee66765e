"""The document that holds the MeshConfig: a bare MeshConfig, as Istio's `mesh` key has it.

A setting that is not supported yet is warned of and left out; the others hold. Refusing them all would take away more
than it keeps: a trust domain, say, or REGISTRY_ONLY.

Invariant: with any error there is no MeshConfig, and the last valid one stays.
"""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final

from gossamer.api.document import diagnose
from gossamer.api.findings import At
from gossamer.api.mesh_config import MeshConfig
from gossamer.api.positions import Path
from gossamer.api.profile import Profile, lay_mesh_under
from gossamer.api.reader import Chunk, UnreadableError, read_value, split_documents
from gossamer.api.rules.common import written
from gossamer.api.rules.mesh import check_mesh_config
from gossamer.api.structure import build_typed
from gossamer.api.unsupported import check_support
from gossamer.core.diagnostics import Diagnostic, Diagnostics, Position, Severity
from gossamer.core.ids import ResourceId

MESH_CONFIG: Final = ResourceId(kind="MeshConfig")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MeshReading:
    """`mesh` is None when the text gives no valid MeshConfig, and `source` what gives it again, as JSON. The
    diagnostics name no file."""

    mesh: MeshConfig | None
    diagnostics: Diagnostics = ()
    source: str = ""


def read_mesh_config(text: str, key: str = "", profile: Profile = Profile.NONE) -> MeshReading:
    """What the text of a MeshConfig says, or the MeshConfig under `key` of the mapping that the text holds; an empty
    one is the default. Where it says nothing, the profile does. Never raises."""
    given: list[tuple[Any, Chunk]] = []
    for chunk in split_documents(text):
        try:
            value = read_value(chunk.text)
        except UnreadableError as error:
            message = f"the MeshConfig cannot be read: {error.message}"
            return _refused(message, Position(line=chunk.line + error.line, column=error.column))
        if value is not None:
            given.append((value, chunk))
    if len(given) > 1:
        return _refused("there can be one MeshConfig", Position(line=given[1][1].line + 1, column=1))
    value, chunk = given[0] if given else (None, Chunk(text="", line=0))
    if key:
        value = written(value, key) if isinstance(value, dict) else None
    if value is None:
        laid = lay_mesh_under({}, profile)
        # nothing said is nothing to check, and most meshes start so: what checks takes a while to make
        return MeshReading(mesh=build_mesh_config(laid)[0] if laid else MeshConfig())
    mesh, at = build_mesh_config(lay_mesh_under(value, profile), (key,) if key else ())
    found = diagnose(chunk.text, [(MESH_CONFIG, finding) for finding in at.findings], line=chunk.line)
    return MeshReading(mesh=mesh, diagnostics=found, source=json.dumps(value))


def _refused(message: str, position: Position) -> MeshReading:
    problem = Diagnostic(
        severity=Severity.ERROR, code="invalid-yaml", message=message, kind=MESH_CONFIG.kind, position=position
    )
    return MeshReading(mesh=None, diagnostics=(problem,))


def build_mesh_config(value: Any, path: Path = ()) -> tuple[MeshConfig | None, At]:
    """The MeshConfig that a value says, None when it is not valid; and what is wrong with it."""
    at = At(path)
    mesh = build_typed(MeshConfig, value, at)
    if mesh is None:
        return None, at
    check_mesh_config(mesh, at)
    if at.has_errors:
        return None, at
    unsupported = At(path)
    check_support("MeshConfig", value, unsupported)
    at.findings.extend(unsupported.findings)
    unused = [finding for finding in unsupported.findings if finding.severity is not Severity.INFO]
    if unused:
        left = deepcopy(value)
        for finding in unused:
            _leave_out(left, finding.path[len(path) :])
        mesh = build_typed(MeshConfig, left, At())
    return mesh, at


def _leave_out(value: Any, path: Path) -> None:
    for step in path[:-1]:
        value = written(value, step) if isinstance(step, str) else value[step] if isinstance(value, list) else None
    if isinstance(value, dict):  # else what holds it is left out already
        for key in [key for key in value if written({key: 0}, str(path[-1])) is not None]:
            del value[key]
