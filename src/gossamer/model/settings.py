"""What MeshConfig and its defaults say about the whole mesh, resolved once."""

from __future__ import annotations

from dataclasses import dataclass

from gossamer.api.destination_rule import ConnectionPoolSettings, OutlierDetection, TcpKeepalive
from gossamer.api.mesh_config import MeshConfig, MeshH2UpgradePolicy, NormalizationType, OutboundTrafficPolicyMode
from gossamer.api.virtual_service import HTTPRetry
from gossamer.core.frozen import Value


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MeshSettings(Value):
    """Mesh-wide settings. Durations are seconds."""

    root_namespace: str = "istio-system"
    trust_domain: str = "cluster.local"
    trust_domain_aliases: tuple[str, ...] = ()
    domain: str = "cluster.local"
    registry_only: bool = False
    """outboundTrafficPolicy: REGISTRY_ONLY instead of ALLOW_ANY."""
    auto_mtls: bool = True
    connect_timeout: float = 10.0
    access_log: str = ""
    access_log_format: str = ""
    access_log_json: bool = False
    dns_refresh: float = 60.0
    protocol_detection_timeout: float = 0.0
    """How long a listener waits for the first bytes of an AUTO port; 0 means for ever."""
    path_normalization: NormalizationType = NormalizationType.DEFAULT
    upgrade_to_http2: bool = False
    default_retries: HTTPRetry | None = None
    default_pool: ConnectionPoolSettings | None = None
    default_outlier_detection: OutlierDetection | None = None
    tcp_keepalive: TcpKeepalive | None = None
    export_services_to: tuple[str, ...] = ("*",)
    export_routes_to: tuple[str, ...] = ("*",)
    export_destinations_to: tuple[str, ...] = ("*",)

    @property
    def trust_domains(self) -> tuple[str, ...]:
        """The mesh's own trust domain first, then its aliases."""
        return (self.trust_domain, *(alias for alias in self.trust_domain_aliases if alias != self.trust_domain))


def build_settings(mesh: MeshConfig) -> MeshSettings:
    """The settings that a MeshConfig makes."""
    detection = mesh.protocol_detection_timeout
    traffic = mesh.default_traffic_policy
    return MeshSettings(
        root_namespace=mesh.root_namespace,
        trust_domain=mesh.trust_domain,
        trust_domain_aliases=mesh.trust_domain_aliases,
        registry_only=mesh.outbound_traffic_policy.mode is OutboundTrafficPolicyMode.REGISTRY_ONLY,
        auto_mtls=mesh.enable_auto_mtls,
        connect_timeout=mesh.connect_timeout.total_seconds(),
        access_log=mesh.access_log_file,
        access_log_format=mesh.access_log_format,
        access_log_json=mesh.access_log_encoding == "JSON",
        dns_refresh=mesh.dns_refresh_rate.total_seconds(),
        protocol_detection_timeout=detection.total_seconds() if detection else 0.0,
        path_normalization=mesh.path_normalization.normalization
        if mesh.path_normalization
        else NormalizationType.DEFAULT,
        upgrade_to_http2=mesh.h2_upgrade_policy is MeshH2UpgradePolicy.UPGRADE,
        default_retries=mesh.default_http_retry_policy,
        default_pool=traffic.connection_pool if traffic else None,
        default_outlier_detection=traffic.outlier_detection if traffic else None,
        tcp_keepalive=mesh.tcp_keepalive,
        export_services_to=mesh.default_service_export_to,
        export_routes_to=mesh.default_virtual_service_export_to,
        export_destinations_to=mesh.default_destination_rule_export_to,
    )
