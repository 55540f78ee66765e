"""The kinds that are read, and those that are known but not.

Invariant: a kind is read by exactly one entry of `KINDS`, and whoever writes any other is told so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from gossamer.api.authorization_policy import AuthorizationPolicy
from gossamer.api.destination_rule import DestinationRule
from gossamer.api.envoy_filter import EnvoyFilter
from gossamer.api.findings import At
from gossamer.api.gateway import Gateway
from gossamer.api.gateway_api.common import GATEWAY_API
from gossamer.api.gateway_api.gateway import KubernetesGateway
from gossamer.api.gateway_api.gateway_class import GatewayClass
from gossamer.api.gateway_api.http_route import HTTPRoute
from gossamer.api.gateway_api.reference_grant import ReferenceGrant
from gossamer.api.health_check import GROUP, HealthCheck
from gossamer.api.ingress import Ingress, IngressClass
from gossamer.api.kubernetes import ConfigMap, Deployment, EndpointSlice, Namespace, Secret, Service, ServiceAccount
from gossamer.api.peer_authentication import PeerAuthentication
from gossamer.api.request_authentication import RequestAuthentication
from gossamer.api.resource import Resource
from gossamer.api.rules.destination_rule import check_destination_rule
from gossamer.api.rules.envoy_filter import check_envoy_filter
from gossamer.api.rules.extensions import check_traffic_extension, check_wasm_plugin
from gossamer.api.rules.gateway import check_gateway
from gossamer.api.rules.gateway_api.gateway import check_gateway_class, check_kubernetes_gateway, check_reference_grant
from gossamer.api.rules.gateway_api.http_route import check_http_route
from gossamer.api.rules.health_check import check_health_check
from gossamer.api.rules.ingress import check_ingress, check_ingress_class
from gossamer.api.rules.kubernetes import check_endpoint_slice, check_service, passes
from gossamer.api.rules.proxy_config import check_proxy_config
from gossamer.api.rules.request_authentication import check_request_authentication
from gossamer.api.rules.security import check_authorization_policy, check_peer_authentication
from gossamer.api.rules.services import check_service_entry, check_workload_entry_resource
from gossamer.api.rules.sidecar import check_sidecar
from gossamer.api.rules.telemetry import check_telemetry
from gossamer.api.rules.virtual_service import check_virtual_service
from gossamer.api.rules.workload_group import check_workload_group
from gossamer.api.service_entry import ServiceEntry, WorkloadEntry
from gossamer.api.sidecar import Sidecar
from gossamer.api.telemetry import Telemetry
from gossamer.api.traffic_extension import TrafficExtension
from gossamer.api.virtual_service import VirtualService
from gossamer.api.wasm_plugin import WasmPlugin
from gossamer.api.workload_group import WorkloadGroup
from gossamer.api.workload_proxy_config import WorkloadProxyConfig

Check = Callable[[Resource[Any], Any, At], None]

NETWORKING: Final = "networking.istio.io"
SECURITY: Final = "security.istio.io"
TELEMETRY: Final = "telemetry.istio.io"
EXTENSIONS: Final = "extensions.istio.io"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """How one kind is read.

    `attribute` is its place in Config; `body` the field that holds its spec, empty when the spec's fields stand beside
    `metadata`; `security` says that what is invalid denies instead of keeping its last version.
    """

    name: str
    group: str
    versions: tuple[str, ...]
    attribute: str
    spec: type
    check: Check
    body: str = "spec"
    namespaced: bool = True
    security: bool = False
    needs_spec: bool = False

    @property
    def strict(self) -> bool:
        """Whether unknown fields are refused. Kubernetes' own kinds may carry what means nothing to a mesh."""
        return self.group in ISTIO_GROUPS or self.group in (GATEWAY_API, GROUP)

    @property
    def identity(self) -> str:
        """The kind in the names of its resources, and to people: with its group where another kind has its name."""
        return f"{self.name}.{self.group}" if (self.group, self.name) == (GATEWAY_API, "Gateway") else self.name


ISTIO_GROUPS: Final = (NETWORKING, SECURITY, TELEMETRY, EXTENSIONS)
_V1: Final = ("v1",)
_NETWORKING_VERSIONS: Final = ("v1", "v1beta1", "v1alpha3")
_SECURITY_VERSIONS: Final = ("v1", "v1beta1")


def _networking(attribute: str, spec: type, check: Check, *, needs_spec: bool = False) -> Kind:
    return Kind(
        name=spec.__name__,
        group=NETWORKING,
        versions=_NETWORKING_VERSIONS,
        attribute=attribute,
        spec=spec,
        check=check,
        needs_spec=needs_spec,
    )


def _security(attribute: str, spec: type, check: Check) -> Kind:
    return Kind(
        name=spec.__name__,
        group=SECURITY,
        versions=_SECURITY_VERSIONS,
        attribute=attribute,
        spec=spec,
        check=check,
        security=True,
    )


def _kubernetes(attribute: str, spec: type, check: Check = passes, *, group: str = "", body: str = "spec") -> Kind:
    return Kind(name=spec.__name__, group=group, versions=_V1, attribute=attribute, spec=spec, check=check, body=body)


def _gateway_api(name: str, attribute: str, spec: type, check: Check) -> Kind:
    return Kind(
        name=name,
        group=GATEWAY_API,
        versions=("v1", "v1beta1"),
        attribute=attribute,
        spec=spec,
        check=check,
        needs_spec=name != "HTTPRoute",
    )


_ALL: Final = (
    _networking("virtual_services", VirtualService, check_virtual_service),
    _networking("destination_rules", DestinationRule, check_destination_rule),
    _networking("gateways", Gateway, check_gateway),
    _networking("service_entries", ServiceEntry, check_service_entry, needs_spec=True),
    _networking("workload_entries", WorkloadEntry, check_workload_entry_resource, needs_spec=True),
    _networking("sidecars", Sidecar, check_sidecar),
    _networking("workload_groups", WorkloadGroup, check_workload_group, needs_spec=True),
    replace(_networking("envoy_filters", EnvoyFilter, check_envoy_filter), versions=("v1alpha3",)),
    replace(
        _networking("proxy_configs", WorkloadProxyConfig, check_proxy_config), name="ProxyConfig", versions=("v1beta1",)
    ),
    _security("authorization_policies", AuthorizationPolicy, check_authorization_policy),
    _security("peer_authentications", PeerAuthentication, check_peer_authentication),
    _security("request_authentications", RequestAuthentication, check_request_authentication),
    replace(_networking("telemetries", Telemetry, check_telemetry), group=TELEMETRY, versions=("v1", "v1alpha1")),
    replace(
        _networking("wasm_plugins", WasmPlugin, check_wasm_plugin, needs_spec=True),
        group=EXTENSIONS,
        versions=("v1alpha1",),
    ),
    replace(
        _networking("traffic_extensions", TrafficExtension, check_traffic_extension),
        group=EXTENSIONS,
        versions=("v1alpha1",),
    ),
    replace(_networking("health_checks", HealthCheck, check_health_check, needs_spec=True), group=GROUP, versions=_V1),
    _gateway_api("HTTPRoute", "http_routes", HTTPRoute, check_http_route),
    _gateway_api("Gateway", "k8s_gateways", KubernetesGateway, check_kubernetes_gateway),
    replace(_gateway_api("GatewayClass", "gateway_classes", GatewayClass, check_gateway_class), namespaced=False),
    replace(
        _gateway_api("ReferenceGrant", "reference_grants", ReferenceGrant, check_reference_grant),
        versions=("v1", "v1beta1", "v1alpha2"),
    ),
    _kubernetes("ingresses", Ingress, check_ingress, group="networking.k8s.io"),
    replace(
        _kubernetes("ingress_classes", IngressClass, check_ingress_class, group="networking.k8s.io"), namespaced=False
    ),
    _kubernetes("services", Service, check_service),
    _kubernetes("endpoint_slices", EndpointSlice, check_endpoint_slice, group="discovery.k8s.io", body=""),
    _kubernetes("service_accounts", ServiceAccount, body=""),
    _kubernetes("secrets", Secret, body=""),
    _kubernetes("config_maps", ConfigMap, body=""),
    _kubernetes("deployments", Deployment, group="apps"),
    replace(_kubernetes("namespaces", Namespace), namespaced=False),
)

KINDS: Final[Mapping[tuple[str, str], Kind]] = {(kind.group, kind.name): kind for kind in _ALL}
"""By API group and name."""

UNSUPPORTED_KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "install.istio.io": ("IstioOperator",),
    GATEWAY_API: ("GRPCRoute", "TCPRoute", "TLSRoute", "UDPRoute", "BackendTLSPolicy", "ListenerSet"),
    "": ("Endpoints", "Pod"),
    "apps": ("StatefulSet", "DaemonSet", "ReplicaSet"),
}
"""Kinds that would mean something to the mesh but are not read yet."""

COMPANIONS: Final = frozenset({("", "Endpoints"), ("", "Pod"), *(("apps", name) for name in UNSUPPORTED_KINDS["apps"])})
"""Of these, what stands in most people's files beside what is read: worth a warning, not an error."""

KNOWN_GROUPS: Final = tuple({kind.group for kind in _ALL} | set(UNSUPPORTED_KINDS))
_UNREAD: Final = {name for group in UNSUPPORTED_KINDS.values() for name in group}
KNOWN_NAMES: Final = tuple({kind.name for kind in _ALL} | _UNREAD)
