"""Everything that users configured, as one value.

Invariant: a Config depends on what the documents say and on nothing else: not on the order of files, nor on comments,
layout or line numbers. Where a resource was written is the business of `api.load`'s index.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gossamer.api.authorization_policy import AuthorizationPolicy
from gossamer.api.destination_rule import DestinationRule
from gossamer.api.envoy_filter import EnvoyFilter
from gossamer.api.gateway import Gateway
from gossamer.api.gateway_api.gateway import KubernetesGateway
from gossamer.api.gateway_api.gateway_class import GatewayClass
from gossamer.api.gateway_api.http_route import HTTPRoute
from gossamer.api.gateway_api.reference_grant import ReferenceGrant
from gossamer.api.health_check import HealthCheck
from gossamer.api.ingress import Ingress, IngressClass
from gossamer.api.kubernetes import ConfigMap, Deployment, EndpointSlice, Namespace, Secret, Service, ServiceAccount
from gossamer.api.mesh_config import MeshConfig
from gossamer.api.peer_authentication import PeerAuthentication
from gossamer.api.request_authentication import RequestAuthentication
from gossamer.api.resource import Resource
from gossamer.api.service_entry import ServiceEntry, WorkloadEntry
from gossamer.api.sidecar import Sidecar
from gossamer.api.telemetry import Telemetry
from gossamer.api.traffic_extension import TrafficExtension
from gossamer.api.virtual_service import VirtualService
from gossamer.api.wasm_plugin import WasmPlugin
from gossamer.api.workload_group import WorkloadGroup
from gossamer.api.workload_proxy_config import WorkloadProxyConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The resources of each kind, sorted by namespace and name; every one is valid or fails closed.

    A policy whose author's spec was invalid, or has a part that is not acted on yet, stands among
    `authorization_policies` with `fail_closed` set and a spec that denies what it selects; a RequestAuthentication too.
    """

    mesh: MeshConfig = field(default_factory=MeshConfig)
    virtual_services: tuple[Resource[VirtualService], ...] = ()
    destination_rules: tuple[Resource[DestinationRule], ...] = ()
    gateways: tuple[Resource[Gateway], ...] = ()
    service_entries: tuple[Resource[ServiceEntry], ...] = ()
    workload_entries: tuple[Resource[WorkloadEntry], ...] = ()
    workload_groups: tuple[Resource[WorkloadGroup], ...] = ()
    sidecars: tuple[Resource[Sidecar], ...] = ()
    envoy_filters: tuple[Resource[EnvoyFilter], ...] = ()
    proxy_configs: tuple[Resource[WorkloadProxyConfig], ...] = ()
    authorization_policies: tuple[Resource[AuthorizationPolicy], ...] = ()
    peer_authentications: tuple[Resource[PeerAuthentication], ...] = ()
    request_authentications: tuple[Resource[RequestAuthentication], ...] = ()
    telemetries: tuple[Resource[Telemetry], ...] = ()
    wasm_plugins: tuple[Resource[WasmPlugin], ...] = ()
    traffic_extensions: tuple[Resource[TrafficExtension], ...] = ()
    health_checks: tuple[Resource[HealthCheck], ...] = ()
    http_routes: tuple[Resource[HTTPRoute], ...] = ()
    k8s_gateways: tuple[Resource[KubernetesGateway], ...] = ()
    gateway_classes: tuple[Resource[GatewayClass], ...] = ()
    reference_grants: tuple[Resource[ReferenceGrant], ...] = ()
    ingresses: tuple[Resource[Ingress], ...] = ()
    ingress_classes: tuple[Resource[IngressClass], ...] = ()
    services: tuple[Resource[Service], ...] = ()
    endpoint_slices: tuple[Resource[EndpointSlice], ...] = ()
    namespaces: tuple[Resource[Namespace], ...] = ()
    service_accounts: tuple[Resource[ServiceAccount], ...] = ()
    secrets: tuple[Resource[Secret], ...] = ()
    config_maps: tuple[Resource[ConfigMap], ...] = ()
    deployments: tuple[Resource[Deployment], ...] = ()
