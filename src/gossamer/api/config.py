"""Everything that users configured, as one value.

Invariant: a Config depends on what the documents say and on nothing else: not on the order of files, nor on comments,
layout or line numbers. Where a resource was written is the business of `api.load`'s index.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gossamer.api.authorization_policy import AuthorizationPolicy
from gossamer.api.destination_rule import DestinationRule
from gossamer.api.gateway import Gateway
from gossamer.api.kubernetes import Deployment, EndpointSlice, Namespace, Secret, Service, ServiceAccount
from gossamer.api.mesh_config import MeshConfig
from gossamer.api.peer_authentication import PeerAuthentication
from gossamer.api.resource import Resource
from gossamer.api.service_entry import ServiceEntry, WorkloadEntry
from gossamer.api.virtual_service import VirtualService


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The resources of each kind, sorted by namespace and name; every one is valid or fails closed.

    A policy whose author's spec was invalid, or that came as a kind not supported yet (RequestAuthentication), stands
    among `authorization_policies` with `fail_closed` set and a spec that denies what it selects.
    """

    mesh: MeshConfig = field(default_factory=MeshConfig)
    virtual_services: tuple[Resource[VirtualService], ...] = ()
    destination_rules: tuple[Resource[DestinationRule], ...] = ()
    gateways: tuple[Resource[Gateway], ...] = ()
    service_entries: tuple[Resource[ServiceEntry], ...] = ()
    workload_entries: tuple[Resource[WorkloadEntry], ...] = ()
    authorization_policies: tuple[Resource[AuthorizationPolicy], ...] = ()
    peer_authentications: tuple[Resource[PeerAuthentication], ...] = ()
    services: tuple[Resource[Service], ...] = ()
    endpoint_slices: tuple[Resource[EndpointSlice], ...] = ()
    namespaces: tuple[Resource[Namespace], ...] = ()
    service_accounts: tuple[Resource[ServiceAccount], ...] = ()
    secrets: tuple[Resource[Secret], ...] = ()
    deployments: tuple[Resource[Deployment], ...] = ()
