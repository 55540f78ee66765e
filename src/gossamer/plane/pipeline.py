"""The pure pipeline, held by the process that runs it: the memo, the last good configuration, the newest build.

Every step is a pure function of what stands here; nothing waits, and nothing is marked as changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from gossamer.api.config import Config
from gossamer.api.destination_rule import DestinationRule
from gossamer.api.last_good import LastGood
from gossamer.api.load import Loaded, SourceFile, load
from gossamer.api.profile import Profile
from gossamer.api.resource import Resource
from gossamer.api.source_index import placed
from gossamer.compile.check import check_config
from gossamer.compile.compile import compile_proxy
from gossamer.compile.patches.patch import bootstrap_patches
from gossamer.core.diagnostics import Diagnostics
from gossamer.core.frozen import FrozenMap
from gossamer.core.ids import ResourceId
from gossamer.core.memo import Memo
from gossamer.core.resources import Resources
from gossamer.model.anchors import with_bundles
from gossamer.model.build_endpoints import Endpoints, build_endpoints
from gossamer.model.build_view import metadata_for, view_for
from gossamer.model.checks import check_resources
from gossamer.model.groups import Groups
from gossamer.model.mesh import Mesh, build_mesh
from gossamer.model.modules import Modules
from gossamer.model.proxy import Proxy
from gossamer.model.service import Protocol, Resolution, Service, Workload
from gossamer.model.settings import MeshSettings
from gossamer.model.tokens import KeySource
from gossamer.plane.admission import Candidate, admission_of, candidates_of, in_force, unjudged
from gossamer.plane.envoy_check import Trial
from gossamer.plane.starts import start_message
from gossamer.plane.trials import trials_of
from gossamer.rpc import gossamer_pb2 as rpc
from gossamer.sources.files import Files


class Pipeline:
    """Builds whenever it is told to; `resources` answers for one proxy from the newest build."""

    def __init__(
        self,
        *,
        mesh_config: str | None,
        last_good: LastGood | None,
        admitted: Mapping[ResourceId, str] | None = None,
        profile: Profile = Profile.NONE,
    ) -> None:
        """`mesh_config` names the file, among those that are read, that is a bare MeshConfig. `admitted` are the
        documents of EnvoyFilters and extensions that Envoy took already; None: nobody judges, and all are in force.
        `profile` lies under all that is read."""
        self.generation = 0
        self.last_good = last_good or LastGood()
        self.loaded: Loaded | None = None
        self._built: tuple[Mesh, Endpoints] | None = None
        self._running: tuple[Workload, ...] = ()
        self._mesh_config = mesh_config
        self.profile = profile
        self._memo = Memo()
        self._source_diagnostics: Diagnostics = ()
        self.admission = None if admitted is None else admission_of(admitted)
        self.modules = Modules()
        self.keys: FrozenMap[KeySource, str] = FrozenMap()
        """The keys of token issuers that were fetched."""
        self.revoked = ""
        """Names the last revocation of a certificate."""
        self.bundles: FrozenMap[str, str] = FrozenMap()
        """The roots (PEM) of foreign trust domains that were fetched, by URL."""
        self.notices: Diagnostics = ()
        """What is wrong with the modules; without positions."""
        self.wanted: dict[ResourceId, Candidate] = {}

    def build(self, files: Files, registrations: tuple[Workload, ...]) -> None:
        """Make mesh and endpoints of these files and workloads."""
        sources = [SourceFile(name=name, text=text) for name, text in files.texts.items() if name != self._mesh_config]
        mesh_config = self._mesh_config and files.texts.get(self._mesh_config)
        bare = SourceFile(name=self._mesh_config or "", text=mesh_config) if mesh_config is not None else None
        self.loaded = load(sources, self.last_good, mesh_config=bare, profile=self.profile, memo=self._memo)
        self.last_good = self.loaded.last_good
        config, modules = self.loaded.config, self.modules
        self.wanted = candidates_of(config, modules, self.loaded.index)
        if self.admission is not None:
            config, modules = in_force(config, self.wanted, self.admission)
        told = self._memo(with_bundles, config.mesh, self.bundles)
        if told is not config.mesh:
            config = replace(config, mesh=told)
        mesh = build_mesh(config, self._memo, modules, self.keys)
        if self.revoked:
            mesh = self._memo(_with_settings, mesh, self._memo(_revised, mesh.settings, self.revoked))
        self._built = (mesh, build_endpoints(self.loaded.config, registrations, mesh, self._memo))
        self._running = registrations
        self._source_diagnostics = files.diagnostics
        self.generation += 1

    @property
    def built(self) -> tuple[Mesh, Endpoints] | None:
        """The newest build; None before the first."""
        return self._built

    @property
    def groups(self) -> Groups:
        """The WorkloadGroups that are in force."""
        return self._built[0].groups if self._built is not None else FrozenMap()

    @property
    def watches(self) -> bool:
        """Whether some service has outlier detection or active checks, by which Envoys leave endpoints out."""
        if self.loaded is None or self._built is None:
            return False
        settings = self._built[0].settings
        if settings.default_outlier_detection is not None or self.loaded.config.health_checks:
            return True
        return self._memo.keep("", _some_detect, self.loaded.config.destination_rules)

    @property
    def ready(self) -> bool:
        """Whether there is a configuration to give: some is held of every file."""
        return self.loaded is not None and self.loaded.ready

    @property
    def diagnostics(self) -> Diagnostics:
        """What is wrong with the configuration as it stands now."""
        if self.loaded is None:
            return self._source_diagnostics
        checked = check_config(self.loaded.config, self._memo)
        resources = check_resources(self.loaded.config, self._memo, self._running)
        judged = self.admission.diagnostics if self.admission else ()
        return (
            *self._source_diagnostics,
            *self.loaded.diagnostics,
            *placed((*resources, *checked, *judged, *self.notices), self.loaded.index),
        )

    @property
    def unjudged(self) -> bool:
        """Whether something is asked for that was not judged as it stands."""
        return self.admission is not None and bool(unjudged(self.wanted, self.admission))

    @property
    def admitted_texts(self) -> dict[ResourceId, str]:
        """The documents of what Envoy took, for the next control plane."""
        taken = self.admission.taken if self.admission else {}
        return {id_: candidate.text for id_, candidate in taken.items() if candidate.text}

    def trials(self, config: Config, modules: Modules, running: Iterable[Proxy]) -> Iterator[tuple[Trial, Trial]]:
        """What Envoy is shown of a configuration that differs from the newest build in EnvoyFilters and extensions."""
        if self._built is None:
            return iter(())
        return trials_of(config, modules, self._built[1], running, self._memo)

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
        return self._memo(_service_ports, self._built[0].services.all, web=False)

    @property
    def web_services(self) -> tuple[str, ...]:
        """The ports of services that an HTTP proxy can serve."""
        if self._built is None:
            return ()
        return self._memo(_service_ports, self._built[0].services.all, web=True)

    def resources(self, proxy: Proxy) -> Resources | None:
        """What the newest build tells a proxy; None while there is none to give."""
        if self._built is None or not self.ready:
            return None
        mesh, endpoints = self._built
        return compile_proxy(view_for(mesh, endpoints, proxy, self._memo), self._memo)

    def start(self, proxy: Proxy) -> rpc.Start | None:
        """How a proxy is to be started; None while there is no configuration to say it by."""
        if self._built is None or not self.ready:
            return None
        mesh = self._built[0]
        patches = bootstrap_patches(mesh.patches.for_bootstrap(proxy, metadata_for(mesh, proxy)))
        return start_message(proxy, mesh.proxies.for_proxy(proxy), patches)

    def settle(self) -> None:
        """Every connected proxy has been compiled: what nobody asked for may be forgotten."""
        self._memo.next_generation()


def _some_detect(rules: tuple[Resource[DestinationRule], ...]) -> bool:
    policies = (p for rule in rules for p in (rule.spec.traffic_policy, *(s.traffic_policy for s in rule.spec.subsets)))
    return any(
        policy.outlier_detection is not None
        or any(port.outlier_detection is not None for port in policy.port_level_settings)
        for policy in policies
        if policy is not None
    )


def _service_ports(services: tuple[Service, ...], *, web: bool) -> tuple[str, ...]:
    """Without those that are nobody's to answer for: what is dialled is where they are (`resolution: NONE`)."""
    return tuple(
        sorted(
            f"{service.hostname}:{port.number}"
            for service in services
            for port in service.ports
            if port.protocol.is_http is web
            and port.protocol is not Protocol.UDP
            and not service.wildcard
            and service.resolution is not Resolution.NONE
        )
    )


def _revised(settings: MeshSettings, revoked: str) -> MeshSettings:
    """The settings after the last revocation: connections that were let in before it are to end."""
    return replace(settings, revoked=revoked)


def _with_settings(mesh: Mesh, settings: MeshSettings) -> Mesh:
    return replace(mesh, settings=settings)
