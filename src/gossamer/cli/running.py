"""A running mesh as commands ask about it: its configuration as its control plane holds it, and who runs in it.

Invariant: what is built here is what the control plane built, by the same functions of the same values.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gossamer.api.last_good import LastGood
from gossamer.api.load import SourceFile, load
from gossamer.api.profile import Profile, profile_texts
from gossamer.cli.cast import Cast, build_running_cast
from gossamer.cli.inputs import Inputs
from gossamer.cli.parts import folders
from gossamer.core.errors import UnavailableError, UsageError
from gossamer.core.frozen import FrozenMap
from gossamer.core.ids import ResourceId
from gossamer.core.memo import Memo
from gossamer.model.modules import Modules
from gossamer.model.proxy import Proxy
from gossamer.model.service import Health, Workload
from gossamer.model.tokens import KeySource
from gossamer.plane.admission import admission_of, candidates_of, in_force
from gossamer.rpc.local import PLANE_SOCKET, call
from gossamer.sources.registry import Registry


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunningMesh:
    """A mesh of this host: the folder of its sockets, its configuration, and who is who in it."""

    folder: Path
    inputs: Inputs
    cast: Cast
    profile: Profile
    state: Path
    """Its control plane's state folder."""
    lifetime_s: float
    """Of a workload's certificate."""
    plugged: bool
    """Whether its authority is one that was plugged in."""


def open_running(state: Path | None) -> RunningMesh:
    """The mesh that runs on this host, or that of a state folder. Errors as of `folder_of`."""
    folder = folder_of(state)
    snapshot = call(folder / PLANE_SOCKET, "GET", "/v1/snapshot", timeout_s=30.0).json()
    inputs, cast = build_running(snapshot, Memo())
    return RunningMesh(
        folder=folder,
        inputs=inputs,
        cast=cast,
        profile=Profile(snapshot["profile"]),
        state=Path(snapshot["state"]),
        lifetime_s=snapshot["lifetime_s"],
        plugged=snapshot["plugged"],
    )


def folder_of(state: Path | None) -> Path:
    """The folder of the sockets of the mesh that runs on this host. UnavailableError when none does, UsageError when
    several do and none is named."""
    found = [folder for folder in folders(state) if (folder / PLANE_SOCKET).exists()]
    if len(found) > 1:
        raise UsageError(f"several meshes run on this host: choose one by --state ({', '.join(map(str, found))})")
    if not found:
        raise UnavailableError(
            "no control plane runs on this host; give the configuration by -f, or start `gossamer up`"
        )
    return found[0]


def build_running(snapshot: dict[str, Any], memo: Memo) -> tuple[Inputs, Cast]:
    """What a control plane's snapshot says."""
    texts, bare, profile = snapshot["texts"], snapshot["mesh_config"], Profile(snapshot["profile"])
    last_good = LastGood.from_bytes(snapshot["last_good"].encode("utf-8", "surrogatepass"))
    loaded = load(
        [SourceFile(name=name, text=text) for name, text in texts.items() if name != bare],
        last_good,
        mesh_config=SourceFile(name=bare, text=texts[bare]) if bare in texts else None,
        profile=profile,
        memo=memo,
    )
    config = loaded.config
    if snapshot["admitted"] is not None:
        admitted = {
            ResourceId(kind=kind, namespace=namespace, name=name): text
            for kind, namespace, name, text in snapshot["admitted"]
        }
        modules = Modules(assumed=True)
        config, _ = in_force(config, candidates_of(config, modules, loaded.index), admission_of(admitted))
    keys = {KeySource(url=one["url"], discovered=one["discovered"]): one["jwks"] for one in snapshot["keys"]}
    cast = build_running_cast(config, memo, _registered(snapshot), FrozenMap(keys))
    texts |= profile_texts(profile, config.mesh.root_namespace)
    return Inputs(texts=texts, loaded=loaded, diagnostics=loaded.diagnostics), cast


def _registered(snapshot: dict[str, Any]) -> list[tuple[Proxy, Workload]]:
    registry = Registry(snapshot["trust_domain"])
    registry.restore(snapshot["registrations"], 0.0)
    lost = {(namespace, name) for namespace, name in snapshot["lost"]}
    return [
        (entry.proxy, _unheard(entry.workload) if key in lost else entry.workload)
        for key, entry in registry.snapshot.items()
    ]


def _unheard(workload: Workload) -> Workload:
    """A workload whose lease has ended."""
    return workload if workload.health is Health.UNREADY else replace(workload, health=Health.UNHEALTHY)
