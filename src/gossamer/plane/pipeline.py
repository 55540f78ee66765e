"""The pure pipeline, held by the process that runs it: the memo, the last good configuration, the newest build.

Every step is a pure function of what stands here; nothing waits, and nothing is marked as changed.
"""

from __future__ import annotations

from gossamer.api.last_good import LastGood
from gossamer.api.load import Loaded, SourceFile, load
from gossamer.compile.compile import compile_proxy
from gossamer.core.diagnostics import Diagnostics
from gossamer.core.memo import Memo
from gossamer.core.resources import Resources
from gossamer.model.build_endpoints import Endpoints, build_endpoints
from gossamer.model.build_view import view_for
from gossamer.model.mesh import Mesh, build_mesh
from gossamer.model.proxy import Proxy
from gossamer.model.service import Service, Workload
from gossamer.sources.files import Files


class Pipeline:
    """Builds whenever it is told to; `resources` answers for one proxy from the newest build."""

    def __init__(self, *, mesh_config: str | None, last_good: LastGood | None) -> None:
        """`mesh_config` names the file, among those that are read, that is a bare MeshConfig."""
        self.generation = 0
        self.last_good = last_good or LastGood()
        self.loaded: Loaded | None = None
        self._built: tuple[Mesh, Endpoints] | None = None
        self._mesh_config = mesh_config
        self._memo = Memo()
        self._source_diagnostics: Diagnostics = ()

    def build(self, files: Files, registrations: tuple[Workload, ...]) -> None:
        """Make mesh and endpoints of these files and workloads."""
        sources = [SourceFile(name=name, text=text) for name, text in files.texts.items() if name != self._mesh_config]
        mesh_config = self._mesh_config and files.texts.get(self._mesh_config)
        bare = SourceFile(name=self._mesh_config or "", text=mesh_config) if mesh_config is not None else None
        self.loaded = load(sources, self.last_good, mesh_config=bare, memo=self._memo)
        self.last_good = self.loaded.last_good
        mesh = build_mesh(self.loaded.config, self._memo)
        self._built = (mesh, build_endpoints(self.loaded.config, registrations, mesh, self._memo))
        self._source_diagnostics = files.diagnostics
        self.generation += 1

    @property
    def ready(self) -> bool:
        """Whether there is a configuration to give: some is held of every file."""
        return self.loaded is not None and self.loaded.ready

    @property
    def diagnostics(self) -> Diagnostics:
        """What is wrong with the configuration as it stands now."""
        return (*self._source_diagnostics, *(self.loaded.diagnostics if self.loaded else ()))

    @property
    def namespaces(self) -> tuple[str, ...]:
        """Those with services, sorted."""
        return tuple(sorted({service.namespace for service in self._built[0].services.all})) if self._built else ()

    @property
    def trust_domain(self) -> str:
        """The trust domain that MeshConfig gives to the mesh."""
        return self._built[0].settings.trust_domain if self._built else "cluster.local"

    @property
    def services(self) -> tuple[str, ...]:
        """The ports of services that an HTTP proxy cannot serve, as `hostname:port`, sorted."""
        if self._built is None:
            return ()
        return self._memo(_service_ports, self._built[0].services.all)

    def resources(self, proxy: Proxy) -> Resources | None:
        """What the newest build tells a proxy; None while there is none to give."""
        if self._built is None or not self.ready:
            return None
        mesh, endpoints = self._built
        return compile_proxy(view_for(mesh, endpoints, proxy, self._memo), self._memo)

    def settle(self) -> None:
        """Every connected proxy has been compiled: what nobody asked for may be forgotten."""
        self._memo.next_generation()


def _service_ports(services: tuple[Service, ...]) -> tuple[str, ...]:
    return tuple(
        sorted(
            f"{service.hostname}:{port.number}"
            for service in services
            for port in service.ports
            if not port.protocol.is_http and "*" not in service.hostname
        )
    )
