"""What MeshConfig and its defaults say about the whole mesh, resolved once."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from gossamer.api.destination_rule import (
    ClientTLSSettings,
    ConnectionPoolSettings,
    LocalityLoadBalancerSetting,
    OutlierDetection,
    TcpKeepalive,
    ZoneAwareLoadBalancerSetting,
)
from gossamer.api.mesh_config import (
    InboundTrafficPolicyMode,
    MeshConfig,
    MeshH2UpgradePolicy,
    NormalizationType,
    OutboundTrafficPolicyMode,
)
from gossamer.api.proxy_config import ConnectionSettings, ProxyConfig, ProxyHeaders, Topology
from gossamer.api.virtual_service import Destination, HTTPRetry
from gossamer.core.frozen import FrozenMap, Value
from gossamer.model.anchors import Anchors, build_anchors, build_foreign
from gossamer.model.connections import connection_settings
from gossamer.model.names import most_specific
from gossamer.model.tls_choices import NO_CHOICES, TlsChoices, build_tls_choices

TELL_DENIALS: Final = "GOSSAMER_TELL_DENIALS"
"""The variable of `defaultConfig.proxyMetadata` by which whoever is denied is told why; `true` or `false`."""


class Unknown(StrEnum):
    """What becomes of calls to what nobody declared (`outboundTrafficPolicy.mode`)."""

    REGISTRY_ONLY = "REGISTRY_ONLY"
    """They are refused."""
    ALLOW_ANY = "ALLOW_ANY"
    """They go to the address that was dialled, or to an egress proxy."""
    ALLOW_ANY_DYNAMIC_DNS = "ALLOW_ANY_DYNAMIC_DNS"
    """Plaintext HTTP goes to the host that it names, looked up by the proxy; all else to the address dialled."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OutboundPolicy(Value):
    """`outboundTrafficPolicy`, of the mesh or of a Sidecar. `egress_proxy` takes what nobody declared, under ALLOW_ANY
    (its host is a full name); `tls` is spoken to hosts that are looked up."""

    unknown: Unknown = Unknown.ALLOW_ANY
    egress_proxy: Destination | None = None
    tls: ClientTLSSettings | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MeshSettings(Value):
    """Mesh-wide settings. Durations are seconds."""

    root_namespace: str = "istio-system"
    trust_domain: str = "cluster.local"
    trust_domain_aliases: tuple[str, ...] = ()
    domain: str = "cluster.local"
    outbound: OutboundPolicy = OutboundPolicy()
    """The mesh's; for one proxy, that of its Sidecar."""
    inbound_localhost: bool = False
    """inboundTrafficPolicy: LOCALHOST, applications are called at 127.0.0.1 instead of their own address."""
    http_proxy_port: int = 0
    """Where sidecars serve as HTTP proxies on their workload's loopback; 0: nowhere."""
    looks_up: bool = False
    """Whether proxies look up hosts that requests name: some service or policy of the mesh asks for it."""
    cluster_local: FrozenMap[str, bool] = field(default_factory=FrozenMap)
    """By host, which may be a wildcard: whether callers reach endpoints of their own cluster alone."""
    auto_mtls: bool = True
    tls: TlsChoices = NO_CHOICES
    anchors: tuple[Anchors, ...] = ()
    """What workloads believe beside the mesh's own roots."""
    revoked: str = ""
    """Names the last revocation of a certificate; whoever was let in before it is to be looked at anew."""
    foreign: tuple[Anchors, ...] = ()
    """The trust domains beside the mesh's own whose workloads are let in, each by its own roots."""
    connect_timeout: float = 10.0
    inbound_stat_name: str = ""
    """Patterns of the names under which clusters are counted; empty for their own."""
    outbound_stat_name: str = ""
    access_log: str = ""
    access_log_format: str = ""
    access_log_json: bool = False
    observed: bool = False
    """Whether an agent takes note of what comes in; never the mesh's, only a proxy's inbound side."""
    tells_denials: bool = False
    """Whether who is denied is told by which policy, and why a token was refused."""
    dns_refresh: float = 60.0
    protocol_detection_timeout: float = 0.0
    """How long a listener waits for the first bytes of an AUTO port; 0 means for ever."""
    path_normalization: NormalizationType = NormalizationType.DEFAULT
    topology: Topology = field(default_factory=Topology)
    """What stands before gateways: proxies that are trusted, and what is believed of clients' certificates."""
    upgrade_to_http2: bool = False
    headers: ProxyHeaders = field(default_factory=ProxyHeaders)
    connections: ConnectionSettings | None = None
    """Of all connections that proxies serve; None leaves them at what Envoy does."""
    default_retries: HTTPRetry | None = None
    default_pool: ConnectionPoolSettings | None = None
    default_outlier_detection: OutlierDetection | None = None
    tcp_keepalive: TcpKeepalive | None = None
    locality: LocalityLoadBalancerSetting | None = None
    zone_aware: ZoneAwareLoadBalancerSetting | None = None
    export_services_to: tuple[str, ...] = ("*",)
    export_routes_to: tuple[str, ...] = ("*",)
    export_destinations_to: tuple[str, ...] = ("*",)

    def is_cluster_local(self, host: str) -> bool:
        """Whether callers of a host reach endpoints of their own cluster alone: as its most specific pattern says."""
        if not self.cluster_local:
            return False
        pattern = most_specific(self.cluster_local, host)
        return pattern is not None and self.cluster_local[pattern]

    @property
    def registry_only(self) -> bool:
        return self.outbound.unknown is Unknown.REGISTRY_ONLY

    @property
    def counts_attempts(self) -> bool:
        """Whether a request says how often it was tried."""
        count = self.headers.attempt_count
        return not (count and count.disabled)

    @property
    def keeps_rewritten_host(self) -> bool:
        """Whether X-Forwarded-Host tells the host that a rewrite replaced."""
        told = self.headers.x_forwarded_host
        return bool(told and told.enabled)

    @property
    def trust_domains(self) -> tuple[str, ...]:
        """The mesh's own trust domain first, then its aliases."""
        return (self.trust_domain, *(alias for alias in self.trust_domain_aliases if alias != self.trust_domain))

    @property
    def peer_domains(self) -> tuple[str, ...]:
        """The trust domains whose workloads are let in, as far as policies let them: the mesh's own, then foreign."""
        return (*self.trust_domains, *(one.domain for one in self.foreign))


def build_settings(mesh: MeshConfig) -> MeshSettings:
    """The settings that a MeshConfig makes."""
    detection, policy, inbound = (
        mesh.protocol_detection_timeout,
        mesh.outbound_traffic_policy,
        mesh.inbound_traffic_policy,
    )
    traffic, proxies = mesh.default_traffic_policy, mesh.default_config or ProxyConfig()
    return MeshSettings(
        root_namespace=mesh.root_namespace,
        trust_domain=mesh.trust_domain,
        trust_domain_aliases=mesh.trust_domain_aliases,
        outbound=OutboundPolicy(unknown=Unknown(policy.mode.value), tls=policy.tls),
        http_proxy_port=mesh.proxy_http_port,
        looks_up=policy.mode is OutboundTrafficPolicyMode.ALLOW_ANY_DYNAMIC_DNS,
        inbound_localhost=inbound is not None and inbound.mode is InboundTrafficPolicyMode.LOCALHOST,
        cluster_local=FrozenMap(
            (host.lower(), one.settings.cluster_local)
            for one in mesh.service_settings
            if one.settings is not None
            for host in one.hosts
        ),
        auto_mtls=mesh.enable_auto_mtls,
        tls=build_tls_choices(mesh),
        anchors=build_anchors(mesh, (mesh.trust_domain, *mesh.trust_domain_aliases)),
        foreign=build_foreign(mesh, (mesh.trust_domain, *mesh.trust_domain_aliases)),
        connect_timeout=mesh.connect_timeout.total_seconds(),
        inbound_stat_name=mesh.inbound_cluster_stat_name,
        outbound_stat_name=mesh.outbound_cluster_stat_name,
        access_log=mesh.access_log_file,
        access_log_format=mesh.access_log_format,
        access_log_json=mesh.access_log_encoding == "JSON",
        tells_denials=proxies.proxy_metadata.get(TELL_DENIALS) == "true",
        dns_refresh=mesh.dns_refresh_rate.total_seconds(),
        protocol_detection_timeout=detection.total_seconds() if detection else 0.0,
        path_normalization=mesh.path_normalization.normalization
        if mesh.path_normalization
        else NormalizationType.DEFAULT,
        upgrade_to_http2=mesh.h2_upgrade_policy is MeshH2UpgradePolicy.UPGRADE,
        topology=proxies.gateway_topology or Topology(),
        headers=proxies.proxy_headers or ProxyHeaders(),
        connections=connection_settings(proxies.connection_settings),
        default_retries=mesh.default_http_retry_policy,
        default_pool=traffic.connection_pool if traffic else None,
        default_outlier_detection=traffic.outlier_detection if traffic else None,
        tcp_keepalive=mesh.tcp_keepalive,
        locality=mesh.locality_lb_setting,
        zone_aware=mesh.zone_aware_lb_setting,
        export_services_to=mesh.default_service_export_to,
        export_routes_to=mesh.default_virtual_service_export_to,
        export_destinations_to=mesh.default_destination_rule_export_to,
    )


def observed(settings: MeshSettings) -> MeshSettings:
    """The settings by which the inbound side of an observed proxy is compiled."""
    return replace(settings, observed=True)


def looking_up(settings: MeshSettings) -> MeshSettings:
    """The settings of a mesh with services whose hosts are looked up as they are asked for."""
    return replace(settings, looks_up=True)
