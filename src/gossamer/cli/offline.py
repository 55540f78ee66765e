"""The pipeline on files alone: configuration to what one proxy is told.

Invariant: the same functions as the control plane's, on what the files say; nobody is registered but whom the caller
adds.
"""

from __future__ import annotations

from dataclasses import dataclass

from gossamer.api.config import Config
from gossamer.compile.compile import compile_proxy
from gossamer.core.frozen import EMPTY, FrozenMap
from gossamer.core.memo import Memo
from gossamer.core.resources import Resources
from gossamer.model.build_endpoints import Endpoints, build_endpoints
from gossamer.model.build_view import view_for
from gossamer.model.mesh import Mesh, build_mesh
from gossamer.model.modules import Modules
from gossamer.model.proxy import Proxy
from gossamer.model.service import Workload
from gossamer.model.tokens import KeySource


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fleet:
    """A mesh with everyone who runs in it."""

    mesh: Mesh
    endpoints: Endpoints
    memo: Memo

    def resources(self, proxy: Proxy) -> Resources:
        """What this proxy is told."""
        return compile_proxy(view_for(self.mesh, self.endpoints, proxy, self.memo), self.memo)


def build_fleet(
    config: Config,
    memo: Memo,
    registrations: tuple[Workload, ...] = (),
    keys: FrozenMap[KeySource, str] = EMPTY,
) -> Fleet:
    """The mesh of a configuration; `registrations` run in it beside the workloads that its documents declare. `keys`
    are those of token issuers, as far as they were fetched."""
    mesh = build_mesh(config, memo, Modules(assumed=True), keys)
    endpoints = build_endpoints(config, registrations, mesh, memo)
    return Fleet(mesh=mesh, endpoints=endpoints, memo=memo)
