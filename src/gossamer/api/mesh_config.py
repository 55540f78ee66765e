"""MeshConfig: settings of the whole mesh.

Invariant: every field of Istio's API is here, under its JSON name in snake_case; nothing is interpreted.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from gossamer.api.common import STRICT, Boolean, Duration, Int32, StrMap
from gossamer.api.destination_rule import (
    ClientTLSSettings,
    ConnectionPoolSettings,
    LocalityLoadBalancerSetting,
    OutlierDetection,
    TcpKeepalive,
    ZoneAwareLoadBalancerSetting,
)
from gossamer.api.extension_provider import MeshExtensionProvider
from gossamer.api.proxy_config import ProxyConfig
from gossamer.api.virtual_service import HTTPRetry
from gossamer.core.frozen import EMPTY


class IngressControllerMode(StrEnum):
    UNSPECIFIED = "UNSPECIFIED"
    OFF = "OFF"
    DEFAULT = "DEFAULT"
    STRICT = "STRICT"


class AccessLogEncoding(StrEnum):
    TEXT = "TEXT"
    JSON = "JSON"


class MeshH2UpgradePolicy(StrEnum):
    DO_NOT_UPGRADE = "DO_NOT_UPGRADE"
    UPGRADE = "UPGRADE"


class OutboundTrafficPolicyMode(StrEnum):
    REGISTRY_ONLY = "REGISTRY_ONLY"
    ALLOW_ANY = "ALLOW_ANY"
    ALLOW_ANY_DYNAMIC_DNS = "ALLOW_ANY_DYNAMIC_DNS"


class InboundTrafficPolicyMode(StrEnum):
    PASSTHROUGH = "PASSTHROUGH"
    LOCALHOST = "LOCALHOST"


class ConfigResource(StrEnum):
    SERVICE_REGISTRY = "SERVICE_REGISTRY"


class Scope(StrEnum):
    LOCAL = "LOCAL"
    GLOBAL = "GLOBAL"


class NormalizationType(StrEnum):
    DEFAULT = "DEFAULT"
    NONE = "NONE"
    BASE = "BASE"
    MERGE_SLASHES = "MERGE_SLASHES"
    DECODE_AND_MERGE_SLASHES = "DECODE_AND_MERGE_SLASHES"


class MeshTLSProtocol(StrEnum):
    TLS_AUTO = "TLS_AUTO"
    TLSV1_2 = "TLSV1_2"
    TLSV1_3 = "TLSV1_3"


class Visibility(StrEnum):
    VISIBILITY_UNSPECIFIED = "VISIBILITY_UNSPECIFIED"
    NONE = "NONE"
    NAMESPACE = "NAMESPACE"
    PUBLIC = "PUBLIC"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundTrafficPolicy:
    """`MeshConfig.outboundTrafficPolicy`."""

    mode: OutboundTrafficPolicyMode = OutboundTrafficPolicyMode.REGISTRY_ONLY
    tls: ClientTLSSettings | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshConfig:
    """`MeshConfig`."""

    __pydantic_config__ = STRICT
    proxy_listen_port: Int32 = 15001
    proxy_inbound_listen_port: Int32 = 15006
    proxy_http_port: Int32 = 0
    connect_timeout: Duration = timedelta(seconds=10)
    hbone_idle_timeout: Duration | None = None
    protocol_detection_timeout: Duration | None = None
    tcp_keepalive: TcpKeepalive | None = None
    ingress_class: str = "istio"
    ingress_service: str = "istio-ingressgateway"
    ingress_controller_mode: IngressControllerMode = IngressControllerMode.STRICT
    ingress_selector: str = "ingressgateway"
    enable_tracing: Boolean = True
    access_log_file: str = ""
    access_log_format: str = ""
    access_log_encoding: AccessLogEncoding = AccessLogEncoding.TEXT
    enable_envoy_access_log_service: Boolean = False
    disable_envoy_listener_log: Boolean = False
    default_config: ProxyConfig | None = None
    outbound_traffic_policy: OutboundTrafficPolicy = OutboundTrafficPolicy(mode=OutboundTrafficPolicyMode.ALLOW_ANY)
    inbound_traffic_policy: InboundTrafficPolicy | None = None
    config_sources: tuple[ConfigSource, ...] = ()
    enable_auto_mtls: Boolean = True
    trust_domain: str = "cluster.local"
    trust_domain_aliases: tuple[str, ...] = ()
    ca_certificates: tuple[CertificateData, ...] = ()
    default_service_export_to: tuple[str, ...] = ("*",)
    default_virtual_service_export_to: tuple[str, ...] = ("*",)
    default_destination_rule_export_to: tuple[str, ...] = ("*",)
    root_namespace: str = "istio-system"
    locality_lb_setting: LocalityLoadBalancerSetting | None = None
    zone_aware_lb_setting: ZoneAwareLoadBalancerSetting | None = None
    dns_refresh_rate: Duration = timedelta(seconds=60)
    h2_upgrade_policy: MeshH2UpgradePolicy = MeshH2UpgradePolicy.DO_NOT_UPGRADE
    inbound_cluster_stat_name: str = ""
    outbound_cluster_stat_name: str = ""
    certificates: tuple[Certificate, ...] = ()
    service_settings: tuple[ServiceSettings, ...] = ()
    service_scope_configs: tuple[ServiceScopeConfigs, ...] = ()
    enable_prometheus_merge: Boolean = True
    verify_certificate_at_client: Boolean | None = None
    ca: CA | None = None
    extension_providers: tuple[MeshExtensionProvider, ...] = ()
    default_providers: DefaultProviders | None = None
    discovery_selectors: tuple[LabelSelector, ...] = ()
    path_normalization: ProxyPathNormalization | None = None
    default_http_retry_policy: HTTPRetry | None = None
    mesh_mtls: Annotated[MeshTLSConfig | None, Field(alias="meshMTLS")] = None
    tls_defaults: MeshTLSConfig | None = None
    default_traffic_policy: DefaultTrafficPolicy | None = None
    service_entry_visibility: ServiceEntryVisibility | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundTrafficPolicy:
    """`MeshConfig.inboundTrafficPolicy`."""

    mode: InboundTrafficPolicyMode = InboundTrafficPolicyMode.PASSTHROUGH


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigSource:
    """`MeshConfig.configSources[]`."""

    address: str = ""
    tls_settings: ClientTLSSettings | None = None
    subscribed_resources: tuple[ConfigResource, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateData:
    """`MeshConfig.caCertificates[]`."""

    pem: str | None = None
    spiffe_bundle_url: str | None = None
    cert_signers: tuple[str, ...] = ()
    trust_domains: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """`MeshConfig.certificates[]`."""

    secret_name: str = ""
    dns_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings:
    """`MeshConfig.serviceSettings[]`."""

    settings: Settings | None = None
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`MeshConfig.serviceSettings[].settings`."""

    cluster_local: Boolean = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceScopeConfigs:
    """`MeshConfig.serviceScopeConfigs[]`."""

    namespace_selector: LabelSelector | None = None
    services_selector: LabelSelector | None = None
    scope: Scope = Scope.LOCAL


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSelector:
    """`MeshConfig.serviceScopeConfigs[].namespaceSelector`."""

    match_labels: StrMap = EMPTY
    match_expressions: tuple[LabelSelectorRequirement, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSelectorRequirement:
    """`MeshConfig.serviceScopeConfigs[].namespaceSelector.matchExpressions[]`."""

    key: str = ""
    operator: str = ""
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CA:
    """`MeshConfig.ca`."""

    address: str = ""
    tls_settings: ClientTLSSettings | None = None
    request_timeout: Duration | None = None
    istiod_side: Boolean = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DefaultProviders:
    """`MeshConfig.defaultProviders`."""

    tracing: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    access_logging: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyPathNormalization:
    """`MeshConfig.pathNormalization`."""

    normalization: NormalizationType = NormalizationType.DEFAULT


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshTLSConfig:
    """`MeshConfig.meshMTLS`."""

    min_protocol_version: MeshTLSProtocol = MeshTLSProtocol.TLS_AUTO
    ecdh_curves: tuple[str, ...] = ()
    cipher_suites: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DefaultTrafficPolicy:
    """`MeshConfig.defaultTrafficPolicy`."""

    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceEntryVisibility:
    """`MeshConfig.serviceEntryVisibility`."""

    default_visibility: Visibility = Visibility.VISIBILITY_UNSPECIFIED
    apply_to_sidecars: Boolean = False
    policies: tuple[Policy, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """`MeshConfig.serviceEntryVisibility.policies[]`."""

    visibility: Visibility = Visibility.VISIBILITY_UNSPECIFIED
    matching_rules: tuple[MatchRule, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchRule:
    """`MeshConfig.serviceEntryVisibility.policies[].matchingRules[]`."""

    namespace_selector: LabelSelector | None = None
