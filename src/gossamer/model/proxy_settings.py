"""How the Envoys of workloads are started: MeshConfig's `defaultConfig`, and the ProxyConfigs laid over it.

Invariant: precedence is Istio's: the mesh (MeshConfig, then the root namespace's ProxyConfig) below the namespace's,
below the one that selects the workload; of several at one level the oldest counts. Environment variables are merged by
name. All of it takes effect when an Envoy starts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import timedelta

from gossamer.api.mesh_config import MeshConfig
from gossamer.api.proxy_config import ConnectionSettings, ProxyConfig
from gossamer.api.resource import Resource
from gossamer.api.structure import to_json
from gossamer.api.workload_group import ReadinessProbe
from gossamer.api.workload_proxy_config import WorkloadProxyConfig
from gossamer.core.frozen import EMPTY, FrozenMap, Value
from gossamer.model.proxy import Proxy
from gossamer.model.started import DEFAULT, ProxySettings, may_be_set


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ProxySettingsIndex(Value):
    """The mesh's settings of proxies: those of all, of namespaces, and of selected workloads by namespace."""

    mesh: ProxySettings = DEFAULT
    namespaces: FrozenMap[str, Resource[WorkloadProxyConfig]] = field(default_factory=FrozenMap)
    selecting: FrozenMap[str, tuple[Resource[WorkloadProxyConfig], ...]] = field(default_factory=FrozenMap)

    def for_proxy(self, proxy: Proxy) -> ProxySettings:
        """The settings of one proxy."""
        found = self.mesh
        if proxy.namespace in self.namespaces:
            found = _over(found, self.namespaces[proxy.namespace].spec)
        for resource in self.selecting.get(proxy.namespace, ()):
            if _labels(resource).items() <= proxy.labels.items():
                return _over(found, resource.spec)
        return found


def build_proxy_settings(mesh: MeshConfig, resources: tuple[Resource[WorkloadProxyConfig], ...]) -> ProxySettingsIndex:
    """The settings that a configuration gives to proxies."""
    of_all = replace(
        _of_mesh(mesh.default_config) if mesh.default_config else DEFAULT,
        outbound_port=mesh.proxy_listen_port,
        inbound_port=mesh.proxy_inbound_listen_port,
    )
    namespaces: dict[str, Resource[WorkloadProxyConfig]] = {}
    selecting: dict[str, list[Resource[WorkloadProxyConfig]]] = {}
    for resource in sorted(resources, key=lambda r: r.age_key):
        if _labels(resource):
            selecting.setdefault(resource.namespace, []).append(resource)
        else:
            namespaces.setdefault(resource.namespace, resource)
    root = namespaces.pop(mesh.root_namespace, None)
    return ProxySettingsIndex(
        mesh=_over(of_all, root.spec) if root else of_all,
        namespaces=FrozenMap(namespaces),
        selecting=FrozenMap({namespace: tuple(group) for namespace, group in selecting.items()}),
    )


def _labels(resource: Resource[WorkloadProxyConfig]) -> FrozenMap[str, str]:
    return resource.spec.selector.match_labels if resource.spec.selector else EMPTY


def _over(below: ProxySettings, spec: WorkloadProxyConfig) -> ProxySettings:
    return replace(
        below,
        concurrency=below.concurrency if spec.concurrency is None else spec.concurrency,
        environment=_environment({**below.environment, **spec.environment_variables}.items()),
    )


def _of_mesh(config: ProxyConfig) -> ProxySettings:
    connections = config.connection_settings or ConnectionSettings()
    return ProxySettings(
        concurrency=config.concurrency,
        environment=_environment(config.proxy_metadata.items()),
        runtime=config.runtime_values,
        statsd=config.statsd_udp_address,
        termination_drain_s=_seconds(config.termination_drain_duration),
        flush_interval_s=_seconds(config.file_flush_interval),
        flush_kb=config.file_flush_min_size_kb,
        drain_s=None if config.drain_duration is None else round(config.drain_duration.total_seconds()),
        listener_connections=connections.listener_connection_limit,
        readiness_probe=_probe(config),
        max_connections=connections.global_downstream_connection_limit,
    )


def _probe(config: ProxyConfig) -> str:
    return to_json(ReadinessProbe, config.readiness_probe) if config.readiness_probe else ""


def _environment(variables: Iterable[tuple[str, str]]) -> FrozenMap[str, str]:
    return FrozenMap({name: value for name, value in variables if may_be_set(name)})


def _seconds(duration: timedelta | None) -> float | None:
    return None if duration is None else duration.total_seconds()
