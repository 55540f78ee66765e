"""EnvoyFilter: changes to what the proxies of some workloads are told.

Invariant: every field of Istio's API is here, under its JSON name in snake_case; nothing is interpreted. A patch's
value is kept as JSON.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gossamer.api.common import STRICT, Int32, JsonText, PolicyTargetReference, StrMap, UInt32
from gossamer.api.service_entry import WorkloadSelector
from gossamer.core.frozen import EMPTY


class ApplyTo(StrEnum):
    INVALID = "INVALID"
    LISTENER = "LISTENER"
    FILTER_CHAIN = "FILTER_CHAIN"
    NETWORK_FILTER = "NETWORK_FILTER"
    HTTP_FILTER = "HTTP_FILTER"
    ROUTE_CONFIGURATION = "ROUTE_CONFIGURATION"
    VIRTUAL_HOST = "VIRTUAL_HOST"
    HTTP_ROUTE = "HTTP_ROUTE"
    CLUSTER = "CLUSTER"
    EXTENSION_CONFIG = "EXTENSION_CONFIG"
    BOOTSTRAP = "BOOTSTRAP"
    LISTENER_FILTER = "LISTENER_FILTER"


class PatchContext(StrEnum):
    ANY = "ANY"
    SIDECAR_INBOUND = "SIDECAR_INBOUND"
    SIDECAR_OUTBOUND = "SIDECAR_OUTBOUND"
    GATEWAY = "GATEWAY"
    WAYPOINT = "WAYPOINT"


class RouteAction(StrEnum):
    ANY = "ANY"
    ROUTE = "ROUTE"
    REDIRECT = "REDIRECT"
    DIRECT_RESPONSE = "DIRECT_RESPONSE"


class Operation(StrEnum):
    INVALID = "INVALID"
    MERGE = "MERGE"
    ADD = "ADD"
    REMOVE = "REMOVE"
    INSERT_BEFORE = "INSERT_BEFORE"
    INSERT_AFTER = "INSERT_AFTER"
    INSERT_FIRST = "INSERT_FIRST"
    REPLACE = "REPLACE"
    MERGE_AND_REPLACE_LIST = "MERGE_AND_REPLACE_LIST"


class FilterClass(StrEnum):
    UNSPECIFIED = "UNSPECIFIED"
    AUTHN = "AUTHN"
    AUTHZ = "AUTHZ"
    STATS = "STATS"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvoyFilter:
    """`EnvoyFilter`."""

    __pydantic_config__ = STRICT
    workload_selector: WorkloadSelector | None = None
    target_refs: tuple[PolicyTargetReference, ...] = ()
    config_patches: tuple[EnvoyConfigObjectPatch, ...] = ()
    priority: Int32 = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvoyConfigObjectPatch:
    """`EnvoyFilter.configPatches[]`."""

    apply_to: ApplyTo = ApplyTo.INVALID
    match: EnvoyConfigObjectMatch | None = None
    patch: Patch | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvoyConfigObjectMatch:
    """`EnvoyFilter.configPatches[].match`."""

    context: PatchContext = PatchContext.ANY
    proxy: ProxyMatch | None = None
    listener: ListenerMatch | None = None
    route_configuration: RouteConfigurationMatch | None = None
    cluster: ClusterMatch | None = None
    waypoint: WaypointMatch | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyMatch:
    """`EnvoyFilter.configPatches[].match.proxy`."""

    proxy_version: str = ""
    metadata: StrMap = EMPTY


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerMatch:
    """`EnvoyFilter.configPatches[].match.listener`."""

    port_number: UInt32 = 0
    port_name: str = ""
    filter_chain: FilterChainMatch | None = None
    listener_filter: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterChainMatch:
    """`EnvoyFilter.configPatches[].match.listener.filterChain`."""

    name: str = ""
    sni: str = ""
    transport_protocol: str = ""
    application_protocols: str = ""
    filter: FilterMatch | None = None
    destination_port: UInt32 = 0
    transport_socket: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterMatch:
    """`EnvoyFilter.configPatches[].match.listener.filterChain.filter`."""

    name: str = ""
    sub_filter: SubFilterMatch | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubFilterMatch:
    """`EnvoyFilter.configPatches[].match.listener.filterChain.filter.subFilter`."""

    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteConfigurationMatch:
    """`EnvoyFilter.configPatches[].match.routeConfiguration`."""

    port_number: UInt32 = 0
    port_name: str = ""
    gateway: str = ""
    vhost: VirtualHostMatch | None = None
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualHostMatch:
    """`EnvoyFilter.configPatches[].match.routeConfiguration.vhost`."""

    name: str = ""
    domain_name: str = ""
    route: RouteMatch | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteMatch:
    """`EnvoyFilter.configPatches[].match.routeConfiguration.vhost.route`."""

    name: str = ""
    action: RouteAction = RouteAction.ANY


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterMatch:
    """`EnvoyFilter.configPatches[].match.cluster`."""

    port_number: UInt32 = 0
    service: str = ""
    subset: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaypointMatch:
    """`EnvoyFilter.configPatches[].match.waypoint`."""

    port_number: UInt32 = 0
    route: WaypointRouteMatch | None = None
    filter: FilterMatch | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WaypointRouteMatch:
    """`EnvoyFilter.configPatches[].match.waypoint.route`."""

    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """`EnvoyFilter.configPatches[].patch`; `value` is JSON text."""

    operation: Operation = Operation.INVALID
    value: JsonText | None = None
    filter_class: FilterClass = FilterClass.UNSPECIFIED
